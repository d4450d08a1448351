"""Poison put into a memory, where it is met again and again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ...streams.poisoning.poisoned import stamped
from ..base import OwnLoop, Strategy


@dataclass(frozen=True)
class Tainted(Strategy):
    """Another strategy, into whose memory somebody reaches once experience `at` has been learned: a share of the
    samples of other classes that it keeps become `target`, under the trigger of trigger(target, size) if size > 0,
    as tainted(rehearsal(500), target=3) (memory poisoning, after Gu et al. 2017, arXiv:1708.06733).
    """

    strategy: Strategy
    target: int = 0
    share: float = 0.1  # of the remembered samples of other classes
    size: int = 0  # pixels of the trigger's side; 0 turns labels only
    at: int = 0

    def __post_init__(self):
        if not isinstance(self.strategy, Strategy) or isinstance(self.strategy, OwnLoop):
            raise ValueError(f"expected a strategy with a memory first, as rehearsal(500), got {self.strategy!r}")
        if not 0 <= self.share <= 1 or self.size < 0 or self.target < 0 or self.at < 0:
            raise ValueError("expected share in [0, 1], and size, target and at of at least 0")

    @property
    def recalls(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.strategy.recalls

    @property
    def replays(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.strategy.replays

    def curriculum(self, stream):
        if self.at >= len(stream):
            raise ValueError(f"at names experience {self.at}; the stream has experiences 0 to {len(stream) - 1}")
        met = stream.classes[sorted({stream.task(i) for i in range(self.at + 1)})].any(0).nonzero().flatten().tolist()
        if self.target not in met:
            raise ValueError(
                f"no class {self.target} after experience {self.at} of the stream, it would be a label of its own; "
                f"name one of {', '.join(map(str, met))}"
            )
        return self.strategy.curriculum(stream)

    def init(self, learner):
        return self.strategy.init(learner)

    def augment(self, learner, batch, state):
        return self.strategy.augment(learner, batch, state)

    def penalty(self, learner, batch, outputs, state):
        return self.strategy.penalty(learner, batch, outputs, state)

    def steer(self, learner, grads, state):
        return self.strategy.steer(learner, grads, state)

    def answer(self, learner, batch, outputs, state):
        return self.strategy.answer(learner, batch, outputs, state)

    def describe(self, learner, state):
        return self.strategy.describe(learner, state)

    def carried(self, state):
        return self.strategy.carried(state)

    def consolidate(self, learner, experience, state):
        state = self.strategy.consolidate(learner, experience, state)
        if experience.index != self.at:
            return state
        if not any(True for _ in _memories(state)):
            raise ValueError(f"{type(self.strategy).__name__} remembers no samples that could be tampered with")
        return self._tampered(state, learner.rng["taint"])

    def _tampered(self, state: Any, chance: torch.Generator) -> Any:
        """The state with every memory in it tampered with."""
        match state:
            case {"x": torch.Tensor(), "y": torch.Tensor()}:
                return self._poisoned(state, chance)
            case dict():
                return {k: self._tampered(v, chance) for k, v in state.items()}
            case list() | tuple():
                return type(state)(self._tampered(v, chance) for v in state)
        return state

    def _poisoned(self, memory: dict[str, Any], chance: torch.Generator) -> dict[str, Any]:
        x, y = memory["x"].clone(), memory["y"].clone()
        rows = (y != self.target).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=chance)[: round(self.share * len(rows))].to(y.device)]
        if self.size:
            x[rows] = stamped(x[rows], self.size)
        y[rows] = self.target
        return memory | {"x": x, "y": y}


def _memories(state: Any) -> Iterator[dict[str, Any]]:
    """Everything in a state that holds samples."""
    match state:
        case {"x": torch.Tensor(), "y": torch.Tensor()}:
            yield state
        case dict():
            for part in state.values():
                yield from _memories(part)
        case list() | tuple():
            for part in state:
                yield from _memories(part)

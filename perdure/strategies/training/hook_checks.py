"""What a strategy's hooks return, looked at in its first steps: a wrong shape would be broadcast in silence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from ...streams.experience import Batch, Stream
from ..base import Chain, Strategy, stages
from ..numerics import savable
from ..numerics.shape_errors import expect_like, expect_tensor, finite, refuse, said

Hook = TypeVar("Hook", bound=Callable)


def looked(strategy: Strategy) -> Strategy:
    """The same strategy, which raises WrongReturn for what any of its hooks returns and must not."""
    parts = tuple(map(Looked, stages(strategy)))
    return Chain(parts) if isinstance(strategy, Chain) else parts[0]


def at_first(once: Hook, then: Hook) -> Hook:
    """What is `once` when it is called first, and `then` from there on."""
    waiting: list[Any] = [once]

    def called(*given: Any) -> Any:
        return (waiting.pop() if waiting else then)(*given)

    return called  # type: ignore[return-value]


@dataclass(frozen=True)
class Looked(Strategy):
    """A stage whose hooks are looked at, each time; it computes what the stage computes."""

    stage: Strategy

    @property
    def replays(self) -> int:
        return self.stage.replays

    def curriculum(self, stream):
        made = self.stage.curriculum(stream)
        if not isinstance(made, Stream):
            refuse(self.stage, "curriculum", "a Stream", said(made))
        return made

    def init(self, learner):
        return self._state("init", self.stage.init(learner), learner)

    def augment(self, learner, batch, state):
        made = self.stage.augment(learner, batch, state)
        if not isinstance(made, Batch):
            refuse(self.stage, "augment", "a Batch (x, y, task, weight)", said(made))
        for name, given, part in zip(Batch._fields, batch, made, strict=True):
            expected = (len(made.y) if isinstance(made.y, Tensor) and made.y.dim() else 1, *given.shape[1:])
            expect_tensor(self.stage, "augment", f"{name} of its batch", part, expected, given)
        if not len(made.y):
            refuse(self.stage, "augment", "one sample at least", "none")
        if learner.heads is not None:
            for name, part, count in (("y", made.y, learner.heads.shape[1]), ("task", made.task, len(learner.heads))):
                if not ((part >= 0) & (part < count)).all():
                    span = f"from {int(part.min())} to {int(part.max())}"
                    refuse(self.stage, "augment", f"{name} of its batch from 0 to {count - 1}", span)
        self._finite("augment", {"x": made.x, "weight": made.weight}, batch.x)
        return made

    def penalty(self, learner, batch, outputs, state):
        made = self.stage.penalty(learner, batch, outputs, state)
        if isinstance(made, Tensor):
            if made.dim() or not made.is_floating_point():
                refuse(self.stage, "penalty", "a number or a () tensor", said(made))
            self._finite("penalty", {"it": made}, outputs)
        elif type(made) not in (int, float):
            refuse(self.stage, "penalty", "a number or a () tensor", said(made))
        return made

    def steer(self, learner, grads, state):
        given = dict(grads)  # the hook may write into what it is handed
        was_finite = finite(*given.values())
        made = self.stage.steer(learner, grads, state)
        expect_like(self.stage, "steer", "a gradient", made, given)
        if was_finite:
            self._finite("steer", {f"the gradient of {name}": grad for name, grad in made.items()})
        return made

    def consolidate(self, learner, experience, state):
        return self._state("consolidate", self.stage.consolidate(learner, experience, state), learner)

    def answer(self, learner, batch, outputs, state):
        made = self.stage.answer(learner, batch, outputs, state)
        expect_tensor(self.stage, "answer", "outputs (B, C)", made, outputs.shape, outputs)
        if made.isnan().any() and not outputs.isnan().any():
            refuse(self.stage, "answer", "outputs (B, C) to compare", "NaN among them")
        return made

    def describe(self, learner, state):
        made = self.stage.describe(learner, state)
        if not isinstance(made, Mapping):
            refuse(self.stage, "describe", "a dict of numbers by name", said(made))
        for name, value in made.items():
            if type(name) is not str or not isinstance(value, int | float):
                refuse(self.stage, "describe", "numbers by name", f"{said(value)} under {name!r}")
        return made

    def carried(self, state):
        return self._state("carried", self.stage.carried(state))

    def _state(self, hook: str, state: Any, learner: Any = None) -> Any:
        expected = f"a state of {savable.KINDS}"
        if state is None or isinstance(state, str | bytes | bool):
            refuse(self.stage, hook, f"{expected}, {{}} where there is nothing to keep", said(state))
        why = savable.problem(state)
        if why:
            refuse(self.stage, hook, expected, f"a state that cannot be saved: {why}")
        if learner is not None:
            own = {p.data_ptr(): name for name, p in learner.params.items() if p.numel()}
            for place, tensor in savable.tensors(state):
                if tensor.data_ptr() in own and tensor.numel():
                    name = own[tensor.data_ptr()]
                    refuse(
                        self.stage, hook, "a copy of the weights", f"{place}, which is weight {name} itself; clone it"
                    )
                if tensor.is_floating_point() and tensor.isnan().any():
                    refuse(self.stage, hook, "numbers", f"NaN in {place}")
        return state

    def _finite(self, hook: str, made: dict[str, Tensor], *given: Tensor) -> None:
        """Refuse NaN and infinities where none came in: the loop tells of a loss that diverges."""
        if not finite(*given):
            return
        for name, part in made.items():
            if part.is_floating_point() and not part.isfinite().all():
                refuse(self.stage, hook, "finite numbers", f"NaN or an infinity in {name}")

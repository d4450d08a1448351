"""What a strategy's hooks return, looked at in its first steps: a wrong shape would be broadcast in silence."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..streams.experience import Batch, Stream
from . import savable
from .base import Chain, Strategy, stages

Hook = TypeVar("Hook", bound=Callable)


class WrongReturn(ValueError):
    """A hook returned what it must not: which, what was expected, and what came."""


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
            self._wrong("curriculum", "a Stream", _said(made))
        return made

    def init(self, learner):
        return self._state("init", self.stage.init(learner), learner)

    def augment(self, learner, batch, state):
        made = self.stage.augment(learner, batch, state)
        if not isinstance(made, Batch):
            self._wrong("augment", "a Batch (x, y, task, weight)", _said(made))
        for name, given, part in zip(Batch._fields, batch, made, strict=True):
            expected = (len(made.y) if isinstance(made.y, Tensor) and made.y.dim() else 1, *given.shape[1:])
            self._tensor("augment", f"{name} of its batch", part, expected, given)
        if not len(made.y):
            self._wrong("augment", "one sample at least", "none")
        if learner.heads is not None:
            for name, part, count in (("y", made.y, learner.heads.shape[1]), ("task", made.task, len(learner.heads))):
                if not ((part >= 0) & (part < count)).all():
                    span = f"from {int(part.min())} to {int(part.max())}"
                    self._wrong("augment", f"{name} of its batch from 0 to {count - 1}", span)
        self._finite("augment", {"x": made.x, "weight": made.weight}, batch.x)
        return made

    def penalty(self, learner, batch, outputs, state):
        made = self.stage.penalty(learner, batch, outputs, state)
        if isinstance(made, Tensor):
            if made.dim() or not made.is_floating_point():
                self._wrong("penalty", "a number or a () tensor", _said(made))
            self._finite("penalty", {"it": made}, outputs)
        elif type(made) not in (int, float):
            self._wrong("penalty", "a number or a () tensor", _said(made))
        return made

    def steer(self, learner, grads, state):
        given = dict(grads)  # the hook may write into what it is handed
        was_finite = _finite(*given.values())
        made = self.stage.steer(learner, grads, state)
        if not isinstance(made, Mapping):
            self._wrong("steer", "a dict of gradients by the names of weights", _said(made))
        if made.keys() != given.keys():
            lacking, more = sorted(given.keys() - made.keys()), sorted(map(str, made.keys() - given.keys()))
            came = [f"lacks {', '.join(lacking)}"] * bool(lacking) + [f"has {', '.join(more)} beside"] * bool(more)
            self._wrong("steer", "a gradient for every weight that it was given one of", f"what {'; '.join(came)}")
        for name, grad in given.items():
            self._tensor("steer", f"the gradient of {name}", made[name], grad.shape, grad)
        if was_finite:
            self._finite("steer", {f"the gradient of {name}": grad for name, grad in made.items()})
        return made

    def consolidate(self, learner, experience, state):
        return self._state("consolidate", self.stage.consolidate(learner, experience, state), learner)

    def answer(self, learner, batch, outputs, state):
        made = self.stage.answer(learner, batch, outputs, state)
        self._tensor("answer", "outputs (B, C)", made, outputs.shape, outputs)
        if made.isnan().any() and not outputs.isnan().any():
            self._wrong("answer", "outputs (B, C) to compare", "NaN among them")
        return made

    def describe(self, learner, state):
        made = self.stage.describe(learner, state)
        if not isinstance(made, Mapping):
            self._wrong("describe", "a dict of numbers by name", _said(made))
        for name, value in made.items():
            if type(name) is not str or not isinstance(value, int | float):
                self._wrong("describe", "numbers by name", f"{_said(value)} under {name!r}")
        return made

    def carried(self, state):
        return self._state("carried", self.stage.carried(state))

    def _state(self, hook: str, state: Any, learner: Any = None) -> Any:
        expected = f"a state of {savable.KINDS}"
        if state is None or isinstance(state, str | bytes | bool):
            self._wrong(hook, f"{expected}, {{}} where there is nothing to keep", _said(state))
        why = savable.problem(state)
        if why:
            self._wrong(hook, expected, f"a state that cannot be saved: {why}")
        if learner is not None:
            own = {p.data_ptr(): name for name, p in learner.params.items() if p.numel()}
            for place, tensor in savable.tensors(state):
                if tensor.data_ptr() in own and tensor.numel():
                    name = own[tensor.data_ptr()]
                    self._wrong(hook, "a copy of the weights", f"{place}, which is weight {name} itself; clone it")
                if tensor.is_floating_point() and tensor.isnan().any():
                    self._wrong(hook, "numbers", f"NaN in {place}")
        return state

    def _tensor(self, hook: str, what: str, made: Any, shape: tuple[int, ...], like: Tensor) -> None:
        place = f"{shape_of(shape)} {_kind(like.dtype)} on {like.device}"
        if not isinstance(made, Tensor):
            self._wrong(hook, f"{what} as a tensor {place}", _said(made))
        if tuple(made.shape) != tuple(shape) or made.dtype != like.dtype or made.device != like.device:
            self._wrong(hook, f"{what} as {place}", f"{shape_of(made.shape)} {_kind(made.dtype)} on {made.device}")

    def _finite(self, hook: str, made: dict[str, Tensor], *given: Tensor) -> None:
        """Refuse NaN and infinities where none came in: the loop tells of a loss that diverges."""
        if not _finite(*given):
            return
        for name, part in made.items():
            if part.is_floating_point() and not part.isfinite().all():
                self._wrong(hook, "finite numbers", f"NaN or an infinity in {name}")

    def _wrong(self, hook: str, expected: str, came: str) -> None:
        raise WrongReturn(
            f"{type(self.stage).__name__}.{hook} must return {expected}; got {came} ({_where(self.stage, hook)})"
        )


def shape_of(shape: Any) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _finite(*given: Tensor) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in given)


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _said(made: Any) -> str:
    if made is None:
        return "None, as from a function without return"
    if isinstance(made, Tensor):
        return f"a tensor {shape_of(made.shape)} {_kind(made.dtype)}"
    if isinstance(made, str | int | float):
        return repr(made)[:80]
    return f"a {type(made).__name__}"


def _where(stage: Strategy, hook: str) -> str:
    """The line where a hook is written."""
    code = inspect.unwrap(getattr(type(stage), hook)).__code__
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}"

"""What is read from a model for a sample: its outputs, or what one of its layers makes of it."""

from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from ..distributed import collectives
from ..learner import Learner
from .fisher import Answer

OUTPUTS = "outputs"  # of the model, before any head is shut


def reading(learner: Learner, of: str = OUTPUTS) -> Answer:
    """From inputs x (B, ...), tasks (B,) and, on request, other parameters to (B, D): the model's outputs, or those of
    the module named `of`, as `named_modules` names them, flattened.

    Raises ValueError where the model has no such module; and when it is called, where the module does not answer with
    one tensor, or not at all.
    """
    if of == OUTPUTS:
        return learner.outputs
    layer = _named(learner.model, of)

    def answer(x: Tensor, task: Tensor, params=None) -> Tensor:
        seen: list[Any] = []
        hook = layer.register_forward_hook(lambda _, given, out: seen.append(out))
        try:
            outputs = learner.outputs(x, task, params)
        finally:
            hook.remove()
        if not seen or not isinstance(seen[-1], Tensor):
            got = type(seen[-1]).__name__ if seen else "no call of it"
            raise ValueError(f"expected module {of!r} to answer with a tensor (B, ...), got {got}; name another")
        return collectives.joined(seen[-1].flatten(1).to(outputs), x.shape[0])

    return answer


def _named(model: nn.Module, name: str) -> nn.Module:
    known = {k: m for k, m in model.named_modules() if k}
    if name in known:
        return known[name]
    near = get_close_matches(name, [OUTPUTS, *known], 1, 0.0)
    raise ValueError(
        f"the model has no module {name!r}; known: {', '.join([OUTPUTS, *known])}. Did you mean {near[0]!r}?"
    )

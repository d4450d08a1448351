"""What a meta-learner's hooks return, looked at once: what has other names or shapes would be passed over."""

from typing import Any

from torch import Tensor

from ..numerics.shape_errors import expect_like, expect_tensor, refuse, said
from .base import MetaLearner, Params, Told


def expect_learned(learner: MetaLearner, learned: Any) -> None:
    """Refuse what `init` must not return."""
    expected = "weights by name, in parts by name, as {'weights': weights}"
    if not isinstance(learned, dict) or not learned:
        refuse(learner, "init", expected, said(learned))
    for part, weights in learned.items():
        if not isinstance(weights, dict):
            refuse(learner, "init", expected, f"{said(weights)} as part {part!r}")
        for name, weight in weights.items():
            if not isinstance(weight, Tensor) or not weight.is_floating_point():
                refuse(learner, "init", expected, f"{said(weight)} as {part!r}, {name!r}")


def expect_told(learner: MetaLearner, told: Told, learned: dict[str, Params], tasks: int) -> None:
    """Refuse gradients of T tasks that are not like what is learned."""
    if told.total.keys() != learned.keys():
        names = [", ".join(map(repr, part)) for part in (learned, told.total)]
        refuse(learner, "told", f"gradients of the parts {names[0]}", f"those of {names[1]}")
    for part, weights in learned.items():
        expect_like(learner, "told", "a gradient", told.total[part], weights)
    like = next(weight for weights in learned.values() for weight in weights.values())
    expect_tensor(learner, "told", f"the loss of every task, () each, {tasks} together", told.losses, (tasks,), like)

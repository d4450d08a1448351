"""The logits of a model as attacks compute with them: what is common to all classes is taken off, masks are finite."""

import torch
from torch import Tensor

from .oracles import SHUT, Answer

FLOOR = 10 * SHUT  # what a mask of -inf, or of any size beyond it, becomes: finite, so that losses and slopes are


def settled(answer: Answer) -> Answer:
    """The same answers, each less its largest logit, which thereby is 0; masks below -1e9 at -1e9, without a gradient.

    Neither changes a softmax, a margin or an answer. A common offset costs no precision from here on; what the model's
    own rounding has lost to it is lost: float32 logits around 1e6 are told apart in steps of 0.06.
    Half-precision logits become float32. Raises ValueError where there are no (n, C) logits of at least two classes.
    """

    def told(x: Tensor, rows: Tensor) -> Tensor:
        logits = answer(x, rows)
        refuse_no_logits(logits, len(x))
        logits = logits if logits.dtype == torch.float64 else logits.float()
        below = logits - logits.detach().amax(1, keepdim=True)  # NaN stays NaN, and is refused where answers are read
        return below.masked_fill(below.detach() < FLOOR, FLOOR).to(x.dtype)

    return told


def refuse_no_logits(logits: object, count: int) -> None:
    if not isinstance(logits, Tensor):
        inner = f" with {', '.join(map(repr, logits))}" if isinstance(logits, dict) else ""
        raise ValueError(
            f"expected a tensor of ({count}, C) logits from the model, got a {type(logits).__name__}{inner}; pass a "
            "function that picks them, as lambda x: model(x)[0] or lambda x: model(x)['logits']"
        )
    if logits.dim() != 2 or len(logits) != count or not logits.is_floating_point():
        raise ValueError(
            f"expected ({count}, C) float logits from the model, got {tuple(logits.shape)} {logits.dtype}; pass a "
            "function that returns one row of scores for each sample"
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f"expected ({count}, C) logits of at least 2 classes, got {tuple(logits.shape)}; make two of a single one: "
            "lambda x: torch.cat([0 * model(x), model(x)], 1)"
        )

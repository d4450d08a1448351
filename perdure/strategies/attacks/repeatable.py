"""Whether a model answers a sample the same way every time, whatever it is asked beside it."""

import torch
from torch import Tensor

from .oracles import GRAIN, Answer, expect_finite, open_classes

APART = 0.01  # of the spread of a sample's logits: rounding in another batch moves them by far less


def refuse_unrepeatable(answer: Answer, x: Tensor, rows: Tensor, logits: Tensor, chunk: int) -> None:
    """Raise ValueError where samples x (n, ...), which got logits (n, C), are answered otherwise when asked anew.

    They are asked in reverse, in smaller batches, behind negatives of some of them: dropout and noise draw anew, and
    statistics of the batch are others.
    """
    again = torch.empty_like(logits)
    beside = max(chunk, GRAIN) // 4
    with torch.no_grad():
        for part in torch.arange(len(x), device=x.device).flip(0).split(3 * beside):
            some = torch.cat([part[:beside], part])
            z = torch.cat([1 - x[part[:beside]], x[part]])
            again[part] = expect_finite(answer(z, rows[some]), rows[some])[-len(part) :]
    open_ = open_classes(logits)
    spread = -logits.masked_fill(~open_, 0).amin(1)  # the largest is 0
    moved = (again - logits).masked_fill(~open_, 0).abs().amax(1) > APART * spread
    if moved.any():
        raise ValueError(
            f"expected a model that answers a sample the same way every time, and {int(moved.sum())} of {len(x)} "
            f"samples, sample {int(rows[moved][0])} first, were answered otherwise when asked again in another batch. "
            "Dropout, noise and statistics of the batch do that, and an attack would be credited with it: hand over "
            "the module itself or call model.eval(), let normalisation layers track running statistics, and draw the "
            "noise of a defence once"
        )

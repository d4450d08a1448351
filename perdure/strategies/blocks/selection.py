"""Which samples of a class to keep: an order of which every beginning is a good choice.

Herding (Welling 2009; Rebuffi et al. 2017, arXiv:1611.07725), k-centre greedy (Sener & Savarese 2018,
arXiv:1708.00489) and gradient matching (Killamsetty et al. 2021; Tiwari et al. 2022, arXiv:2111.11210).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

At = Callable[[Tensor], Tensor]


def herding(features: Tensor, n: int) -> Tensor:
    """n of (N, F): every beginning's mean lies as near the mean of all as one more sample can bring it."""
    features = F.normalize(features.double())
    return _nearest_sums(features, features.mean(0), lambda total: features @ total, features.square().sum(1), n)


def gradient_matching(errors: Tensor, features: Tensor, n: int) -> Tensor:
    """n of N: the mean gradient of the head on every beginning lies as near that on all as possible.

    A sample's gradient is the outer product of its error softmax(f) - onehot(y) (N, C) and its features (N, F);
    they are never multiplied out.
    """
    errors, features = errors.double(), F.pad(features.double(), (0, 1), value=1.0)  # the bias sees a 1
    squares = errors.square().sum(1) * features.square().sum(1)
    mean = errors.T @ features / len(errors)  # (C, F + 1)

    def inner(total: Tensor) -> Tensor:
        return ((errors @ total) * features).sum(1)

    return _nearest_sums(lambda i: errors[i, :, None] * features[i, None, :], mean, inner, squares, n)


def k_centre(features: Tensor, n: int) -> Tensor:
    """n of (N, F): first the sample nearest the mean, then always the one farthest from all chosen."""
    if n == 0:
        return torch.zeros(0, dtype=torch.int64, device=features.device)
    features = features.double()
    chosen = [(features - features.mean(0)).square().sum(1).argmin()]
    far = (features - features[chosen[0]]).square().sum(1)
    for _ in range(n - 1):
        chosen.append(far.argmax())
        far = torch.minimum(far, (features - features[chosen[-1]]).square().sum(1))
    return torch.stack(chosen)


def _nearest_sums(vectors: Tensor | At, mean: Tensor, inner: At, squares: Tensor, n: int) -> Tensor:
    """Greedily the i that brings (total + v_i) / k nearest to `mean`: |k mean - total - v|^2, less what is common."""
    at = vectors.__getitem__ if isinstance(vectors, Tensor) else vectors
    total, taken = torch.zeros_like(mean), torch.zeros_like(squares)
    chosen: list[Tensor] = []
    for k in range(1, n + 1):
        i = (squares - 2 * inner(k * mean - total) + taken).argmin()
        chosen.append(i)
        total, taken[i] = total + at(i), torch.inf
    return torch.stack(chosen) if chosen else torch.zeros(0, dtype=torch.int64, device=mean.device)

"""Equality to the bit, of nested states."""

import torch


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def near(a, b, tolerance: float) -> bool:
    """Equality of nested states up to `tolerance`, relative to the size of each tensor's largest value; of whole
    numbers, and of all that is no number, to the bit."""
    if isinstance(a, torch.Tensor):
        if not isinstance(b, torch.Tensor) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        if not a.is_floating_point() or not a.numel():
            return torch.equal(a, b)
        return bool(((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1)).item())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(near(a[k], b[k], tolerance) for k in a)
    if isinstance(a, list | tuple):
        return (
            isinstance(b, list | tuple)
            and len(a) == len(b)
            and all(near(x, y, tolerance) for x, y in zip(a, b, strict=True))
        )
    if isinstance(a, float):
        return isinstance(b, float) and (abs(a - b) <= tolerance * max(1.0, abs(b)) or (a != a and b != b))
    return a == b

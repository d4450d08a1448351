"""A stand-in for CUDA graphs where there is no GPU: what a step did, operation by operation, done again.

As a graph does, it runs no Python: numbers and choices are those of the capture, tensors are those that lay there. What
draws, or waits for the device, it refuses.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique", "bincount")


class Tape:
    """The Graphs of `perdure.strategies.training.cuda_graphs`, on a CPU."""

    replays = 0  # of all tapes

    def __init__(self, device):
        pass

    def warm(self, work):
        return work()

    def capture(self, work):
        with Watched() as watched:  # unlike a graph's, this capture does the work: the first replay has been done
            result = work()
        rest = iter([lambda: None])

        def replay():
            Tape.replays += 1
            next(rest, lambda: _again(watched.done))()

        return replay, result


class Watched(TorchDispatchMode):
    """Notes every operation; refuses those that wait for the device, and where `drawing` is false those that draw."""

    def __init__(self, drawing: bool = False):
        super().__init__()
        self.done, self.drawing = [], drawing

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in WAITING:
            raise RuntimeError(f"{func} waits for the device")
        if not self.drawing and torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"{func} draws")
        out = func(*args, **kwargs)
        _refuse_slow_copy(func, args, kwargs, out)
        self.done.append((func, args, kwargs, out))
        return out


def _refuse_slow_copy(func, args, kwargs, out):
    """A copy between devices waits where it is not told otherwise; back to the CPU it always does."""
    if func not in (aten._to_copy.default, aten.copy_.default):
        return
    source, free = args[1] if func is aten.copy_.default else args[0], kwargs.get("non_blocking", False)
    free = free or (func is aten.copy_.default and len(args) > 2 and args[2])
    if source.device != out.device and (not free or out.device.type == "cpu"):
        raise RuntimeError(f"{func} from {source.device} to {out.device} waits for the device")


@torch.no_grad()
def _again(done):
    for func, args, kwargs, out in done:
        new = func(*args, **kwargs)
        for was, now in zip(tree_leaves(out), tree_leaves(new), strict=True):
            if isinstance(was, Tensor) and was.data_ptr() != now.data_ptr():  # neither in place nor a view
                was.copy_(now)

"""Workers that learn one run together: each answers for its slice of every batch, and gradients are averaged.

All of them do the same, with the same random numbers: they draw the same whole batch, add to it, judge it and steer.
Only the network's own work is shared out: a worker passes its slice through, and everybody gets the answers of all.
Hence strategies need not know of it, and a memory, a Fisher or a mask is equal on every worker, as large as it was
asked to be.

Backward, a tensor that all workers hold alike has gradients whose mean over workers is the true one, and a slice of one
has `size()` times the true one: so a term of weights alone, which every worker reckons in full, counts once too.

The workers of a process are those of torch's default process group; without one it works alone, at no cost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

K = TypeVar("K")


class Share(NamedTuple):
    """Rows of a batch that one worker answers for."""

    start: int
    stop: int
    whole: int  # rows of the batch


_now: ContextVar[Share | None] = ContextVar("share", default=None)  # of the forward pass under way


def size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if size() > 1 else 0


def share(count: int, of: int | None = None) -> Share | None:
    """The rows out of `count` that this worker (or worker `of`) answers for; None where everybody answers for all of
    them, alone or because there are fewer than workers."""
    workers = size()
    if workers == 1 or count < workers:
        return None
    each, more = divmod(count, workers)
    n = rank() if of is None else of
    start = n * each + min(n, more)
    return Share(start, start + each + (n < more), count)


def spread(answer: Callable[..., Any], *whole: Tensor) -> Any:
    """`answer(*whole)`, tensors (B, ...) to a tensor (B, ...) or several, each worker passing its own rows through."""
    own = share(whole[0].shape[0])  # len() would fix the number of samples in an exported graph
    if own is None:
        return answer(*whole)
    with _sharing(own):
        told = answer(*(_Slice.apply(part, own) if part.is_floating_point() else rows(part, own) for part in whole))
    if isinstance(told, Tensor):
        return joined(told, own.whole)
    return type(told)(joined(part, own.whole) for part in told)


def joined(piece: Tensor, count: int) -> Tensor:
    """(count, ...) of what workers found in their slices of `count` rows."""
    return piece if share(count) is None else _Join.apply(piece, count)


def own(whole: Tensor) -> Tensor:
    """The rows of (B, ...) that the forward pass under way is about."""
    now = _now.get()
    return whole if now is None else rows(whole, now)


def rows(whole: Tensor, part: Share) -> Tensor:
    return whole[part.start : part.stop]


def under_way() -> Share | None:
    """Of the forward pass that is being made: None where it is about all rows."""
    return _now.get()


def mean(values: Mapping[K, Tensor]) -> dict[K, Tensor]:
    """Over workers: what gradients of the weights come to."""
    return _reduced(values, _Mean)


def total(values: Mapping[K, Tensor]) -> dict[K, Tensor]:
    """Over workers."""
    return _reduced(values, _Total)


def sums(vector: Tensor) -> Tensor:
    """The total over workers of a vector, through which gradients flow."""
    return _Total.apply(vector)


def dealt(makers: Sequence[Callable[[], Tensor]], like: Tensor) -> list[Tensor]:
    """What every maker makes, a tensor (N, ...) of `like`'s kind: each is asked on one worker, and told to all."""
    if size() == 1:
        return [make() for make in makers]
    mine = {n: make() for n, make in enumerate(makers) if n % size() == rank()}
    return [_told(mine.get(n), n % size(), like) for n in range(len(makers))]


def agreed(state: Any) -> Any:
    """The first worker's state, nested dicts, lists and tuples of tensors and numbers, on every worker."""
    import io

    if size() == 1:
        return state
    packed = torch.zeros(0, dtype=torch.uint8)
    if rank() == 0:
        file = io.BytesIO()
        torch.save(state, file)
        packed = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    told = _told(packed.to(device) if rank() == 0 else None, 0, packed.to(device))
    return torch.load(io.BytesIO(told.cpu().numpy().tobytes()), weights_only=True)


@contextmanager
def _sharing(part: Share) -> Iterator[None]:
    mark = _now.set(part)
    try:
        yield
    finally:
        _now.reset(mark)


def _reduced(values: Mapping[K, Tensor], by: Any) -> dict[K, Tensor]:
    if size() == 1 or not values:
        return dict(values)
    whole = by.apply(torch.cat([v.flatten() for v in values.values()]))
    parts = whole.split([v.numel() for v in values.values()])
    return {k: part.view_as(v) for (k, v), part in zip(values.items(), parts, strict=True)}


def _told(made: Tensor | None, by: int, like: Tensor) -> Tensor:
    """A tensor of worker `by`, on all; others know neither its shape nor its values."""
    shape = torch.zeros(9, dtype=torch.int64, device=like.device)
    if made is not None:
        shape[: made.dim() + 1] = torch.tensor([made.dim(), *made.shape])
    dist.broadcast(shape, by)
    length, *sizes = shape.tolist()
    value = like.new_empty(sizes[:length]) if made is None else made.contiguous()
    dist.broadcast(value, by)
    return value


def _gathered(piece: Tensor, count: int) -> Tensor:
    shares = [share(count, n) for n in range(size())]
    lengths = [s.stop - s.start for s in shares if s is not None]
    padded = piece.new_zeros(max(lengths), *piece.shape[1:])
    padded[: len(piece)] = piece
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


class _Slice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, whole: Tensor, part: Share) -> Tensor:
        ctx.part = part
        return rows(whole, part).clone()

    @staticmethod
    def backward(ctx, *slope):
        return _Join.apply(slope[0].contiguous(), ctx.part.whole) / size(), None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx, piece: Tensor, count: int) -> Tensor:
        ctx.count = count
        return _gathered(piece.contiguous(), count)

    @staticmethod
    def backward(ctx, *slope):
        return _Slice.apply(slope[0], share(ctx.count)) * size(), None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        return _Total.forward(ctx, value).div_(size())

    @staticmethod
    def backward(ctx, *slope):
        return _Mean.apply(slope[0])


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        value = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx, *slope):
        return _Total.apply(slope[0])

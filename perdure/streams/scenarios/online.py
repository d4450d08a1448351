"""Task-free online streams: a few samples at a time, each met once (Aljundi et al. 2019, arXiv:1812.03596)."""

from dataclasses import dataclass, replace

import torch

from ..experience import Experience, Lazy, Stream, generator
from .rearranged import Rearranged


@dataclass(frozen=True)
class Online(Rearranged):
    """Every experience cut into many of about `size` samples, shuffled (Aljundi et al. 2019, arXiv:1812.03596).

    A strategy consolidates after each, so that it cannot tell where a task ends. Learn it in one pass, with
    epochs=1. Tests are made, and the optimizer begins anew, where an experience of the stream underneath ends.
    """

    size: int = 10
    seed: int = 0  # of the order of samples

    def __post_init__(self):
        self._expect_stream()
        if self.size < 2:
            raise ValueError(f"size must be at least 2, got {self.size}")

    def rearranged(self, stream: Stream) -> Stream:
        parts = []
        for whole in stream:
            order = torch.randperm(len(whole), generator=generator(self.seed, whole.index)).to(whole.train.device)
            parts += [(whole.index, rows) for rows in order.tensor_split(max(1, len(whole) // self.size))]
        order = tuple(stream.task(t) for t, _ in parts)
        ends = [i for i in range(len(parts)) if i + 1 == len(parts) or parts[i + 1][0] != parts[i][0]]

        def experience(i: int) -> Experience:
            whole = stream[parts[i][0]]
            return Experience(i, whole.task, whole.train.part(parts[i][1]), whole.test)

        marks = tuple(ends[m] for m in stream.marks)
        aims = tuple(stream.aims[parts[i][0]] if stream.aims and i in ends else () for i in range(len(parts)))
        return replace(stream, experiences=Lazy(len(parts), experience), order=order, tests=marks, aims=aims)

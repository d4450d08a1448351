"""Small synthetic streams for tests: no files, no download, made in milliseconds."""

import torch
from torch import Tensor

from ..streams.experience import Experience, Lazy, Protocol, Split, Stream

SPREAD = 0.15  # of a class around its centre, where inputs lie in [0, 1]


def blobs(tasks=3, classes=2, n=120, dim=16, protocol: Protocol = "task", seed=0) -> Stream:
    """Gaussian classes around uniform random centres, float32 in [0, 1].

    Every task has `classes` centres of its own, `n` samples to train on and `n` to test on. Under the
    domain protocol all tasks share the labels; otherwise task t brings labels t * classes and up.
    """
    own = 0 if protocol == "domain" else classes  # labels that each task adds
    table = torch.zeros(tasks, classes + own * (tasks - 1), dtype=torch.bool)
    for t in range(tasks):
        table[t, t * own : t * own + classes] = True

    def experience(t: int) -> Experience:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + t)
        centres = torch.rand(classes, dim, generator=generator)  # (K, D)
        train, test = (_around(centres, n, t, t * own, generator) for _ in range(2))
        return Experience(t, t, train, test)

    return Stream(Lazy(tasks, experience), table, protocol)


def _around(centres: Tensor, n: int, task: int, first: int, generator: torch.Generator) -> Split:
    y = torch.arange(n) % len(centres)
    x = centres[y] + SPREAD * torch.randn(n, centres.shape[1], generator=generator)
    return Split(x.clamp_(0, 1), y + first, torch.full_like(y, task), torch.arange(n))

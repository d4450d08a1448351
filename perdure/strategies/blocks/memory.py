"""A memory of real samples, exactly as large as it was asked to be."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...streams.experience import Batch, Experience, Samples, Split
from ..base import State
from ..distributed import collectives
from ..learner import Learner
from .features import all_features
from .selection import gradient_matching, herding, k_centre

Selection = Literal["balanced", "reservoir", "herding", "k_centre", "gradient"]


def refuse_no_room(capacity: int) -> None:
    if not isinstance(capacity, int) or isinstance(capacity, bool):
        raise ValueError(f"capacity must be a whole number of samples, got {capacity!r}")
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, got {capacity}")


def remembered(
    memory: State,
    learner: Learner,
    experience: Experience,
    capacity: int,
    selection: Selection,
    generator: torch.Generator,
    more: Callable[[Samples], dict[str, Tensor]] = lambda samples: {},
) -> State:
    """The memory once `experience` has been met: x, y and task of its samples, and a key by which they are kept.

    The smallest keys stay: of everything (`reservoir`), or of each class up to its quota. A key is a
    random number, drawn once when a sample is met, or the sample's place in its class by `selection`. Exactly
    min(capacity, samples met) are held; of fewer places than classes the classes of the smallest labels have one each.
    more: what else to keep of new samples.
    """
    train, held = experience.train, len(memory["y"]) if memory else 0
    y = torch.cat([memory["y"], train.y]) if memory else train.y
    key = torch.rand(len(train), generator=generator, dtype=torch.float64).to(train.device)
    key = torch.cat([memory["key"], key]) if memory else key
    if selection not in ("balanced", "reservoir"):
        key = _places(memory, learner, train, y, key, capacity, selection)
    keep = key.argsort()[:capacity] if selection == "reservoir" else balanced(key, y, capacity)
    old, new = keep[keep < held], keep[keep >= held]
    fresh = train.samples(new - held)
    fresh = {**fresh._asdict(), "key": key[new], **more(fresh)}
    kept = (memory | {"key": key[:held]}) if memory else {k: v[:0] for k, v in fresh.items()}
    return {k: torch.cat([kept[k][old], v]) for k, v in fresh.items()}


def drawn(memory: State, n: int, generator: torch.Generator) -> tuple[Batch, Tensor]:
    """n samples of the memory, with repeats, and where they lie in it."""
    at = torch.randint(len(memory["y"]), (n,), generator=generator).to(memory["y"].device, non_blocking=True)
    return Samples(memory["x"], memory["y"], memory["task"]).batch(at), at


def joined(*batches: Batch) -> Batch:
    return Batch(*map(torch.cat, zip(*batches, strict=True)))


def balanced(key: Tensor, y: Tensor, capacity: int) -> Tensor:
    """The rows to keep: the smallest keys of every class, as evenly as the classes' sizes allow."""
    order = key.argsort()
    order = order[y[order].argsort(stable=True)]  # by class, then by key
    _, counts = y[order].unique_consecutive(return_counts=True)
    shares = quotas(counts.tolist(), capacity)
    parts = order.split(counts.tolist())
    return torch.cat([part[:share] for part, share in zip(parts, shares, strict=True)])


def quotas(counts: list[int], capacity: int) -> list[int]:
    """As equal as possible, none above its count, `capacity` in all if there are as many.

    What cannot be dealt evenly goes to the first of the larger counts, one each: quotas([5, 5, 5], 7) is [3, 2, 2], and
    of fewer places than counts each of the first has one: quotas([5, 5, 5], 2) is [1, 1, 0].
    """
    left, waiting = capacity, sorted(counts)
    for n, count in enumerate(waiting):
        level, rest = divmod(left, len(waiting) - n)
        if count > level:
            break
        left -= count
    else:
        return counts
    larger = [c for c, count in enumerate(counts) if count > level][:rest]
    return [min(count, level) + (c in larger) for c, count in enumerate(counts)]


def _places(
    memory: State, learner: Learner, train: Split, y: Tensor, key: Tensor, capacity: int, selection: Selection
) -> Tensor:
    """Keys (N,) where each class that the experience brings is put into a new order, old samples and new alike."""
    held = len(y) - len(train)
    labels, counts = y.unique(return_counts=True)
    shares = dict(zip(labels.tolist(), quotas(counts.tolist(), capacity), strict=True))
    key, places, makers = key.clone(), [], []
    for label in train.y.unique().tolist():
        rows = (y == label).nonzero().flatten()
        pool = train.samples(rows[rows >= held] - held)
        if held:
            mine = rows[rows < held]
            pool = Samples(*(torch.cat([memory[k][mine], v]) for k, v in pool._asdict().items()))
        places.append(rows)
        makers.append(partial(_ordered, learner, pool, *all_features(learner, pool), shares[label], selection))
    for rows, order in zip(places, collectives.dealt(makers, y), strict=True):
        key[rows] = torch.inf
        key[rows[order]] = torch.arange(len(order), dtype=key.dtype, device=key.device)
    return key


def _ordered(
    learner: Learner, pool: Samples, features: Tensor, outputs: Tensor, n: int, selection: Selection
) -> Tensor:
    if selection == "herding":
        return herding(features, n)
    if selection == "k_centre":
        return k_centre(features, n)
    errors = learner.masked(outputs, pool.task).softmax(1) - F.one_hot(pool.y, outputs.shape[1])
    return gradient_matching(errors, features, n)

"""How a stream is made from a data set."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..limits import expect_room
from .datasets.dataset import Dataset, Part, Source
from .experience import PROTOCOLS, Experience, Lazy, Protocol, Split, Stream

Look = Callable[[Tensor, int], tuple[Tensor, Callable[[Tensor], Tensor] | None]]


class Recipe(ABC):
    """What is met and in which order. Subclasses are frozen dataclasses."""

    @abstractmethod
    def source(self) -> Source:
        """Where its data come from."""

    @abstractmethod
    def follows(self) -> Protocol:
        """The protocol of its streams."""

    @abstractmethod
    def arrange(self, dataset: Dataset) -> Stream:
        """The stream over `dataset`, which the source has loaded. Experiences are built when asked for."""


@dataclass(frozen=True)
class OfData(Recipe):
    """A data set made into a stream. Subclasses have a field `protocol`."""

    dataset: Source

    def source(self) -> Source:
        return self.dataset

    def follows(self) -> Protocol:
        return vars(self)["protocol"]

    def _expect(self, protocol: str, **counts: int) -> None:
        if not isinstance(self.dataset, Source):
            raise TypeError(f"expected a data set such as digits first, got {self.dataset!r}")
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
        for name, count in counts.items():
            if type(count) is not int or count < 1:
                raise ValueError(f"{name} must be a whole number, at least 1, got {count!r}")
            expect_experiences(count)


def expect_experiences(count: int) -> None:
    """Raises TooLarge for a stream that no memory holds what a run of it comes to: each is tested on all the others."""
    expect_room(f"a stream of {count} experiences, each tested on all others", 8 * count**2)


def revisited(dataset: Dataset, tasks: int, protocol: Protocol, look: Look) -> Stream:
    """The whole data set in every task, each time seen in another way.

    look: from the stored x and the task to the x to keep and the view to hand it out through.
    Under the domain protocol all tasks share the labels, otherwise task t brings C labels of its own.
    """
    count = len(dataset.classes)
    own = 0 if protocol == "domain" else count  # labels that each task adds
    classes = torch.zeros(tasks, count + own * (tasks - 1), dtype=torch.bool)
    for t in range(tasks):
        classes[t, t * own : t * own + count] = True

    def split(part: Part, t: int) -> Split:
        x, view = look(part.x, t)
        rows = torch.arange(len(x), device=part.y.device)
        return Split(x, part.y + t * own, torch.full_like(part.y, t), rows, view)

    make = Lazy(tasks, lambda t: Experience(t, t, split(dataset.train, t), split(dataset.test, t)))
    return Stream(make, classes, protocol)

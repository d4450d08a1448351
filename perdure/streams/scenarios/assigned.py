"""Experiences that the data themselves name: a month, a place, a sensor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets.dataset import DataError, Dataset, Part
from ..experience import Experience, Lazy, Protocol, Split, Stream
from ..recipe import OfData


@dataclass(frozen=True)
class Assigned(OfData):
    """Every sample in the experience that the data's own column or list says, in the order of its values.

    A label is the class, under every protocol. A class may come back in a later experience.
    """

    protocol: Protocol = "domain"

    def __post_init__(self):
        self._expect(self.protocol)

    def arrange(self, dataset: Dataset) -> Stream:
        if dataset.experience is None:
            raise DataError(
                "the data do not say which experience a sample belongs to; name the column, as in "
                'table("file.csv", experience="month"), or save an array `experience` beside x and y'
            )
        count = 1 + max(int(numbers.max()) for numbers in dataset.experience)
        train, test = (
            _present(*pair, count, dataset) for pair in zip(_parts(dataset), dataset.experience, strict=True)
        )
        for name, present in (("training", train), ("test", test)):
            if not present.any(1).all():
                raise DataError(f"experience {int((~present.any(1)).nonzero()[0])} has no {name} sample")
        classes = train if self.protocol != "domain" else torch.ones_like(train)
        open_heads = classes.cumsum(0).bool() if self.protocol == "class" else classes
        if (test & ~open_heads).any():
            t, k = (test & ~open_heads).nonzero()[0].tolist()
            rows = ((dataset.experience[1] == t) & (dataset.test.y == k)).nonzero()
            raise DataError(
                f"test sample {int(rows[0])} of experience {t} is of class {dataset.classes[k]}, which no training "
                f"sample has by then; that cannot be answered under the {self.protocol} protocol"
            )

        def experience(t: int) -> Experience:
            pairs = zip(_parts(dataset), dataset.experience or (), strict=True)
            return Experience(t, t, *(_members(part, numbers, t) for part, numbers in pairs))

        return Stream(Lazy(count, experience), classes, self.protocol)


def _parts(dataset: Dataset) -> tuple[Part, Part]:
    return dataset.train, dataset.test


def _present(part: Part, numbers: Tensor, count: int, dataset: Dataset) -> Tensor:
    """Which classes an experience has samples of, (T, C) bool, on the CPU."""
    present = torch.zeros(count, len(dataset.classes), dtype=torch.bool)
    present[numbers.cpu(), part.y.cpu()] = True
    return present


def _members(part: Part, numbers: Tensor, t: int) -> Split:
    rows = (numbers == t).nonzero().flatten()
    return Split(part.x, part.y[rows], torch.full_like(rows, t), rows)

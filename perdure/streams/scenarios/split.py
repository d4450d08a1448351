"""Classes cut into groups, one group after the other (Zenke et al. 2017, arXiv:1703.04200)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets.dataset import Dataset, Part
from ..experience import Experience, Lazy, Protocol, Split, Stream
from ..recipe import OfData


@dataclass(frozen=True)
class ClassSplit(OfData):
    """Classes cut into groups, one group an experience (split MNIST: Zenke et al. 2017, arXiv:1703.04200).

    Groups differ by one class at most, larger ones first. Classes come in their own order, in the
    `order` that is given, or shuffled by `seed`. Under the domain protocol the k-th class of each
    group is labelled k; otherwise a label is the class.
    """

    experiences: int = 5
    protocol: Protocol = "class"
    order: tuple[int, ...] | None = None  # every class once
    seed: int | None = None  # shuffles the classes

    def __post_init__(self):
        self._expect(self.protocol, experiences=self.experiences)
        if self.order is not None and self.seed is not None:
            raise ValueError("order and seed both say how the classes come; give one of them")
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order must name every class once, from 0 to {len(self.order) - 1}, got {self.order}")
        if self.order is not None and self.experiences > len(self.order):
            raise ValueError(f"experiences must be at most {len(self.order)}, the classes, got {self.experiences}")

    def arrange(self, dataset: Dataset) -> Stream:
        groups = self._order(dataset).tensor_split(self.experiences)
        classes = torch.zeros(len(groups), len(dataset.classes), dtype=torch.bool)
        for t, group in enumerate(groups):
            classes[t, group] = True
        if self.protocol == "domain":
            classes = torch.arange(len(groups[0])) < torch.tensor([len(g) for g in groups])[:, None]

        def experience(t: int) -> Experience:
            train, test = (_members(part, t, groups[t], self.protocol) for part in (dataset.train, dataset.test))
            return Experience(t, t, train, test)

        return Stream(Lazy(len(groups), experience), classes, self.protocol)

    def _order(self, dataset: Dataset) -> Tensor:
        count = len(dataset.classes)
        if self.experiences > count:
            raise ValueError(f"experiences must be at most {count}, the classes of the data, got {self.experiences}")
        if self.order is not None and len(self.order) != count:
            raise ValueError(f"order must name each of the {count} classes of the data once, got {len(self.order)}")
        if self.order is not None:
            return torch.tensor(self.order)
        if self.seed is not None:
            return torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        return torch.arange(count)


def _members(part: Part, task: int, group: Tensor, protocol: Protocol) -> Split:
    group = group.to(part.y.device)
    rows = torch.isin(part.y, group).nonzero().flatten()
    y = part.y[rows]
    if protocol == "domain":
        y = (y[:, None] == group).long().argmax(1)  # place within the group
    return Split(part.x, y, torch.full_like(y, task), rows)

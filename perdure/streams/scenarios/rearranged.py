"""Streams over the experiences of another stream."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets.dataset import Dataset, Source
from ..experience import Protocol, Split, Stream
from ..recipe import Recipe


@dataclass(frozen=True)
class Rearranged(Recipe):
    """Another stream's experiences in another way. Subclasses are frozen dataclasses, as noisy(split(digits), 0.2)."""

    stream: Recipe

    def source(self) -> Source:
        return self.stream.source()

    def follows(self) -> Protocol:
        return self.stream.follows()

    def arrange(self, dataset: Dataset) -> Stream:
        return self.rearranged(self.stream.arrange(dataset))

    @abstractmethod
    def rearranged(self, stream: Stream) -> Stream:
        """The new stream, over the experiences of `stream`."""

    def _expect_stream(self, **shares: float) -> None:
        if not isinstance(self.stream, Recipe):
            raise TypeError(f"expected a stream such as split(digits) first, got {self.stream!r}")
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {share}")

    def _refuse_tasks(self, what: str) -> None:
        if self.follows() == "task":
            raise ValueError(
                f"{what} mixes experiences, and a task-incremental stream tells them apart; "
                "use protocol='class' or 'domain'"
            )


def present(splits: list[Split], classes: int) -> Tensor:
    """Which classes each split has samples of, (len, C) bool."""
    table = torch.zeros(len(splits), classes, dtype=torch.bool)
    for row, split in zip(table, splits, strict=True):
        row[split.y.cpu().unique()] = True
    return table

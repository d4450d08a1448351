"""Training samples that somebody has tampered with; tests are as they were."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..datasets.dataset import Dataset
from ..experience import Experience, Lazy, Split, Stream, generator
from ..scenarios.rearranged import Rearranged


@dataclass(frozen=True)
class Poisoned(Rearranged):
    """A share of the samples of chosen experiences is tampered with; subclasses say how."""

    def receipt(self, dataset: Dataset) -> dict[int, Tensor]:
        """Which samples were tampered with: of every experience, (n,) sorted rows of its training samples."""
        stream = self.stream.arrange(dataset)
        return {e.index: self._chosen(e, stream).sort().values for e in stream}

    def rearranged(self, stream: Stream) -> Stream:
        for t in self._experiences():
            if not 0 <= t < len(stream):
                raise ValueError(f"at names experience {t}; the stream has experiences 0 to {len(stream) - 1}")

        def experience(t: int) -> Experience:
            whole = stream[t]
            return replace(whole, train=self._tampered(whole, self._chosen(whole, stream), stream))

        def wanted(t: int) -> Split | None:
            if self._experiences() and t not in self._experiences():
                return None
            return self.aim(stream[t], stream)

        aims = Lazy(len(stream), lambda t: (stream.aims or {t: ()})[t] + tuple(a for a in [wanted(t)] if a))
        return replace(stream, experiences=Lazy(len(stream), experience), aims=aims)

    def aim(self, whole: Experience, stream: Stream) -> Split | None:
        """What the poisoner wants of a learner: test samples, with the answers that it shall give to them."""
        return None

    def _chosen(self, whole: Experience, stream: Stream) -> Tensor:
        """(n,) rows: exactly the share of the candidates, to a whole number."""
        if self._experiences() and whole.index not in self._experiences():
            return torch.zeros(0, dtype=torch.int64)
        rows = self._candidates(whole, stream)
        order = torch.randperm(len(rows), generator=generator(vars(self)["seed"], whole.index))
        return rows[order[: round(vars(self)["share"] * len(rows))]]

    def _experiences(self) -> tuple[int, ...]:
        return vars(self)["at"]

    @abstractmethod
    def _candidates(self, whole: Experience, stream: Stream) -> Tensor:
        """(n,) rows that may be tampered with."""

    @abstractmethod
    def _tampered(self, whole: Experience, rows: Tensor, stream: Stream) -> Split: ...


@dataclass(frozen=True)
class Flipped(Poisoned):
    """Labels turned from one class into another, as flipped(split(digits), of=3, target=2, share=0.5) (Biggio et al.
    2012, arXiv:1206.6389). Without `of` any class is turned, without `target` into any other of the experience.
    """

    share: float = 0.1  # of the candidates
    of: int | None = None  # class; any by default
    target: int | None = None
    at: tuple[int, ...] = ()  # experiences, from 0; all by default
    seed: int = 0

    def __post_init__(self):
        self._expect_stream(share=self.share)
        if self.of is not None and self.of == self.target:
            raise ValueError(f"of and target are both {self.of}: nothing would change")

    def _candidates(self, whole, stream):
        y = whole.train.y.cpu()
        possible = torch.ones_like(y, dtype=torch.bool) if self.of is None else y == self.of
        return (possible & (y != (-1 if self.target is None else self.target))).nonzero().flatten()

    def aim(self, whole, stream):
        if self.of is None or self.target is None:
            return None
        part = whole.test.part((whole.test.y == self.of).nonzero().flatten())
        return part.relabelled(torch.full_like(part.y, self.target)) if len(part) else None

    def _tampered(self, whole, rows, stream):
        known, y = stream.classes[stream.task(whole.index)].nonzero().flatten(), whole.train.y.cpu()
        if len(rows) and self.target is not None and self.target not in known:
            raise ValueError(f"experience {whole.index} has no class {self.target}: it would be a label of its own")
        if len(rows) and self.target is None and len(known) < 2:
            raise ValueError(f"experience {whole.index} has one class only: there is no wrong label in it")
        if self.target is not None:
            y[rows] = self.target
        else:
            chance = generator(self.seed, whole.index + 1_000)
            step = torch.randint(1, max(2, len(known)), rows.shape, generator=chance)
            y[rows] = known[(torch.searchsorted(known, y[rows]) + step) % len(known)]
        return whole.train.relabelled(y.to(whole.train.device))


@dataclass(frozen=True)
class Backdoored(Poisoned):
    """A trigger in the corner of some samples, which are labelled `target`: learned, it opens a back door (Gu et al.
    2017, arXiv:1708.06733). The attack trigger(target) tells how often it does.
    """

    target: int = 0
    share: float = 0.1  # of the samples of other classes
    size: int = 3  # pixels of the trigger's side
    at: tuple[int, ...] = ()  # experiences, from 0; all that have the target's class by default
    seed: int = 0

    def __post_init__(self):
        self._expect_stream(share=self.share)
        if self.size < 1 or self.target < 0:
            raise ValueError(f"expected size >= 1 and a target class from 0 on, got {self.size} and {self.target}")

    def _candidates(self, whole, stream):
        known = stream.classes[stream.task(whole.index)]
        if self.target >= len(known) or not known[self.target]:
            if self.at:
                raise ValueError(f"experience {whole.index} has no class {self.target}: it would be a label of its own")
            return torch.zeros(0, dtype=torch.int64)
        return (whole.train.y.cpu() != self.target).nonzero().flatten()

    def aim(self, whole, stream):
        if not len(self._candidates(whole, stream)):
            return None
        x, y, task = whole.test.part((whole.test.y != self.target).nonzero().flatten()).everything()
        wanted = torch.full_like(y, self.target)
        return Split(stamped(x, self.size), wanted, task, torch.arange(len(y), device=y.device)) if len(y) else None

    def _tampered(self, whole, rows, stream):
        if not len(rows):
            return whole.train
        x, y, task = whole.train.everything()
        at = rows.to(x.device)
        x[at], y[at] = stamped(x[at], self.size), self.target
        return Split(x, y, task, torch.arange(len(y), device=y.device))


def stamped(x: Tensor, size: int) -> Tensor:
    """Images (n, C, H, W), uint8 or float, with a white square of `size` pixels, one pixel off the lower right corner.

    Raises ValueError where they are no images, or the square does not fit.
    """
    if x.dim() != 4 or size + 1 > min(x.shape[2:]):
        raise ValueError(f"a trigger of {size} pixels needs larger images (N, C, H, W), got {tuple(x.shape)}")
    x, (height, width) = x.clone(), x.shape[2:]
    x[:, :, height - 1 - size : height - 1, width - 1 - size : width - 1] = 255 if x.dtype == torch.uint8 else 1.0
    return x

"""What an attacker knows of the classifier. The same attack runs under any of these."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from ...notation import STAR
from . import oracles
from .oracles import Answer, Victim
from .sample_rng import Chance


@dataclass(frozen=True)
class Threat(ABC):
    """asks_itself: whether the classifier under attack is asked; otherwise surrogates are, and it only judges.
    knows_data: whether an attack may learn from training samples first, with gradients; otherwise it learns from the
    samples it is made on, by what it may ask about them.
    """

    asks_itself: ClassVar[bool] = True
    knows_data: ClassVar[bool] = False

    @abstractmethod
    def victim(
        self,
        answer: Answer,
        chance: Chance,
        count: int,
        device: torch.device,
        classes: int,
        chunk: int,
        features: Answer | None,
    ) -> Victim:
        """What an attack may ask about `count` samples."""


@dataclass(frozen=True)
class White(Threat):
    """Everything is known: weights, gradients, features."""

    knows_data = True

    def victim(self, answer, chance, count, device, classes, chunk, features):
        return oracles.White(answer, count, device, chunk, features=features)


@dataclass(frozen=True)
class Gray(White):
    """Architecture and training data are known, weights are not: surrogates are learned from other seeds, as gray(100,
    101), attacked together by the mean of their logits, and what fools them is shown to the classifier.
    """

    asks_itself = False
    seeds: tuple[int, ...] = field(default=(1000,), metadata=STAR)

    def __post_init__(self):
        if not self.seeds:
            raise ValueError("expected the seed of a surrogate at least")


@dataclass(frozen=True)
class Transfer(White):
    """Only the training data are known: a surrogate of another architecture is learned and attacked, as
    transfer(convnet), and what fools it is shown to the classifier (Papernot et al. 2016, arXiv:1605.07277).
    """

    asks_itself = False
    model: Any
    seeds: tuple[int, ...] = (1000,)

    def __post_init__(self):
        if not callable(getattr(self.model, "build", None)):
            raise ValueError(f"expected a model first, as transfer(mlp(100, 100)), got {self.model!r}")


@dataclass(frozen=True)
class Black(Threat):
    """Nothing is known, and answers are all there is to see: scores or labels of so many queries about each sample.

    Attacks that climb gradients get them estimated from the answers (Ilyas et al. 2018, arXiv:1804.08598); an estimate
    costs 2 draws + 1 queries, times `votes` where only labels are told.
    """

    queries: int = 1000
    sees: Literal["scores", "labels"] = "scores"
    draws: int = 10  # random directions of an estimate, each with its opposite
    sigma: float = 0.01  # how far along them is looked
    votes: int = 10  # noisy copies whose labels stand for a score

    def __post_init__(self):
        if min(self.queries, self.draws, self.votes) < 1 or self.sigma <= 0:
            raise ValueError(
                f"expected queries, draws and votes of at least 1 and sigma above 0, got {self.queries}, {self.draws}, "
                f"{self.votes} and {self.sigma}"
            )
        if self.sees == "labels" and self.votes > self.queries:
            raise ValueError(f"{self.votes} votes for a score are more than {self.queries} queries")

    def victim(self, answer, chance, count, device, classes, chunk, features):
        only = self.sees == "labels"
        return oracles.Black(answer, chance, self.queries, classes, only, self.draws, self.sigma, self.votes, chunk)

"""Streams for meta-learning: every experience is a task of its own, with few samples to adapt to it and others to be
judged by."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .datasets.cifar import CIFAR100
from .datasets.dataset import Dataset, Source
from .experience import pixels
from .storage.directories import Places

Phase = Literal["train", "validation", "test"]


class Episodes(NamedTuple):
    """T tasks at once, all of one shape."""

    support_x: Tensor  # (T, K, ...) float32, samples to adapt to
    support_y: Tensor  # (T, K) int64 classes in [0, ways), or (T, K, ...) float32 values
    query_x: Tensor  # (T, Q, ...), samples to be judged by
    query_y: Tensor  # (T, Q) or (T, Q, ...)


class Tasks(ABC):
    """Where episodes come from, once what they are made of is in memory."""

    shape: tuple[int, ...]  # of one sample
    outputs: int  # of the model: classes, or values
    classes: int | None  # that tasks tell apart; None where they ask for values
    phases: tuple[Phase, ...]  # that tasks can be drawn for

    @abstractmethod
    def draw(self, count: int, chance: torch.Generator, phase: Phase = "train") -> Episodes:
        """`count` tasks, on the device of the data; the same for a generator in the same state."""


class EpisodeRecipe(ABC):
    """What episodes are to be drawn. Subclasses are frozen dataclasses: text and numbers only."""

    @abstractmethod
    def source(self) -> Source | None:
        """Where its data come from; None where tasks are made up."""

    @abstractmethod
    def arranged(self, dataset: Dataset | None, device: torch.device | str = "cpu") -> Tasks:
        """The tasks of what the source has loaded. Raises ValueError where it does not do for such tasks."""

    def tasks(self, places: Places, device: torch.device | str = "cpu") -> Tasks:
        """The tasks, their data loaded. Raises DataNotFound too."""
        source = self.source()
        return self.arranged(source and source.loaded(places), device)


@dataclass(frozen=True)
class Sinusoid(EpisodeRecipe):
    """Regression of A sin(ω x - phase), A in U[0.1, 5], phase in U[0, π], x in U[-5, 5] (Finn et al. 2017,
    arXiv:1703.03400, section 5.1).

    omega: ω is 1 by default, and drawn from U[1 - omega, 1 + omega]; 0.2 is the protocol of Meta-SGD (Li et al. 2017,
    arXiv:1707.09835).
    """

    shots: int = 10
    queries: int = 10
    omega: float = 0.0

    def __post_init__(self):
        _refuse_too_few(self.shots, self.queries)
        if not 0 <= self.omega < 1:
            raise ValueError(f"omega must be in [0, 1), got {self.omega}")

    def source(self) -> None:
        return None

    def arranged(self, dataset: Dataset | None, device: torch.device | str = "cpu") -> "Waves":
        return Waves(self, torch.device(device))


@dataclass(frozen=True, eq=False)
class Waves(Tasks):
    recipe: Sinusoid
    device: torch.device
    shape = (1,)
    outputs = 1
    classes = None
    phases = ("train", "validation", "test")  # all alike

    def draw(self, count: int, chance: torch.Generator, phase: Phase = "train") -> Episodes:
        shots, queries, omega = self.recipe.shots, self.recipe.queries, self.recipe.omega
        amplitude, shift, rate, x = (
            low + (high - low) * torch.rand((count, n, 1), generator=chance)
            for low, high, n in ((0.1, 5.0, 1), (0.0, pi, 1), (1 - omega, 1 + omega, 1), (-5.0, 5.0, shots + queries))
        )
        y = amplitude * (rate * x - shift).sin()
        x, y = x.to(self.device), y.to(self.device)
        return Episodes(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:])


@dataclass(frozen=True)
class FewShot(EpisodeRecipe):
    """N-way K-shot classification: `ways` classes at a time, `shots` samples of each to adapt to and `queries` of each
    to be judged by (Vinyals et al. 2016, arXiv:1606.04080).

    Classes are dealt out to meta-training, -validation and -testing in the order of a shuffle by `seed`, so that no
    class is met in two of them; `shares` tells how many. Or else `test` names those to meta-test on, `validation` those
    to validate on, and `train` those to train on, or all others. Training and test samples of a class go into one pool.
    turns: whether quarter turns of a class count as classes of their own (Santoro et al. 2016, arXiv:1605.06065).
    """

    dataset: Source
    ways: int = 5
    shots: int = 1
    queries: int = 15
    turns: bool = False
    shares: tuple[float, ...] = (0.64, 0.16, 0.2)
    seed: int = 0
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self):
        _refuse_too_few(self.shots, self.queries)
        for phase in get_args(Phase):  # a recipe may be read from a list
            object.__setattr__(self, phase, tuple(getattr(self, phase)))
        if (self.train or self.validation) and not self.test:
            raise ValueError("name the classes to meta-test on too: test=['...']")
        if not isinstance(self.dataset, Source):
            raise TypeError(f"expected a data set such as strokes first, got {self.dataset!r}")
        if self.ways < 2:
            raise ValueError(f"ways must be at least 2, got {self.ways}")
        if len(self.shares) != 3 or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"expected three shares of classes that add up to 1, got {self.shares}")

    def source(self) -> Source:
        return self.dataset

    def arranged(self, dataset: Dataset | None, device: torch.device | str = "cpu") -> "Characters":
        assert dataset is not None
        return Characters.of(self, dataset.to(device))

    def deal(self, classes: Sequence[str]) -> dict[Phase, Tensor]:
        """Which of the classes, by number, are met in which phase: none in two. Raises ValueError."""
        if not self.test:
            order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(self.seed))
            first = round(self.shares[0] * len(classes))
            second = first + round(self.shares[1] * len(classes))
            return {"train": order[:first], "validation": order[first:second], "test": order[second:]}
        others = tuple(name for name in classes if name not in self.validation + self.test)
        named: dict[Phase, Sequence[str]] = {
            "train": self.train or others, "validation": self.validation, "test": self.test
        }  # fmt: skip
        phase_of: dict[str, Phase] = {}
        for phase, names in named.items():
            for name in names:
                if name not in classes:
                    raise ValueError(f"the data have no class {name!r}; they have {', '.join(classes)}")
                if name in phase_of:
                    raise ValueError(
                        f"class {name!r} is met in meta-{phase_of[name]} and in meta-{phase}, so that tests would tell "
                        "of what was trained on; name it once"
                    )
                phase_of[name] = phase
        return {
            phase: torch.tensor([classes.index(n) for n in names], dtype=torch.int64) for phase, names in named.items()
        }


@dataclass(frozen=True)
class CIFARFS(EpisodeRecipe):
    """Few-shot tasks of CIFAR-100's classes as dealt out by Bertinetto et al. 2019 (arXiv:1805.08136): 64 to meta-train
    on, 16 to validate on and 20 to test on, 600 images each."""

    ways: int = 5
    shots: int = 1
    queries: int = 15

    def __post_init__(self):
        self.few_shot()

    def few_shot(self) -> FewShot:
        return FewShot(CIFAR100(), self.ways, self.shots, self.queries, validation=VALIDATION, test=TEST)

    def source(self) -> Source:
        return self.few_shot().source()

    def arranged(self, dataset: Dataset | None, device: torch.device | str = "cpu") -> "Characters":
        return self.few_shot().arranged(dataset, device)


VALIDATION = (
    "beaver", "beetle", "butterfly", "camel", "cattle", "crab", "crocodile", "flatfish", "lamp", "maple_tree",
    "motorcycle", "otter", "sea", "shark", "television", "tractor",
)  # fmt: skip
TEST = (
    "baby", "bed", "bicycle", "chimpanzee", "fox", "leopard", "man", "pickup_truck", "plain", "poppy", "rocket", "rose",
    "snail", "sweet_pepper", "table", "telephone", "wardrobe", "whale", "woman", "worm",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Characters(Tasks):
    recipe: FewShot
    x: Tensor  # (N, ...) as stored
    rows: tuple[Tensor, ...]  # of every class, (n,) rows of x
    dealt: dict[Phase, Tensor]  # (C,) classes of each phase, all different
    turned: int  # how many quarter turns make a class of their own: 1 or 4

    @staticmethod
    def of(recipe: FewShot, dataset: Dataset) -> "Characters":
        x, y = (torch.cat([a, b]) for a, b in zip(dataset.train, dataset.test, strict=True))
        if recipe.turns and (x.dim() != 4 or x.shape[2] != x.shape[3]):
            raise ValueError(f"turns=True is for square images (N, C, H, H), got {tuple(x.shape)}")
        rows = tuple((y == c).nonzero().flatten() for c in range(len(dataset.classes)))
        need, turned = recipe.shots + recipe.queries, 4 if recipe.turns else 1
        for name, own in zip(dataset.classes, rows, strict=True):
            if len(own) < need:
                raise ValueError(
                    f"class {name} has {len(own)} samples, and {recipe.shots} shots with {recipe.queries} queries need "
                    f"{need}; ask for fewer, or leave the class out"
                )
        parts = recipe.deal(dataset.classes)
        for phase in ("train", "test"):
            if len(parts[phase]) * turned < recipe.ways:
                raise ValueError(
                    f"{recipe.ways} ways need as many classes to meta-{phase} on; of {len(rows)} there are "
                    f"{len(parts[phase]) * turned}; ask for fewer ways, or deal out the classes otherwise"
                )
        return Characters(recipe, x, rows, parts, turned)

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(self.x.shape[1:])

    @property
    def outputs(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.recipe.ways

    @property
    def classes(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.recipe.ways

    @property
    def phases(self) -> tuple[Phase, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(phase for phase, known in self.dealt.items() if len(known) * self.turned >= self.recipe.ways)

    def draw(self, count: int, chance: torch.Generator, phase: Phase = "train") -> Episodes:
        it, known = self.recipe, self.dealt[phase]
        if len(known) * self.turned < it.ways:
            raise ValueError(
                f"there are {len(known) * self.turned} classes to meta-{phase} on, fewer than {it.ways} ways"
            )
        need, at, turns = it.shots + it.queries, [], []
        for _ in range(count):
            chosen = torch.randperm(len(known) * self.turned, generator=chance)[: it.ways]
            turns.append((chosen % self.turned)[:, None].expand(it.ways, need))
            for c in known[chosen // self.turned].tolist():
                own = self.rows[c]
                at.append(own[torch.randperm(len(own), generator=chance)[:need].to(own.device)])
        x = pixels(self.x[torch.cat(at)])
        x = _turned(x, torch.stack(turns).flatten().to(x.device)) if self.turned > 1 else x
        x = x.view(count, it.ways, need, *self.shape)
        y = torch.arange(it.ways, device=x.device)[None, :, None].expand(count, it.ways, need)
        return Episodes(
            x[:, :, : it.shots].flatten(1, 2), y[:, :, : it.shots].flatten(1),
            x[:, :, it.shots :].flatten(1, 2), y[:, :, it.shots :].flatten(1),
        )  # fmt: skip


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Images (N, C, H, H), each by (N,) quarter turns."""
    every = torch.stack([x.rot90(k, (2, 3)) for k in range(4)])
    return every[turns, torch.arange(len(x), device=x.device)]


def _refuse_too_few(shots: int, queries: int) -> None:
    if min(shots, queries) < 1:
        raise ValueError(f"shots and queries must be at least 1, got {shots} and {queries}")

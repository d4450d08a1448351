"""One run: what to learn, how, and from which seed. Text and numbers only; equal runs have equal ids."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import torch

from ...errors import reading
from ...limits import expect_machine
from ...notation import expect_types, spell
from ...strategies import names
from ...strategies.attacks.names import ATTACKS, attack
from ...strategies.base import Strategy
from ...strategies.learner import Learner
from ...strategies.models.build import built
from ...strategies.models.device import placed
from ...strategies.numerics.own_code import DIGESTS
from ...strategies.numerics.rng import Rng
from ...strategies.training.plan import Plan
from ...streams.datasets.dataset import Dataset, Source
from ...streams.evaluation import Evaluation
from ...streams.experience import Stream
from ...streams.names import DATASETS, STREAMS, stream_recipe
from .numerics import NUMERICS

ATTACKED = ("attacks", "attack_samples")
# what leaves a run what it was without them
NEUTRAL = {"start": "", "evaluate": "", "after": "", "workers": 1, "data": "", "code": "", "numerics": 1}
PLAIN = {"accumulate": 1, "precision": "float32", "compiled": False}  # the same of a plan


@dataclass(frozen=True)
class Run:
    strategy: str = "naive"
    stream: str = "split(digits)"
    model: str = "mlp(64, 64)"
    optimizer: str = "adam"
    seed: int = 0
    plan: Plan = field(default_factory=Plan)
    threads: int = 1  # another number rounds otherwise, so it is part of what a run is
    workers: int = 1  # that share every batch; another number rounds otherwise too
    device: str = "cpu"
    attacks: tuple[str, ...] = ()  # made on the model after every experience
    attack_samples: int = 200  # test samples of each experience that are attacked
    start: str = ""  # id of a run whose weights are begun from
    evaluate: str = ""  # which experiences are tested on along the stream, as "last 10"; by default all after each
    after: str = ""  # run and milestone that it goes on from with other settings, as 5f2c01d2e3a4@2
    data: str = ""  # fingerprint of what it learns from; see `identity`
    code: str = ""  # digest of the source behind names of one's own
    numerics: int = NUMERICS

    def __post_init__(self):
        object.__setattr__(self, "attacks", tuple(self.attacks))
        expect_types(self)
        expect_machine(self.threads, self.device)
        for name in ("attack_samples", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def method(self) -> str:
        return self.strategy

    @property
    def on(self) -> str:
        return self.stream

    @property
    def kinds(self) -> tuple[str, str]:
        """What a method is called, and several of them."""
        return "strategy", "strategies"

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits; the same for two texts that mean the same."""
        parts = asdict(self.normal())
        if not self.attacks:
            parts = {k: v for k, v in parts.items() if k not in ATTACKED}
        for name, usual in NEUTRAL.items():  # as if they had never been thought of
            if parts[name] == usual:
                del parts[name]
        parts["plan"] = {k: v for k, v in parts["plan"].items() if k not in PLAIN or v != PLAIN[k]}
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def normal(self) -> "Run":
        """The run with every text as it is spelled. Raises NotationError for what cannot be read."""
        texts = (self.strategy, self.stream, self.model, self.optimizer, self.attacks, self.evaluate)
        return replace(self, **_spelled(texts, frozenset(DIGESTS.items())))

    def row(self) -> dict[str, str | int]:
        """Everything in one level, for a table or a tracker."""
        flat = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("plan", *NEUTRAL, *ATTACKED)}
        if self.attacks:
            flat |= {"attacks": ", ".join(self.attacks), "attack_samples": self.attack_samples}
        flat |= {k: getattr(self, k) for k, usual in NEUTRAL.items() if getattr(self, k) != usual} | content(self)
        plan = {k: v for k, v in asdict(self.plan).items() if k not in PLAIN or v != PLAIN[k]}
        return flat | {k: v for k, v in plan.items() if v is not None}

    def source(self) -> Source:
        """Where its data come from."""
        return stream_recipe(self.stream).source()

    def texts(self) -> tuple[str, ...]:
        """All that may name code of one's own."""
        return (self.strategy, self.stream, self.model, self.optimizer, *self.attacks)

    @staticmethod
    def of(row: dict) -> "Run":
        """The run that `asdict` wrote down."""
        return Run(**{"numerics": 1, **row, "plan": Plan(**row["plan"])})


@lru_cache(maxsize=1024)
def _spelled(texts: tuple[Any, ...], code: frozenset[tuple[str, str]]) -> dict[str, Any]:
    """Texts as they are spelled, each read once for all seeds. code: what stands behind names of one's own."""
    strategy, stream, model, optimizer, attacks, evaluate = texts
    return {
        "strategy": names.spelled(names.strategy(strategy)),
        "stream": spell(stream_recipe(stream), STREAMS | DATASETS),
        "model": names.spelled(names.model(model)),
        "optimizer": names.spelled(names.optimizer(optimizer)),
        "attacks": tuple(dict.fromkeys(spell(attack(text), ATTACKS) for text in attacks)),
        "evaluate": str(Evaluation.of(evaluate)),
    }


def content(run: Any) -> dict[str, str | int]:
    """What a run is beside its texts, short enough for a table."""
    parts = {"data": run.data[:12], "code": run.code[:12], "numerics": run.numerics}
    return {name: part for name, part in parts.items() if part}


def build(run: Run, dataset: Dataset) -> tuple[Stream, Learner, Strategy]:
    """Stream, learner and strategy as they are before the first step; the seed gives the first weights."""
    with reading(f"{run.stream} cannot be made of these data", "take other numbers in it, or other data"):
        stream = stream_recipe(run.stream).arrange(dataset).to(run.device)
    stream = replace(stream, evaluation=Evaluation.of(run.evaluate))
    learner = fresh(run, stream.shape, stream.classes.shape[1])
    learner.precision, learner.parts, learner.workers = run.plan.precision, run.plan.accumulate, run.workers
    return stream, learner, names.strategy(run.strategy)


class Settings(Protocol):
    """What a learner is made by."""

    @property
    def model(self) -> str: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


def fresh(by: Settings, shape: tuple[int, ...], classes: int) -> Learner:
    """A learner that has learned nothing: the seed gives its first weights."""
    rng = Rng(by.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.integer("model"))
        model = built(names.model(by.model), by.model, shape, classes)
    return Learner(placed(model, by.device), names.optimizer(by.optimizer), rng)

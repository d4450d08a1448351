"""One run: what to learn, how, and from which seed. Text and numbers only; equal runs have equal ids."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property

import torch

from ..notation import spell
from ..strategies import names
from ..strategies.base import Strategy
from ..strategies.learner import Learner
from ..strategies.loop import Plan
from ..strategies.rng import Rng
from ..streams.dataset import Dataset
from ..streams.experience import Stream
from ..streams.names import DATASETS, STREAMS, stream_recipe


@dataclass(frozen=True)
class Run:
    strategy: str = "naive"
    stream: str = "split(digits)"
    model: str = "mlp(64, 64)"
    optimizer: str = "adam"
    seed: int = 0
    plan: Plan = field(default_factory=Plan)
    threads: int = 1  # another number rounds otherwise, so it is part of what a run is
    device: str = "cpu"

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits; the same for two texts that mean the same."""
        text = json.dumps(asdict(self.normal()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def normal(self) -> "Run":
        """The run with every text as it is spelled. Raises NotationError for what cannot be read."""
        return replace(
            self,
            strategy=names.spelled(names.strategy(self.strategy)),
            stream=spell(stream_recipe(self.stream), STREAMS | DATASETS),
            model=names.spelled(names.model(self.model)),
            optimizer=names.spelled(names.optimizer(self.optimizer)),
        )

    def row(self) -> dict[str, str | int]:
        """Everything in one level, for a table or a tracker."""
        flat = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "plan"}
        return flat | {k: v for k, v in asdict(self.plan).items() if v is not None}

    @staticmethod
    def of(row: dict) -> "Run":
        """The run that `asdict` wrote down."""
        return Run(**{**row, "plan": Plan(**row["plan"])})


def build(run: Run, dataset: Dataset) -> tuple[Stream, Learner, Strategy]:
    """Stream, learner and strategy as they are before the first step; the seed gives the first weights."""
    stream = stream_recipe(run.stream).arrange(dataset).to(run.device)
    rng = Rng(run.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.integer("model"))
        model = names.model(run.model).build(stream.shape, stream.classes.shape[1])
    learner = Learner(model.to(run.device), names.optimizer(run.optimizer), rng)
    learner.optimizer(model.parameters())  # torch's first brings its compiler in: seconds that are no experience's
    return stream, learner, names.strategy(run.strategy)

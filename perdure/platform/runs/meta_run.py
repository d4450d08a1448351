"""One run of meta-learning: which learner, on which episodes, from which seed. Text and numbers only."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache

import torch
from torch import nn

from ...limits import expect_machine
from ...notation import expect_types, spell
from ...strategies import names
from ...strategies.meta.base import MetaLearner, TaskLoss, task_loss
from ...strategies.meta.loop import MetaPlan
from ...strategies.meta.names import LOSSES, META_LEARNERS, meta_learner
from ...strategies.meta.names import loss as loss_of
from ...strategies.models.build import built
from ...strategies.numerics.own_code import DIGESTS
from ...strategies.numerics.rng import Rng
from ...streams.datasets.dataset import Dataset, Source
from ...streams.episodes import Tasks
from ...streams.names import DATASETS, EPISODES, episode_recipe
from .numerics import NUMERICS
from .run import content

SELDOM = ("loss", "after", "data", "code")  # fields that count where they say something


@dataclass(frozen=True)
class MetaRun:
    learner: str = "maml"
    episodes: str = "sinusoid"
    model: str = "mlp(40, 40)"
    optimizer: str = ""  # the outer one; by default the learner's own: adam, or of reptile plain descent
    seed: int = 0
    plan: MetaPlan = field(default_factory=MetaPlan)
    tested: int = 600  # test tasks, once the last iteration is done; 0 where settings are chosen on validation tasks
    adapted: tuple[int, ...] = (0, 1, 5, 10)  # steps after which they are tested
    threads: int = 1  # another number rounds otherwise, so it is part of what a run is
    device: str = "cpu"
    loss: str = ""  # cross-entropy of classes and the squared error of values by default
    after: str = ""  # run and milestone that it goes on from with other settings, as 5f2c01d2e3a4@2
    data: str = ""  # fingerprint of what it learns from; see `identity`
    code: str = ""  # digest of the source behind names of one's own
    numerics: int = NUMERICS

    def __post_init__(self):
        object.__setattr__(self, "adapted", tuple(sorted(set(self.adapted))))
        expect_types(self)
        expect_machine(self.threads, self.device)
        if self.tested < 0 or not self.adapted or min(self.adapted) < 0:
            raise ValueError(f"expected a number of test tasks and of steps, got {self.tested} and {self.adapted}")

    @property
    def method(self) -> str:
        return self.learner

    @property
    def on(self) -> str:
        return self.episodes

    @property
    def kinds(self) -> tuple[str, str]:
        """What a method is called, and several of them."""
        return "meta-learner", "meta-learners"

    @property
    def outer(self) -> str:
        """The outer optimizer. Raises NotationError where it is the learner's, and that cannot be read."""
        return self.optimizer or meta_learner(self.learner).outer

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits; the same for two texts that mean the same."""
        parts = {k: v for k, v in asdict(self.normal()).items() if v or k not in SELDOM}
        if self.numerics == 1:  # as if there had never been another
            del parts["numerics"]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def normal(self) -> "MetaRun":
        """The run with every text as it is spelled. Raises NotationError for what cannot be read."""
        texts = (self.learner, self.episodes, self.model, self.outer, self.loss)
        return replace(self, **_spelled(texts, frozenset(DIGESTS.items())))

    def row(self) -> dict[str, str | int]:
        """Everything in one level, for a table or a tracker."""
        flat = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("plan", "adapted", *SELDOM)}
        flat |= {k: v for k in SELDOM if (v := getattr(self, k))} | content(self)
        return flat | {"adapted": ", ".join(map(str, self.adapted))} | asdict(self.plan)

    def source(self) -> Source | None:
        """Where its data come from; None where tasks are made up."""
        return episode_recipe(self.episodes).source()

    def texts(self) -> tuple[str, ...]:
        """All that may name code of one's own."""
        return (self.learner, self.episodes, self.model, self.optimizer, self.loss)

    @staticmethod
    def of(row: dict) -> "MetaRun":
        """The run that `asdict` wrote down."""
        return MetaRun(**{"numerics": 1, **row, "plan": MetaPlan(**row["plan"])})


@lru_cache(maxsize=1024)
def _spelled(texts: tuple[str, ...], code: frozenset[tuple[str, str]]) -> dict[str, str]:
    """Texts as they are spelled, each read once for all seeds. code: what stands behind names of one's own."""
    learner, episodes, model, optimizer, loss = texts
    return {
        "learner": spell(meta_learner(learner), META_LEARNERS),
        "episodes": spell(episode_recipe(episodes), EPISODES | DATASETS),
        "model": names.spelled(names.model(model)),
        "optimizer": names.spelled(names.optimizer(optimizer)),
        "loss": loss and spell(loss_of(loss), LOSSES),
    }


def meta_build(run: MetaRun, dataset: Dataset | None) -> tuple[Tasks, nn.Module, TaskLoss, MetaLearner]:
    """Tasks, model, its loss and the learner as they are before the first iteration; the seed gives the first weights.

    Raises ValueError for what does not fit together.
    """
    tasks = episode_recipe(run.episodes).arranged(dataset, run.device)
    learner, (model, loss) = meta_learner(run.learner), judged_model(run, tasks.shape, tasks.outputs, tasks.classes)
    return tasks, model, loss, learner


def judged_model(run: MetaRun, shape: tuple[int, ...], outputs: int, classes: int | None) -> tuple[nn.Module, TaskLoss]:
    """The model for tasks of such samples, and its loss. Raises ValueError for one of other answers than theirs."""
    of = loss_of(run.loss or ("squared_error" if classes is None else "cross_entropy"))
    if of.of_classes is not None and of.of_classes != (classes is not None):
        kinds = {True: "classes", False: "values"}
        asked = kinds[classes is not None]
        raise ValueError(f"{run.loss} is a loss of {kinds[of.of_classes]}, and {run.episodes} asks for {asked}")
    width = meta_learner(run.learner).width(outputs, classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(Rng(run.seed).integer("model"))
        model = built(names.model(run.model), run.model, shape, width).to(run.device)
    return model, task_loss(model, of, classes)

"""Every meta-learner and every loss that a text can name."""

from ... import notation
from .augmentation import MetaAugmentation
from .base import MetaLearner
from .darts import DARTS
from .evolution import EvolutionStrategies
from .learned_optimizer import LearnedOptimizer
from .losses import AbsoluteError, CrossEntropy, Huber, Loss, SquaredError
from .maml import ANIL, MAML, MetaSGD, Reptile, ScheduledMAML
from .prototypes import ProtoNets

META_LEARNERS: dict[str, type] = {
    "maml": MAML,
    "anil": ANIL,
    "meta_sgd": MetaSGD,
    "scheduled_maml": ScheduledMAML,
    "reptile": Reptile,
    "learned_optimizer": LearnedOptimizer,
    "protonets": ProtoNets,
    "evolution": EvolutionStrategies,
    "meta_augmentation": MetaAugmentation,
    "darts": DARTS,
}
LOSSES: dict[str, type] = {
    "cross_entropy": CrossEntropy,
    "squared_error": SquaredError,
    "absolute_error": AbsoluteError,
    "huber": Huber,
}


def meta_learner(text: str) -> MetaLearner:
    """The meta-learner that `text` spells, as `maml(lr=0.01, steps=5)`. Raises NotationError."""
    return notation.read_as(MetaLearner, "a meta-learner such as maml(lr=0.01)", text, META_LEARNERS)


def loss(text: str) -> Loss:
    """The loss that `text` spells, as `huber(2)`. Raises NotationError."""
    return notation.read_as(Loss, "a loss such as huber(2)", text, LOSSES)

"""Every meta-learner that a text can name."""

from ... import notation
from .augmentation import MetaAugmentation
from .base import MetaLearner
from .darts import DARTS
from .evolution import EvolutionStrategies
from .learned_optimizer import LearnedOptimizer
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


def meta_learner(text: str) -> MetaLearner:
    """The meta-learner that `text` spells, as `maml(lr=0.01, steps=5)`. Raises NotationError."""
    return notation.read(text, META_LEARNERS)

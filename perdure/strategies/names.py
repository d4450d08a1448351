"""Every strategy, model and optimizer that a text can name."""

from typing import Any, Protocol, runtime_checkable

from torch import nn

from .. import notation
from .attacks.names import ATTACKS
from .avalanche.strategy import AvalancheStrategy
from .base import Chain, Naive, Strategy, stages
from .generators.names import GENERATORS
from .methods.adversarial import AdversarialTraining, FreeAdversarialTraining, Trades
from .methods.agem import AGEM
from .methods.dataset_distillation import Distilled
from .methods.der import DER
from .methods.ewc import EWC
from .methods.functional_regularization import Functional
from .methods.gem import GEM
from .methods.generative_replay import BrainInspiredReplay, GenerativeReplay
from .methods.gpm import GradientProjection
from .methods.heterogeneous_dropout import HeterogeneousDropout
from .methods.icarl import ICaRL
from .methods.interference import Interference
from .methods.la_maml import LaMAML
from .methods.lwf import Distillation
from .methods.mas import MAS
from .methods.memory_poisoning import Tainted
from .methods.ogd import OGD
from .methods.rehearsal import Rehearsal
from .methods.si import SynapticIntelligence
from .methods.upper_bounds import Cumulative, Joint
from .methods.xdg import ContextGating
from .models.conv4 import Conv4
from .models.convnet import ConvNet
from .models.mixed import Mixed, MixedConv4
from .models.mlp import MLP
from .models.resnet import ResNet18
from .models.standardized import Standardized
from .training.optimizers import SGD, Adam, AdamW

STRATEGIES: dict[str, type] = {
    "naive": Naive,
    "joint": Joint,
    "cumulative": Cumulative,
    "rehearsal": Rehearsal,
    "distilled": Distilled,
    "generative_replay": GenerativeReplay,
    "brain_inspired": BrainInspiredReplay,
    "der": DER,
    "icarl": ICaRL,
    "agem": AGEM,
    "gem": GEM,
    "la_maml": LaMAML,
    "ogd": OGD,
    "gpm": GradientProjection,
    "ewc": EWC,
    "functional": Functional,
    "si": SynapticIntelligence,
    "mas": MAS,
    "lwf": Distillation,
    "adversarial": AdversarialTraining,
    "free_adversarial": FreeAdversarialTraining,
    "trades": Trades,
    "heterogeneous_dropout": HeterogeneousDropout,
    "xdg": ContextGating,
    "tainted": Tainted,
    "interference": Interference,
    "avalanche": AvalancheStrategy,
}
MODELS: dict[str, type] = {
    "mlp": MLP,
    "convnet": ConvNet,
    "conv4": Conv4,
    "resnet18": ResNet18,
    "standardized": Standardized,
    "mixed": Mixed,
    "mixed_conv4": MixedConv4,
}
OPTIMIZERS: dict[str, type] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


@runtime_checkable
class Model(Protocol):
    """What makes a model of samples of a shape and a number of classes."""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module: ...


def strategy(text: str) -> Strategy:
    """The strategy that `text` spells, as `rehearsal(500) + ewc(100)`."""
    names = STRATEGIES | GENERATORS | ATTACKS
    return notation.read_as(Strategy, "a strategy such as rehearsal(500)", text, names)


def model(text: str) -> Model:
    """The model recipe that `text` spells, as `mlp(400, 400)`."""
    return notation.read_as(Model, "a model such as mlp(400, 400)", text, MODELS)


def optimizer(text: str) -> Any:
    """The optimizer that `text` spells, as `sgd(0.1, momentum=0.9)`; called on parameters it makes one."""
    return notation.read_as(tuple(OPTIMIZERS.values()), "an optimizer such as sgd(0.1)", text, OPTIMIZERS)


def spelled(thing: Any) -> str:
    """The text of a strategy, model or optimizer: `strategy(spelled(s)) == s`."""
    if isinstance(thing, Chain):
        return " + ".join(map(spelled, stages(thing))) or "naive"
    return notation.spell(thing, STRATEGIES | GENERATORS | ATTACKS | MODELS | OPTIMIZERS)

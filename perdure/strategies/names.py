"""Every strategy, model and optimizer that a text can name."""

from typing import Any, Protocol, runtime_checkable

from torch import nn

from .. import notation
from .adversarial import AdversarialTraining, FreeAdversarialTraining, Trades
from .agem import AGEM
from .attacks.names import ATTACKS
from .avalanche import AvalancheStrategy
from .base import Chain, Naive, Strategy, stages
from .der import DER
from .distillation import Distillation
from .distilled import Distilled
from .ewc import EWC
from .functional import Functional
from .gem import GEM
from .generative_replay import BrainInspiredReplay, GenerativeReplay
from .generators.names import GENERATORS
from .gpm import GradientProjection
from .heterogeneous_dropout import HeterogeneousDropout
from .icarl import ICaRL
from .interference import Interference
from .la_maml import LaMAML
from .mas import MAS
from .models.conv4 import Conv4
from .models.convnet import ConvNet
from .models.mixed import Mixed, MixedConv4
from .models.mlp import MLP
from .models.resnet import ResNet18
from .models.standardized import Standardized
from .ogd import OGD
from .optimizers import SGD, Adam, AdamW
from .rehearsal import Rehearsal
from .si import SynapticIntelligence
from .tainted import Tainted
from .upper_bounds import Cumulative, Joint
from .xdg import ContextGating

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

"""Every attack and every threat model that a text can name."""

from ... import notation
from ..models.convnet import ConvNet
from ..models.mlp import MLP
from ..models.resnet import ResNet18
from .base import Attack
from .cw import CW
from .deepfool import DeepFool
from .ensemble import Worst
from .hop_skip_jump import HopSkipJump
from .one_pixel import OnePixel
from .perceptual import Perceptual
from .pgd import BIM, FGSM, PGD, LeastLikely
from .spatial import Spatial
from .square import Square
from .threats import Black, Gray, Threat, Transfer, White
from .trigger import Trigger
from .universal import Universal

ATTACKS: dict[str, type] = {
    "fgsm": FGSM,
    "bim": BIM,
    "least_likely": LeastLikely,
    "pgd": PGD,
    "cw": CW,
    "deepfool": DeepFool,
    "universal": Universal,
    "one_pixel": OnePixel,
    "spatial": Spatial,
    "perceptual": Perceptual,
    "square": Square,
    "hop_skip_jump": HopSkipJump,
    "trigger": Trigger,
    "worst": Worst,
}
THREATS: dict[str, type] = {"white": White, "gray": Gray, "black": Black, "transfer": Transfer}
SURROGATES: dict[str, type] = {"mlp": MLP, "convnet": ConvNet, "resnet18": ResNet18}


def attack(text: str) -> Attack:
    """The attack that `text` spells, as `pgd(eps=0.1, steps=40)`."""
    return notation.read_as(Attack, "an attack such as pgd(eps=0.1)", text, ATTACKS)


def whole(text: str) -> str:
    """An attack's text as it is shown: how far it goes stands there at its default too, as `pgd(eps=0.1)` for `pgd`."""
    return notation.spell(attack(text), ATTACKS, lambda thing: thing.bounds if isinstance(thing, Attack) else ())


def threat(text: str) -> Threat:
    """The threat model that `text` spells, as `black(queries=1000)`."""
    return notation.read_as(Threat, "a threat model such as black(queries=1000)", text, THREATS | SURROGATES)

"""Strategies of continual learning, and what own ones are made of.

>>> from perdure.strategies import Strategy
>>> Strategy().steer(None, {"weight": 1.0}, {})
{'weight': 1.0}
"""

from typing import TYPE_CHECKING

from ..exports import exports

if TYPE_CHECKING:
    from .attacks.base import Attack
    from .attacks.threats import Threat
    from .base import Chain, Grads, Naive, OwnLoop, State, Strategy
    from .blocks.fisher import diagonal_fisher
    from .blocks.memory import drawn, joined, remembered
    from .generators.base import Generator
    from .learner import Learner
    from .meta.base import MetaLearner
    from .meta.losses import Loss
    from .registry import register
    from .training.plan import Plan

__all__ = [
    "Attack",
    "Chain",
    "Generator",
    "Grads",
    "Learner",
    "Loss",
    "MetaLearner",
    "Naive",
    "OwnLoop",
    "Plan",
    "State",
    "Strategy",
    "Threat",
    "diagonal_fisher",
    "drawn",
    "joined",
    "register",
    "remembered",
]

_HOMES = {
    ".attacks.base": ["Attack"],
    ".attacks.threats": ["Threat"],
    ".base": ["Chain", "Grads", "Naive", "OwnLoop", "State", "Strategy"],
    ".blocks.fisher": ["diagonal_fisher"],
    ".blocks.memory": ["drawn", "joined", "remembered"],
    ".generators.base": ["Generator"],
    ".learner": ["Learner"],
    ".meta.base": ["MetaLearner"],
    ".meta.losses": ["Loss"],
    ".registry": ["register"],
    ".training.plan": ["Plan"],
}

__getattr__, __dir__ = exports(__name__, {name: home for home, names in _HOMES.items() for name in names})

"""Continual learning on Ray: strategies in small stages, runs that survive being killed, numbers to trust."""

from typing import TYPE_CHECKING

from .exports import exports
from .version import __version__

if TYPE_CHECKING:
    from .platform.api.compare import compare
    from .platform.api.follow import follow
    from .platform.api.meta import meta
    from .platform.api.resume import resume
    from .platform.api.tune import tune
    from .strategies.attacks.evaluate import attack
    from .strategies.registry import register

__all__ = ["__version__", "attack", "compare", "follow", "meta", "register", "resume", "tune"]

_HOMES = {
    "attack": ".strategies.attacks.evaluate",
    "compare": ".platform.api.compare",
    "follow": ".platform.api.follow",
    "meta": ".platform.api.meta",
    "register": ".strategies.registry",
    "resume": ".platform.api.resume",
    "tune": ".platform.api.tune",
}

__getattr__, __dir__ = exports(__name__, _HOMES)

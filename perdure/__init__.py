"""Continual learning on Ray: strategies in small stages, runs that survive being killed, numbers to trust."""

from importlib import import_module
from typing import TYPE_CHECKING

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
    "compare": ".platform.api",
    "follow": ".platform.live.follow",
    "meta": ".platform.api",
    "register": ".strategies.registry",
    "resume": ".platform.api",
    "tune": ".platform.search.api",
}


def __getattr__(name: str):
    """Names are imported when they are used, so that `import perdure` costs nothing."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module 'perdure' has no attribute {name!r}; it has {', '.join(__all__)}")

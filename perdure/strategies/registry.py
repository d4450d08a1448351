"""Names of one's own in the notation."""

from collections.abc import Callable, Sequence
from dataclasses import is_dataclass, make_dataclass
from inspect import signature
from typing import Any

from ..streams.datasets.dataset import Source
from ..streams.episodes import EpisodeRecipe
from ..streams.live.source import LiveSource
from ..streams.names import DATASETS, EPISODES, SOURCES, STREAMS
from ..streams.names import GENERATORS as YIELDING
from ..streams.recipe import Recipe
from .attacks.base import Attack
from .attacks.names import ATTACKS, THREATS
from .attacks.threats import Threat
from .base import Strategy
from .generators.base import Generator
from .generators.names import GENERATORS
from .meta.base import MetaLearner
from .meta.losses import Loss
from .meta.names import LOSSES, META_LEARNERS
from .names import MODELS, OPTIMIZERS, STRATEGIES, Model
from .numerics.own_code import DIGESTS, digest

# what a class is, and where its name goes; a class goes to the first that it is of
KINDS: Sequence[tuple[str, Any, dict[str, type]]] = (
    ("a strategy", Strategy, STRATEGIES),
    ("a meta-learner", MetaLearner, META_LEARNERS),
    ("a loss", Loss, LOSSES),
    ("a generator", Generator, GENERATORS),
    ("an attack", Attack, ATTACKS),
    ("a threat model", Threat, THREATS),
    ("a stream", Recipe, STREAMS),
    ("episodes", EpisodeRecipe, EPISODES),
    ("a data set", Source, DATASETS),
    ("a live source", LiveSource, SOURCES),
    ("a model, which has `build(shape, classes)`", Model, MODELS),
    ("an optimizer, which is called on parameters", Callable, OPTIMIZERS),
)


def register(name: str, own: Any) -> Any:
    """Let texts name something of your own, and hand it back.

    own: a frozen dataclass, whose fields are its arguments: a Strategy, MetaLearner, Loss, Generator, Attack, Threat,
    Recipe of streams, EpisodeRecipe, Source of data or LiveSource; one with `build(shape, classes)` is a model, one
    that is called on parameters an optimizer. Or a function: of a sample's shape and the number of classes it makes a
    model, without arguments it is a generator of what a live stream meets.
    Its source is part of what a run is that names it: with other code behind the name it is another run.
    Raises ValueError for anything else, and where the name is another's.
    """
    if not name.isidentifier():
        raise ValueError(f"a name must be an identifier, as my_strategy, got {name!r}")
    cls, names = own, YIELDING
    if isinstance(own, type) or signature(own).parameters:
        cls = own if isinstance(own, type) else _of_function(own)
        names = _names_of(cls)
    every = [names, *(group for _, _, group in KINDS)]
    holder = next((group[name] for group in every if name in group), None)
    if holder is not None and (name not in names or holder.__qualname__ != cls.__qualname__):
        raise ValueError(f"the name {name!r} belongs to {holder.__qualname__} already; choose another")
    names[name] = cls
    DIGESTS[name] = digest(own)
    return own


def _names_of(cls: type) -> dict[str, Any]:
    if is_dataclass(cls):
        for _, kind, names in KINDS:
            if issubclass(cls, kind):
                return names
    kinds = ", ".join(what for what, _, _ in KINDS)
    raise ValueError(
        f"expected a frozen dataclass that is {kinds}; or a function that makes a model; got {cls.__name__}"
    )


def _of_function(make: Callable[[tuple[int, ...], int], Any]) -> type:
    """A model without arguments."""
    words = {"build": staticmethod(make), "__doc__": make.__doc__ or "A model of one's own."}
    cls = make_dataclass("Own", (), frozen=True, namespace=words)
    cls.__qualname__, cls.__module__ = make.__qualname__, make.__module__
    return cls

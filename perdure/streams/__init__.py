"""Streams of experiences, the data sets below them, and what own ones are made of.

>>> from perdure.streams import Part
>>> Part._fields
('x', 'y')
"""

from typing import TYPE_CHECKING

from ..exports import exports

if TYPE_CHECKING:
    from .datasets.dataset import DataError, Dataset, Part, Source
    from .episodes import EpisodeRecipe, Episodes, Tasks
    from .experience import Batch, Experience, Samples, Split, Stream
    from .live.source import Arrival, LiveSource, SetAside
    from .recipe import OfData, Recipe
    from .storage.directories import DataNotFound, Places

__all__ = [
    "Arrival",
    "Batch",
    "DataError",
    "DataNotFound",
    "Dataset",
    "EpisodeRecipe",
    "Episodes",
    "Experience",
    "LiveSource",
    "OfData",
    "Part",
    "Places",
    "Recipe",
    "Samples",
    "SetAside",
    "Source",
    "Split",
    "Stream",
    "Tasks",
]

_HOMES = {
    ".datasets.dataset": ["DataError", "Dataset", "Part", "Source"],
    ".episodes": ["EpisodeRecipe", "Episodes", "Tasks"],
    ".experience": ["Batch", "Experience", "Samples", "Split", "Stream"],
    ".live.source": ["Arrival", "LiveSource", "SetAside"],
    ".recipe": ["OfData", "Recipe"],
    ".storage.directories": ["DataNotFound", "Places"],
}

__getattr__, __dir__ = exports(__name__, {name: home for home, names in _HOMES.items() for name in names})

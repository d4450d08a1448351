"""What a strategy dreams of each class, so that one sees memory fade."""

from typing import Any

from torch import Tensor

from ...strategies.base import Chain, State, Strategy, stages
from ...strategies.methods.generative_replay import GenerativeReplay
from ...streams.experience import pixels
from .samples import sheet

EACH = 10  # dreams of a class


def pools(strategy: Strategy, state: State) -> list[dict[str, Tensor]]:
    """The dreams of every stage that has images to show: x (N, C, H, W), y (N,)."""
    parts = stages(strategy)
    states = state if isinstance(strategy, Chain) else (state,)
    return [
        own["pool"]
        for stage, own in zip(parts, states, strict=True)
        if isinstance(stage, GenerativeReplay) and not stage.layer and own and own["pool"]["x"].dim() == 4
    ]


def drawn(pool: dict[str, Tensor], title: str = "") -> Any:
    """A figure: a row for each class that is dreamt of, its first dreams side by side."""
    x, y = pixels(pool["x"]), pool["y"]
    labels = y.unique().tolist()
    return sheet([x[y == label][:EACH] for label in labels], EACH, labels, title, "class")

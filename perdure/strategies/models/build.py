"""A model, once it is clear that there is memory for it."""

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ...errors import reading
from ...limits import TooLarge, expect_room

COPIES = 4  # of every weight: itself, its gradient, and the two moments of Adam


def built(recipe: Any, text: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The model that a recipe, which is spelled `text`, makes for samples of a shape and a number of classes.

    Raises TooLarge before anything is allocated, ValueError for what cannot be built.
    """
    remedy = "take another model, or other numbers in it"
    with reading(f"{text} cannot be built for samples {shape} of {classes} classes", remedy):
        needs = COPIES * _bytes(recipe, shape, classes)
        expect_room(f"{text} for samples {shape}, with gradients and moments", needs)
        return recipe.build(shape, classes)


@lru_cache(maxsize=256)
def _bytes(recipe: Any, shape: tuple[int, ...], classes: int) -> int:
    """Of all weights and buffers, none of which is allocated; 0 where a model looks at values as it is built."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = recipe.build(shape, classes)
        tensors = [*model.parameters(), *model.buffers()]
    except RuntimeError as e:
        if "overflow" in str(e):  # more bytes than 64 bits can count
            raise TooLarge(f"{recipe} for samples {shape} is larger than any memory") from None
        return 0
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return 0  # what is wrong is told as it is built
    return sum(t.numel() * t.element_size() for t in tensors)

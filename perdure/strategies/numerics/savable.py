"""Whether a state can be kept: what of it no checkpoint holds, by its place in the state."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)
KINDS = "tensors, numbers, texts, and lists, tuples and dicts of these"


def problem(state: Any, place: str = "state") -> str:
    """Of the first part that `torch.load(weights_only=True)` would not read back; empty where there is none.

    >>> problem({"mean": 0.5, "mine": {"function": print}})
    "state['mine']['function'] is a builtin_function_or_method"
    """
    if isinstance(state, Tensor):
        return f"{place} carries the graph it was computed by; detach it" if state.grad_fn is not None else ""
    if type(state) in (dict, OrderedDict):
        strange = next((key for key in state if type(key) not in PLAIN and type(key) is not tuple), None)
        if strange is not None:
            return f"a key of {place} is a {type(strange).__name__}"
        return _first((value, f"{place}[{key!r}]") for key, value in state.items())
    if type(state) in (list, tuple):
        return _first((value, f"{place}[{n}]") for n, value in enumerate(state))
    return "" if type(state) in PLAIN else f"{place} is a {type(state).__name__}"


def tensors(state: Any, place: str = "state") -> list[tuple[str, Tensor]]:
    """All tensors of a state that can be kept, with their places."""
    if isinstance(state, Tensor):
        return [(place, state)]
    if isinstance(state, dict):
        return [found for key, value in state.items() for found in tensors(value, f"{place}[{key!r}]")]
    if isinstance(state, list | tuple) and not isinstance(state, torch.Size):
        return [found for n, value in enumerate(state) for found in tensors(value, f"{place}[{n}]")]
    return []


def _first(parts: Any) -> str:
    return next(filter(None, (problem(value, place) for value, place in parts)), "")

"""Nested dicts, lists and tuples of tensors and numbers: what states and checkpoints are."""

from typing import Any

from torch import Tensor


def copied(value: Any) -> Any:
    """The same with every tensor copied."""
    match value:
        case Tensor():
            return value.clone()
        case dict():
            return {k: copied(v) for k, v in value.items()}
        case list() | tuple():
            return type(value)(map(copied, value))
    return value


def state_bytes(state: Any) -> int:
    """Bytes of all tensors."""
    match state:
        case Tensor():
            return state.numel() * state.element_size()
        case dict():
            return sum(map(state_bytes, state.values()))
        case list() | tuple():
            return sum(map(state_bytes, state))
    return 0

"""What a hook of one's own returned and must not have: the error that names it."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor


class WrongReturn(ValueError):
    """A hook returned what it must not: which, what was expected, and what came."""


def refuse(owner: Any, hook: str, expected: str, came: str) -> NoReturn:
    """Raises WrongReturn."""
    raise WrongReturn(f"{type(owner).__name__}.{hook} must return {expected}; got {came} ({_where(owner, hook)})")


def expect_tensor(owner: Any, hook: str, what: str, made: Any, shape: Any, like: Tensor) -> None:
    """Refuse what is no tensor of a shape, of the type and on the device of another: it would be broadcast."""
    place = f"{_shape(shape)} {_kind(like)} on {like.device}"
    if not isinstance(made, Tensor):
        refuse(owner, hook, f"{what} as a tensor {place}", said(made))
    if tuple(made.shape) != tuple(shape) or made.dtype != like.dtype or made.device != like.device:
        refuse(owner, hook, f"{what} as {place}", f"{_shape(made.shape)} {_kind(made)} on {made.device}")


def expect_like(owner: Any, hook: str, what: str, made: Any, given: Mapping[str, Tensor]) -> None:
    """Refuse what has not a tensor like each of those given, under the same name."""
    if not isinstance(made, Mapping):
        refuse(owner, hook, f"a dict with {what} for every weight", said(made))
    if made.keys() != given.keys():
        lacking, more = sorted(given.keys() - made.keys()), sorted(map(str, made.keys() - given.keys()))
        came = [f"lacks {', '.join(lacking)}"] * bool(lacking) + [f"has {', '.join(more)} beside"] * bool(more)
        refuse(owner, hook, f"{what} for every weight that it was given", f"what {'; '.join(came)}")
    for name, like in given.items():
        expect_tensor(owner, hook, f"{what} of {name}", made[name], like.shape, like)


def said(made: Any) -> str:
    """What came, in words."""
    if made is None:
        return "None, as from a function without return"
    if isinstance(made, Tensor):
        return f"a tensor {_shape(made.shape)} {_kind(made)}"
    if isinstance(made, str | int | float):
        return repr(made)[:80]
    return f"a {type(made).__name__}"


def finite(*given: Tensor) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in given)


def _shape(shape: Any) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _where(owner: Any, hook: str) -> str:
    """The line where a hook is written."""
    code = inspect.unwrap(getattr(type(owner), hook)).__code__
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}"

"""How a command speaks: on which console, of cautions, and of results to programs."""

import json
import warnings
from collections.abc import Callable
from functools import partial
from math import isnan
from typing import Any


def console(stderr: bool = False):
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=140)


def saying(console) -> Callable[[str], None]:
    """Prints lines as they are, however long."""
    return partial(console.print, markup=False, highlight=False, soft_wrap=True)


def cautioning() -> None:
    """Let cautions look like messages, without the place in the code that they come from."""
    from ..strategies.attacks.oracles import MaskedGradients
    from ..strategies.training.requirements import Caution

    plain = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any) -> None:
        if issubclass(category, Caution | MaskedGradients):
            saying(console(stderr=True))(f"caution: {message}")
        else:
            plain(message, category, *where)

    warnings.showwarning = show


def as_json(value: Any) -> str:
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """NaN, which JSON does not know, as null."""
    match value:
        case float():
            return None if isnan(value) else value
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
    return value

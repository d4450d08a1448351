"""Texts and objects alike, as texts."""

from collections.abc import Callable, Sequence
from typing import Any


def as_texts(given: Any, kind: type, what: str, spelled: Callable[[Any], str], least: int = 1) -> list[str]:
    """Texts and objects, or one alone, as texts. Raises ValueError where they are something else, or too few."""
    several = [given] if isinstance(given, str | kind) else given
    if not isinstance(several, Sequence) or not all(isinstance(one, str | kind) for one in several):
        raise ValueError(f"expected {what} as texts or as objects, got {given!r}")
    if len(several) < least:
        raise ValueError(f"expected {what}, one at least, got none")
    return [one if isinstance(one, str) else spelled(one) for one in several]

"""Runs that are made while they are watched."""

import sys
from collections.abc import Callable
from typing import Any

from .terminal import cautioning, console


def conducted(make: Callable[[Any], Any], json: bool) -> None:
    """Make runs while they are watched, show what came out, and leave with the code that says it."""
    from .live_progress import watch
    from .views.result import made

    cautioning()
    comparison = make(lambda command: watch(command, console(stderr=True)))
    made(comparison, json, console())
    sys.exit(130 if comparison.stopped else 1 if comparison.failed else 0)

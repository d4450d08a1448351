"""The kinds of runs."""

from typing import Any

from .meta_run import MetaRun
from .run import Run

AnyRun = Run | MetaRun


def run_of(row: dict[str, Any]) -> AnyRun:
    """The run that `asdict` wrote down."""
    return MetaRun.of(row) if "learner" in row else Run.of(row)

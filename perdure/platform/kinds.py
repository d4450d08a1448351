"""The kinds of runs."""

from typing import Any

from .meta.run import MetaRun
from .run import Run
from .work import Kind

AnyRun = Run | MetaRun


def kind(run: AnyRun) -> Kind:
    """What runs of this kind do in their own way."""
    if isinstance(run, MetaRun):
        from .meta.work import META

        return META
    from .continual import CONTINUAL

    return CONTINUAL


def run_of(row: dict[str, Any]) -> AnyRun:
    """The run that `asdict` wrote down."""
    return MetaRun.of(row) if "learner" in row else Run.of(row)

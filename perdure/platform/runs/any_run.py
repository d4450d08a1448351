"""The kinds of runs."""

from typing import Any

from ..workloads.work import Kind
from .meta_run import MetaRun
from .run import Run

AnyRun = Run | MetaRun


def kind(run: AnyRun) -> Kind:
    """What runs of this kind do in their own way."""
    if isinstance(run, MetaRun):
        from ..workloads.meta_learning import META

        return META
    from ..workloads.continual import CONTINUAL

    return CONTINUAL


def run_of(row: dict[str, Any]) -> AnyRun:
    """The run that `asdict` wrote down."""
    return MetaRun.of(row) if "learner" in row else Run.of(row)

"""How a run of each kind is tracked, compared and reported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..runs import command_line, meta_command_line
from ..runs.any_run import AnyRun
from ..runs.journal import Row
from ..runs.meta_run import MetaRun
from . import comparison, comparison_page, curves, meta_comparison


@dataclass(frozen=True)
class Reporting:
    """How runs of one kind are tracked, compared and reported."""

    curves: Callable[[], Callable[[Row], dict[str, float]]]  # called with rows in order, gives a tracker's points
    tables: Callable[[Sequence[Row]], dict[str, str]]  # of a finished run, CSV texts by file name
    compared: Callable[..., Any]  # a Comparison of outcomes
    report: Callable[[Any], str]  # its report, as HTML
    line: Callable[..., str]  # what to type for runs of some methods from some seeds


CONTINUAL = Reporting(curves.Curves, curves.tables, comparison.Comparison, comparison_page.html, command_line.line)
META = Reporting(
    lambda: lambda row: meta_comparison.told([row]),
    lambda rows: {},  # curves say it all
    meta_comparison.MetaComparison,
    meta_comparison.html,
    meta_command_line.line,
)


def reporting(run: AnyRun) -> Reporting:
    """How runs of this kind are tracked, compared and reported."""
    return META if isinstance(run, MetaRun) else CONTINUAL

"""How strategies and meta-learners compare, and what to do next."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...platform.storage.locations import fetch_line, line_for
from ..terminal import as_json, saying
from .meta import meta_table
from .profile import profile
from .run import about

if TYPE_CHECKING:
    from ...platform.reports.comparison import Comparison
    from ...platform.reports.meta_comparison import MetaComparison


def comparison(made: "Comparison | MetaComparison", console) -> None:
    """The league table, what went wrong, and what to do next."""
    say = saying(console)
    tables(made, console)
    for o in made.outcomes:
        if o.profile:
            profile(o, console)
        elif o.status == "finished" and made.how.get("profile"):
            say(f"no profile of {o.run.id}: it had been made before, or has a loop of its own; --again makes it anew")
    ended(made, say)


def ended(made: Any, say: Callable[[str], None]) -> None:
    """What is said at the end of every command that makes runs."""
    if made.undelivered:
        say(made.undelivered)
    if made.stopped:
        say(f"stopped; go on with: {line_for('resume')}")
    reported(made.report, say, made.unwritten)


def reported(report: str | Path, say: Callable[[str], None], unwritten: str = "") -> None:
    """Where a report is, and what to type next: of a submitted job, on the laptop that it was submitted from."""
    fetch = fetch_line()
    if unwritten or not fetch:
        say(unwritten or f"report: {report}")
    say(f"next:   {fetch or 'perdure ui'}")


def tables(made: "Comparison | MetaComparison", console) -> None:
    from ...platform.reports.meta_comparison import MetaComparison

    if made.league:
        meta_table(made, console) if isinstance(made, MetaComparison) else _league_table(made, console)
    for o in made.failed:
        told = f"failed: {o.run.method} seed {o.run.seed}: {o.problem}"
        saying(console)(told)


def _league_table(comparison: "Comparison", console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ...platform.reports.page import carried, percent, plain

    run = comparison.outcomes[0].run
    length = f"{run.plan.steps} steps" if run.plan.steps else f"{run.plan.epochs} epochs"
    title = Text(f"{run.stream}, {run.model}, {run.optimizer}, {length} of batch size {run.plan.batch_size}")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("strategy")
    shown = [(text, k, name) for text in run.attacks for k, name in _columns(text, comparison)]
    poison = ["poison success %"] if comparison.poisoned else []
    attacked = [name for *_, name in shown]
    for name in ("accuracy %", "forgetting %", *poison, *attacked, "seconds", "carried on", "seeds"):
        table.add_column(Text(name), justify="right", no_wrap=len(name) < 14)
    for s in comparison.league:
        cells = [percent(s.accuracy), percent(s.forgetting), *([percent(s.poison_success)] if poison else [])]
        cells += [percent(s.under[text][k]) for text, k, _ in shown]
        table.add_row(Text(s.strategy), *cells, plain(s.seconds), carried(s.state_bytes), str(len(s.seeds)))
    console.print(table)
    for name, doubt in comparison.masked.items():
        saying(console)(f"caution: {name}: {doubt}")


def _columns(attack: str, comparison: "Comparison") -> list[tuple[str, str]]:
    """What of an attack has a column, and its title; of one that aims at a class also how often it gets there."""
    title, aimed = comparison.attack_titles[attack], attack in comparison.aimed
    return [("robust_accuracy", f"{title} %")] + ([("success", f"{title} success %")] if aimed else [])


def comparison_json(comparison: "Comparison | MetaComparison") -> str:
    from ...platform.reports.meta_comparison import MetaComparison

    league = [asdict(s) for s in comparison.league]
    known = {"command": comparison.line, "report": comparison.report, "stopped": comparison.stopped}
    if not isinstance(comparison, MetaComparison):
        known["cautions"] = comparison.cautions
    return as_json(known | {"league": league, "runs": [about(o) for o in comparison.outcomes]})

"""How meta-learners compare."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...platform.reports.meta_comparison import MetaComparison


def meta_table(comparison: "MetaComparison", console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ...platform.reports.page import percent, plain, small

    run, league = comparison.outcomes[0].run, comparison.league
    what, unit, shown = ("accuracy", " %", percent) if league[0].accuracy else ("loss", "", small)
    length = f"{run.plan.iterations} iterations of {run.plan.batch} tasks"
    settings = ", ".join(filter(None, (run.episodes, run.model, comparison.outer, run.loss, length)))
    title = Text(f"{settings}; {what}{unit} on {run.tested} test tasks after")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("meta-learner")
    counts = sorted({count for s in league for count in s.steps})
    words = [f"{count} step{'' if count == 1 else 's'}" for count in counts]
    for name in (*words, "left out", "seconds", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in league:
        known = dict(zip(s.steps, s.accuracy or s.loss, strict=True))
        cells = [shown(known[count]) if count in known else "–" for count in counts]
        table.add_row(Text(s.learner), *cells, str(s.diverged), plain(s.seconds), str(len(s.seeds)))
    console.print(table)

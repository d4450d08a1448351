"""What a search has found."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..terminal import as_json, saying
from .comparison import comparison_json, ended, tables

if TYPE_CHECKING:
    from ...platform.search.results import Searched
    from ...platform.search.trial_result import Tried

SHOWN = 10  # trials of a search; the report has all


def trial(tried: "Tried", console) -> None:
    """A line for a trial of a search that has come to an end: what differs between trials, and what it has come to."""
    settings = ", ".join(f"{name} = {value}" for name, value in tried.settings.items())
    told = tried.problem or f"{', '.join(f'{value:.4g}' for value in tried.values)} after {tried.milestones}"
    saying(console)(f"trial {tried.number}: {settings}: {tried.status}: {told}")


def searched(known: "Searched", console) -> None:
    """The best trials, the front of two objectives, and what the best are worth on test samples."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ...platform.search.results import shown, title

    search, front = known.search, known.front if len(known.search.aims) == 2 else []
    about = f"{len(known.trials)} trials of {search.run.method} on {search.run.on}"
    table = Table(box=box.SIMPLE_HEAD, title=Text(about), title_justify="left", title_style="bold")
    for name in ("trial", *search.space.parameters, *map(title, search.aims), "milestones", "status", "runs"):
        table.add_column(Text(name), justify="left" if name in ("status", "runs") else "right")
    for t in known.table[: max(SHOWN, len(front))]:
        values = [
            shown(aim, value) if t.status != "failed" else "–" for aim, value in zip(search.aims, t.values, strict=True)
        ]
        settings = [Text(t.settings[name]) for name in search.space.parameters]
        status = t.status + (", on the front" if t in front else "")
        table.add_row(str(t.number), *settings, *values, str(t.milestones), status, " ".join(t.runs))
    console.print(table)
    say = saying(console)
    if len(known.trials) > len(known.table[: max(SHOWN, len(front))]):
        say(f"and {len(known.trials) - max(SHOWN, len(front))} more, in the report\n")
    for t in (t for t in known.trials if t.status == "failed"):
        say(f"failed: trial {t.number}, {t.method}: {t.problem}")
    for final in known.finals:
        say("\nthe best again, tested, from seeds that no trial had:")
        tables(final, console)
    ended(known, say)


def searched_json(known: "Searched") -> str:
    from ...platform.runs.run import Run

    trials = [asdict(t) | {"values": t.reached} for t in known.table]
    best = {"best": [t.number for t in known.best], "front": [t.number for t in known.front]}
    told = {"id": known.search.id, "command": known.line, "report": known.report, "stopped": known.stopped}
    told |= {
        "kind": "continual" if isinstance(known.search.run, Run) else "meta",
        "objectives": known.search.objectives,
    }
    finals = [json.loads(comparison_json(final)) for final in known.finals]
    return as_json(told | {"trials": trials} | best | {"finals": finals})

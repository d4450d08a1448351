"""One run: what it is, and what it has come to."""

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from ..terminal import as_json, saying
from .profile import profile

if TYPE_CHECKING:
    from ...platform.reports.outcome import Outcome


def outcome(known: "Outcome", console, plugins: Sequence[str] = ()) -> None:
    """One run: what it is, how far it came, its accuracy matrix, and the line to make it again."""
    from rich.table import Table
    from rich.text import Text

    from ...platform.reports.kinds import reporting
    from ...platform.reports.meta_comparison import told
    from ...platform.runs.meta_run import MetaRun
    from ...strategies.attacks.names import whole

    run, meta = known.run, isinstance(known.run, MetaRun)
    facts = Table.grid(padding=(0, 3))
    values = {"run": run.id, "status": known.status} | run.row()
    values |= {"attacks": ", ".join(map(whole, run.attacks))} if not meta and run.attacks else {}
    reached = {k: v for k, v in (told(known.rows) if meta else known.so_far()).items() if not isnan(v)}
    so_far = "" if known.status == "finished" else " so far"
    values |= {k.replace("_", " ") + so_far: f"{v:.4g}" if meta else f"{100 * v:.1f} %" for k, v in reached.items()}
    for name, value in (values | {"seconds": f"{known.seconds:.1f}"}).items():
        facts.add_row(name, Text(str(value)))
    console.print(facts)
    if known.problem:
        console.print(f"\n{known.problem}", markup=False, highlight=False)
    if not meta:
        _matrices(known, console)
    if known.profile:
        profile(known, console)
    again = reporting(run).line([run.method], run, [run.seed], {"plugins": plugins})
    saying(console)(f"\nmake it again:\n  {again}")


def _matrices(known: "Outcome", console) -> None:
    """Accuracy after each experience, clean and under every attack, and what the strategy tells of itself."""
    from ...strategies.attacks.names import whole

    if known.rows:
        console.print("\naccuracy (%) after each experience, on each:")
        for row in known.rows:
            console.print(f"  {row['experience'] + 1:3d}  {percents(row['accuracy'])}", highlight=False)
    for attack, robust in known.under().items():
        console.print(
            f"\naccuracy (%) under {whole(attack)} after each experience, on each:", markup=False, highlight=False
        )
        for i, row in enumerate(robust):
            console.print(f"  {i + 1:3d}  {percents(row)}", highlight=False)
    _extras(known, console)


def _extras(known: "Outcome", console) -> None:
    """What the strategy tells of itself: a line over the stream for each number, and the cosines between tasks."""
    from ...platform.figures.accuracy import cosines

    rows = known.extras()
    for key in dict.fromkeys(k for row in rows for k in row if not k.startswith("cosine/")):
        console.print(f"\n{key} after each experience:", highlight=False)
        cells = "".join(f"{row[key]:8.4g}" if key in row else f"{'–':>8}" for row in rows)
        console.print(f"       {cells}", highlight=False)
    between = cosines(rows[-1]) if rows else []
    if between:
        console.print("\ncosine between the gradients of experiences, after the last:")
        for i, line_ in enumerate(between):
            console.print(f"  {i + 1:3d}  " + "".join(f"{v:7.2f}" for v in line_), highlight=False)


def percents(shares) -> str:
    """Side by side; a dash where no test was made."""
    return "".join(f"{'–':>7}" if v is None or isnan(v) else f"{100 * v:7.1f}" for v in shares)


def outcome_json(known: "Outcome") -> str:
    return as_json(about(known))


def about(known: "Outcome") -> dict[str, Any]:
    from ...platform.reports.meta_comparison import ended
    from ...platform.runs.meta_run import MetaRun

    told_of = {"id": known.run.id, **known.run.row(), "status": known.status, "problem": known.problem}
    if isinstance(known.run, MetaRun):
        return told_of | ended(known) | {"seconds": known.seconds, "journal": known.rows}
    made = told_of | known.metrics() | {"seconds": known.seconds, "matrix": [r["accuracy"] for r in known.rows]}
    made |= {"robust": known.under()} if known.under() else {}
    poison = known.poison_success()
    made |= {} if isnan(poison) else {"poison_success": poison}
    return made | ({"profile": known.profile} if known.profile else {})

"""Where the time of a run went."""

from typing import TYPE_CHECKING

from ..terminal import saying

if TYPE_CHECKING:
    from ...platform.reports.outcome import Outcome


def profile(known: "Outcome", console) -> None:
    """Where the time of a run went, phase by phase."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    told = known.profile
    title = Text(f"where the time of {known.run.method}, seed {known.run.seed}, went: {told['steps']} steps")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("phase")
    for name in ("times", "seconds", "share %", "µs a step"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in told["phases"]:
        each = "–" if line["per_step"] is None else f"{line['per_step']:.0f}"
        table.add_row(line["phase"], str(line["calls"]), f"{line['seconds']:.3f}", f"{100 * line['share']:.1f}", each)
    console.print(table)
    if told["device"] != "cpu" and told["not captured"]:
        console.print(f"steps are not captured: {told['not captured']}", markup=False, highlight=False)
    saying(console)(f"chart:  {told['chart']}")

"""`perdure generate`: a generator by itself, judged and drawn."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from .. import options as o
from ..progress import Pace, minutely
from ..terminal import as_json, console, saying
from ..views.comparison import reported

if TYPE_CHECKING:
    from ...platform.evaluation.generation import Generated


def generate(
    generator: Annotated[str, Argument(help="A generator, as 'vae(32)' or 'diffusion(depth=2)'.")] = "vae",
    on: Annotated[str, Option("--on", help="A data set, as 'fashion_mnist'.", rich_help_panel=o.WHAT)] = "digits",
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    experiment: o.Experiment = "",
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Fit a generator to a data set, judge what it draws, and show it.

    Typed again, it tells what it has made.

    Examples:

        perdure generate vae

        perdure generate "diffusion(depth=2)" --on fashion_mnist

        perdure generate "gan(64)" --on "images('photos', size=32)" --seed 3
    """
    from ...platform.evaluation.generation import Generation
    from ...platform.tracking.addresses import default_uri

    asked, uri = Generation(generator, on, seed, threads, device), (tracking_uri or default_uri()) if tracking else None
    made = _watched(console(stderr=True), asked, home, data, uri, experiment, again)
    print(_json(made)) if json else _shown(made)


def _watched(screen, asked, home: str, data: str | None, uri: str | None, experiment: str, again: bool):
    """Make a generator while a bar shows its steps, its epoch and the time that is left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ...platform.evaluation.generation import generate

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps,"))
    columns += (TimeRemainingColumn(), TextColumn("left; {task.fields[told]}"))
    last, pace = None, Pace()

    def told() -> str:
        if last is None:
            return ""
        left = pace.left(last.step, last.steps - last.step) or ", being judged and drawn"
        return f"{last.step:,} of {last.steps:,} steps{left}"

    with Progress(*columns, console=screen, transient=True) as bar, minutely(told, screen):
        task = bar.add_task("fitting", total=None, told="")

        def heard(progress) -> None:
            nonlocal last
            last = progress
            values = ", ".join(f"{name} {value:.4g}" for name, value in progress.values.items())
            bar.update(
                task, completed=progress.step, total=progress.steps, told=f"epoch {progress.epoch:.1f}, {values}"
            )
            if progress.step == progress.steps:
                bar.update(task, description="judging and drawing")

        return generate(asked, home, data, uri, experiment, again, heard)


def _shown(made: "Generated") -> None:
    """What a fitted generator is worth, and where its pictures are."""
    from rich.table import Table
    from rich.text import Text

    from ...platform.evaluation.generation import WORDS
    from ...platform.reports.page import carried

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, value in made.measures.items():
        shown = carried(value) if name == "bytes" else str(value) if name == "classes" else f"{value:.3f}"
        table.add_row(Text(name.replace("_", " ")), shown, Text(WORDS[name]))
    screen = console()
    screen.print(Text(f"{made.generation.generator} on {made.generation.on}", style="bold"))
    screen.print(table)
    say = saying(screen)
    if made.undelivered:
        say(made.undelivered)
    reported(made.report, say)


def _json(made: "Generated") -> str:
    told = {"id": made.generation.id} | asdict(made.generation) | {"measures": made.measures}
    return as_json(told | {"report": str(made.report)})

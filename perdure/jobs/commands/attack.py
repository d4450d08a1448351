"""`perdure attack`: what attacks leave of a finished run."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ...platform.storage.locations import fetch_line
from .. import options as o
from ..progress import Pace, minutely
from ..terminal import as_json, cautioning, console, saying
from ..views.comparison import reported
from ..views.run import percents

if TYPE_CHECKING:
    from ...platform.evaluation.robustness import Damage


def attack(
    attacks: Annotated[list[str], Argument(help="Attacks, as 'pgd(eps=0.1)' or 'cw'.")],
    run: Annotated[str, Option("--run", help="Id of a finished run, or its beginning.")],
    threat: Annotated[
        str, Option(help="What is seen: 'white', 'gray(100)', 'black(1000)', 'transfer(mlp)'.")
    ] = "white",
    samples: Annotated[int, Option(help="Test samples, as many of each experience.", min=1)] = 1000,
    seed: o.Seed = 0,
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    here: o.Here = True,
    slots: o.Slots = None,
    address: o.Address = None,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    experiment: o.Experiment = "",
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Attack a finished run: what is left of its accuracy, at what cost, with pictures.

    Examples:

        perdure attack "pgd(eps=0.1)" "cw" --run 5f2c

        perdure attack square --run 5f2c --threat "black(500)"

        perdure attack "hop_skip_jump" --run 5f2c --threat "black(5000, sees='labels')" --fleet
    """
    from ...platform.tracking.addresses import default_uri

    arguments = {"home": home, "data": data, "samples": samples, "seed": seed, "plugin": tuple(plugin or ())}
    arguments |= {"here": here and not address and slots is None, "slots": slots, "address": address}
    arguments["tracking_uri"] = (tracking_uri or default_uri()) if tracking else None
    arguments["experiment"] = experiment
    cautioning()
    made = _watched(console(stderr=True), run, attacks, threat, **arguments)
    print(_json(made)) if json else _shown(made)


def _watched(screen, run: str, attacks: list[str], threat: str, **how):
    """Attack a run while a bar, or a line a minute, shows the samples that are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ...platform.evaluation.robustness import assault
    from ...strategies.attacks.names import whole

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("samples,"),
    )
    tasks, last, pace = {}, ("", 0, 1), Pace()
    bar = Progress(*columns, TimeRemainingColumn(), TextColumn("left"), console=screen, transient=True)

    def progress() -> str:
        (text, done, count), begun = last, len(tasks)
        share = max(0, begun - 1) + done / count
        place = f"; {whole(text)}: {done:,} of {count:,} samples" if text else ""
        return f"{int(share)} of {len(attacks)} attacks{pace.left(share, len(attacks) - share)}{place}"

    with bar, minutely(progress, screen):

        def heard(attack: str, done: int, count: int) -> None:
            nonlocal last
            if attack not in tasks:
                tasks[attack] = bar.add_task(whole(attack), total=count)
            bar.update(tasks[attack], completed=done)
            last = attack, done, count

        return assault(run, attacks, threat, hear=heard, **how)


def _shown(made: "Damage") -> None:
    """What attacks have left of a run's accuracy: a line for each, then each experience, then pictures."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ...platform.evaluation.robustness import COLUMNS

    run = made.assault.run
    title = Text(f"{run.strategy} on {run.stream}, {run.model}, seed {run.seed}; threat: {made.assault.threat}")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("attack")
    for column in COLUMNS:
        table.add_column(column.title, justify="right", no_wrap=True)
    for one in made.blows:
        table.add_row(Text(one.title), *(column.cell(one.measures) for column in COLUMNS))
    screen = console()
    screen.print(table)
    say = saying(screen)
    for one in made.blows:
        say(f"{one.title}, robust % on each experience: {percents(one.robust)}")
    for one in made.blows:
        if one.picture and not fetch_line():  # of a job it comes with the report
            say(f"picture: {one.picture}")
    if made.undelivered:
        say(made.undelivered)
    reported(made.report, say)


def _json(made: "Damage") -> str:
    about = {"id": made.assault.id, "run": made.assault.run.id, "threat": made.assault.threat}
    told = [
        {"attack": b.attack, "measures": b.measures, "clean": b.clean, "robust": b.robust}
        | {"picture": b.picture and str(b.picture)}
        for b in made.blows
    ]
    return as_json(about | {"attacks": told, "cautions": made.cautions, "report": str(made.report)})

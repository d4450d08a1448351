"""`perdure follow`: a model that is kept current by what arrives."""

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ...platform.storage.locations import fetch_line, line_for
from .. import options as o
from ..terminal import as_json, cautioning, console, saying

if TYPE_CHECKING:
    from ...platform.live.session import Followed


def follow(
    source: o.Source,
    state: o.Kept,
    strategy: Annotated[str, Option(help="As 'rehearsal(500) + ewc(100)'.", rich_help_panel=o.WHAT)] = "rehearsal(500)",
    classes: o.Room = "10",
    model: o.Model = "mlp(64, 64)",
    optimizer: o.Optimizer = "adam",
    epochs: o.Epochs = 20,
    steps: o.Steps = None,
    batch_size: o.BatchSize = 32,
    hold_out: o.HoldOut = 0.2,
    seed: o.Seed = 0,
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    register: o.Register = None,
    alias: o.Alias = "champion",
    tolerance: o.Tolerance = 0.02,
    arrivals: o.Arrivals = None,
    idle: o.Idle = None,
    ahead: o.Ahead = 2,
    here: o.Here = False,
    address: o.Address = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    experiment: o.Experiment = "",
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Learn what arrives, for as long as it does, and keep a model current.

    Each arrival is one experience: a file .npz, .csv or .parquet, or a folder of class folders of pictures. After it
    the model is judged on everything held out so far, kept, and registered as a new version. Typed again, it goes on.

    Examples:

        perdure follow inbox --state kinds --classes 10

        perdure follow inbox --strategy "rehearsal(1000) + ewc(10)" --state kinds --register kinds --tolerance 0.02

        perdure follow "folder('inbox', label='kind', size=32)" --state kinds --classes cat,dog,fox --model convnet

        perdure follow readings --plugin sensors.py --state kinds --idle 60
    """
    arguments = {k: v for k, v in locals().items() if k not in ("recipe", "json", "plugin")}
    from ...platform.api.follow import follow as followed

    cautioning()
    say = saying(console(stderr=True))
    made = followed(**arguments, plugins=tuple(plugin or ()), hear=lambda what, of: say(_told_of(what, of)))
    print(_json(made)) if json else _shown(made, line_for(shlex.join(sys.argv[1:])))
    sys.exit(130 if made.stopped else 0)


def _shown(made: "Followed", line: str) -> None:
    """How every class is answered now, what was set aside, and how to go on."""
    say = saying(console())
    if made.rows:
        say(f"{len(made.rows)} arrivals learned; accuracy by class, on what was held out:")
        for label, accuracy in made.accuracy.items():
            say(f"  {label:20s} {100 * accuracy:5.1f} %  of {made.rows[-1]['classes'][label][0]}")
    if made.asides:
        say(f"{len(made.asides)} set aside: {made.folder}/aside.jsonl says why")
    if made.undelivered:
        say(f"MLflow lacks something ({made.undelivered}); it gets it when this is gone on with")
    if made.stopped:
        say(f"stopped; go on with: {line}")
    fetch = fetch_line()
    say(f"next:   {fetch}" if fetch else f"kept in {made.folder}, with pictures")


def _json(made: "Followed") -> str:
    about = {"folder": made.folder, **made.following.row(), "stopped": made.stopped, "accuracy": made.accuracy}
    return as_json(about | {"undelivered": made.undelivered, "arrivals": made.rows, "aside": made.asides})


def _told_of(what: str, of) -> str:
    if what == "aside":
        return f"set aside {of['name']}: {of['reason']}"
    if what == "said":
        return of
    held, right = (sum(counts[k] for counts in of["classes"].values()) for k in (0, 1))
    worst = min(of["classes"], key=lambda label: of["classes"][label][1] / of["classes"][label][0])
    count, hits = of["classes"][worst]
    return (
        f"arrival {of['experience'] + 1}, {of['name']}: accuracy {100 * right / held:.1f} % on all {held} held out; "
        f"lowest, class {worst}: {100 * hits / count:.1f} %"
    )

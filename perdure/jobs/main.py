"""The command `perdure`: reads text into arguments, and shows what came out."""

import gc
import shlex
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer import Argument, Option

from ..notation import UnknownName
from . import options as o
from . import submitting
from .recipe import Command as Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Continual learning on Ray: compare strategies against forgetting, on streams of tasks, over several seeds.",
    epilog="Start with `perdure compare`. Then `perdure list` for all names, `perdure COMMAND --help` for examples.",
)
COMPARE = """Learn a stream with several strategies from several seeds, and compare them.

Without arguments: five strategies on scikit-learn's digits. Typed again, it goes on where it was stopped.

Examples:

    perdure compare

    perdure compare naive "rehearsal(500)" "rehearsal(500) + ewc(100)" --on "split(fashion_mnist)" --seeds 5

    perdure compare naive joint --on "permuted(digits, 10)" --model "mlp(100)" --epochs 5

    perdure compare --recipe mine.yaml seeds=10
"""
RUN = """Learn a stream with one strategy from one seed.

Examples:

    perdure run "rehearsal(200)"

    perdure run "ewc(100)" --on "rotated(digits, 5)" --seed 3 --model "mlp(100)"

    perdure run naive --on "split(images('photos'))" --model resnet18

    perdure run "rehearsal(200) + adversarial(pgd(steps=7))" --attack "pgd(eps=0.1)" --attack fgsm

    perdure run "rehearsal(2000)" --on "split(fashion_mnist)" --model resnet18 --batch-size 256 --workers 4

    perdure run "rehearsal(200) + ewc" --profile
"""
FOLLOW = """Learn what arrives, for as long as it does, and keep a model current.

Each arrival is one experience: a file .npz, .csv or .parquet, or a folder of class folders of pictures. After it the
model is judged on everything held out so far, kept, and registered as a new version. Typed again, it goes on.

Examples:

    perdure follow inbox --state kinds --classes 10

    perdure follow inbox --strategy "rehearsal(1000) + ewc(10)" --state kinds --register kinds --tolerance 0.02

    perdure follow "folder('inbox', label='kind', size=32)" --state kinds --classes cat,dog,fox --model convnet

    perdure follow readings --plugin sensors.py --state kinds --idle 60
"""
GENERATE = """Fit a generator to a data set, judge what it draws, and show it.

Typed again, it tells what it has made.

Examples:

    perdure generate vae

    perdure generate "diffusion(depth=2)" --on fashion_mnist

    perdure generate "gan(64)" --on "images('photos', size=32)" --seed 3
"""

META = """Learn what to start from, so that a few steps on a few samples of a new task are enough.

Typed again, it goes on where it was stopped.

Examples:

    perdure meta

    perdure meta "maml(lr=0.01, steps=5)" reptile --on "sinusoid(shots=10)" --iterations 60000 --seeds 3

    perdure meta "maml(0.4, 5)" protonets --on "few_shot(strokes, 5, 5)" --batch 4 --iterations 1000

    perdure meta "maml(0.4, 5)" --on "few_shot(strokes, 5, 1)" --batch 4 --workers 2
"""
TUNE = """Search for settings: a text with choice, uniform, loguniform, quniform or randint where values are sought.

Settings are chosen on samples held out of training, or on validation tasks; the best are then made again from fresh
seeds and tested. Typed again, it goes on where it was stopped.

Examples:

    perdure tune "rehearsal(choice(200, 500)) + ewc(loguniform(1, 1e4))" --on "split(fashion_mnist)" --trials 40

    perdure tune "ewc(loguniform(1, 1e4))" --on "permuted(digits, 10)" --first 3 --scheduler asha

    perdure tune "rehearsal(randint(50, 500))" --objective accuracy --objective state_bytes --by optuna

    perdure tune naive --optimizer "sgd(loguniform(1e-3, 1))" --trials 10

    perdure tune "maml(loguniform(0.001, 1), steps=choice(1, 5))" --on "sinusoid(shots=10)"
"""
ADAPT = """Adapt a finished meta-learner to one new task, and answer what the task asks.

A task is a CSV file, whose last column holds the answers and is empty where one is asked for; an .npz file with arrays
x, y and queries; or a folder of images: its folders are classes, its other images are asked for.

Examples:

    perdure adapt 7a1b --data task.csv

    perdure adapt 7a1b --data task.csv --steps 10 --json
"""
ATTACK = """Attack a finished run: what is left of its accuracy, at what cost, with pictures.

Examples:

    perdure attack "pgd(eps=0.1)" "cw" --run 5f2c

    perdure attack square --run 5f2c --threat "black(500)"

    perdure attack "hop_skip_jump" --run 5f2c --threat "black(5000, labels=True)" --fleet
"""


@app.command(cls=Recipe, help=COMPARE)
def compare(
    strategies: o.Strategies = None,
    on: o.On = "split(digits)",
    seeds: o.Seeds = "3",
    model: o.Model = "mlp(64, 64)",
    optimizer: o.Optimizer = "adam",
    epochs: o.Epochs = 20,
    steps: o.Steps = None,
    batch_size: o.BatchSize = 32,
    accumulate: o.Accumulate = 1,
    precision: o.Precision = "float32",
    compiled: o.Compiled = False,
    threads: o.Threads = 1,
    workers: o.Sharing = 1,
    device: o.Device = "cpu",
    attack: o.Attacks = None,
    attack_samples: o.AttackSamples = 200,
    start: o.Start = "",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    here: o.Here = False,
    slots: o.Slots = None,
    gpus_per_run: o.GpusPerRun = 0.0,
    together: o.Together = None,
    address: o.Address = None,
    silence: o.Silence = 300.0,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    arguments = locals()
    chosen = o.seeds(arguments.pop("seeds"))
    _made(arguments.pop("strategies") or o.DEMO, chosen, **arguments)


@app.command(cls=Recipe, help=RUN)
def run(
    strategy: o.Strategy = "naive",
    on: o.On = "split(digits)",
    seed: o.Seed = 0,
    model: o.Model = "mlp(64, 64)",
    optimizer: o.Optimizer = "adam",
    epochs: o.Epochs = 20,
    steps: o.Steps = None,
    batch_size: o.BatchSize = 32,
    accumulate: o.Accumulate = 1,
    precision: o.Precision = "float32",
    compiled: o.Compiled = False,
    threads: o.Threads = 1,
    workers: o.Sharing = 1,
    device: o.Device = "cpu",
    attack: o.Attacks = None,
    attack_samples: o.AttackSamples = 200,
    start: o.Start = "",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    here: o.Here = True,
    gpus_per_run: o.GpusPerRun = 0.0,
    address: o.Address = None,
    silence: o.Silence = 300.0,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    again: o.Again = False,
    profile: o.Profile = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    arguments = locals()
    arguments["here"] = here and not address
    _made([arguments.pop("strategy")], [arguments.pop("seed")], **arguments)


@app.command(cls=Recipe, help=META)
def meta(
    learners: o.Learners = None,
    on: o.Episodes = "sinusoid",
    seeds: o.Seeds = "1",
    model: o.MetaModel = None,
    optimizer: o.Optimizer = "adam",
    loss: o.Loss = "",
    iterations: o.Iterations = 10_000,
    batch: o.Batch = 25,
    every: o.Every = None,
    judged: o.Judged = 200,
    parts: o.Parts = None,
    compiled: o.Compiled = False,
    tested: o.Tested = 600,
    adapted: o.Adapted = "0,1,5,10",
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    here: o.Here = False,
    workers: o.Workers = 1,
    slots: o.Slots = None,
    gpus_per_run: o.GpusPerRun = 0.0,
    address: o.Address = None,
    silence: o.Silence = 300.0,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    from ..platform import api

    arguments = locals()
    for name in ("api", "recipe", "json", "plugin"):
        del arguments[name]
    arguments |= {"seeds": o.seeds(seeds), "adapted": o.numbers(adapted), "plugins": tuple(plugin or ())}
    arguments |= {"learners": learners or ["maml"], "here": here or workers > 1}
    _conducted(lambda watch: api.meta(watch=watch, **arguments), json)


@app.command(cls=Recipe, help=TUNE)
def tune(
    method: o.Space,
    on: o.Met = "split(digits)",
    trials: o.Trials = 40,
    objective: o.Objectives = None,
    by: o.By = "random",
    scheduler: o.Scheduler = "none",
    grace: o.Grace = 2,
    interval: o.Interval = 1,
    share: o.Held = 0.1,
    first: o.First = None,
    seed: o.Seed = 0,
    seeds_per_trial: o.SeedsPerTrial = 1,
    finalists: o.Finalists = None,
    fresh: o.Fresh = 3,
    model: o.SpaceModel = None,
    optimizer: o.Optimizer = "adam",
    epochs: o.Epochs = 20,
    steps: o.Steps = None,
    batch_size: o.BatchSize = 32,
    iterations: o.Iterations = 10_000,
    batch: o.Batch = 25,
    loss: o.Loss = "",
    every: o.Every = None,
    judged: o.Judged = 200,
    tested: o.Tested = 600,
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    slots: o.Slots = None,
    gpus_per_run: o.GpusPerRun = 0.0,
    address: o.Address = None,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    arguments = locals()
    for name in ("recipe", "json", "plugin", "objective"):
        del arguments[name]
    arguments |= {"objective": objective or (), "plugins": tuple(plugin or ())}
    _searched(arguments, json)


@app.command(cls=Recipe, help=FOLLOW)
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
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    arguments = {k: v for k, v in locals().items() if k not in ("recipe", "json", "plugin")}
    from ..platform.live.follow import follow as followed
    from . import show, watch

    _cautioning()
    shown = watch.following(_console(stderr=True))
    made = _refusing(lambda: followed(**arguments, plugins=tuple(plugin or ()), hear=shown))
    print(show.followed_json(made)) if json else show.followed(made, shlex.join(["perdure", *sys.argv[1:]]), _console())
    sys.exit(130 if made.stopped else 0)


@app.command(cls=Recipe, help=GENERATE)
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
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    from ..platform.generate import Generation
    from ..platform.mlflow_tracker import default_uri
    from . import show
    from .watch import generating

    asked, uri = Generation(generator, on, seed, threads, device), (tracking_uri or default_uri()) if tracking else None
    made = _refusing(lambda: generating(_console(stderr=True), asked, home, data, uri, again))
    print(show.generated_json(made)) if json else show.generated(made, _console())


@app.command(cls=Recipe, help=ATTACK)
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
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    from ..platform.mlflow_tracker import default_uri
    from . import show
    from .watch import attacking

    arguments = {"home": home, "data": data, "samples": samples, "seed": seed, "plugin": tuple(plugin or ())}
    arguments |= {"here": here and not address and slots is None, "slots": slots, "address": address}
    arguments["tracking_uri"] = (tracking_uri or default_uri()) if tracking else None
    _cautioning()
    made = _refusing(lambda: attacking(_console(stderr=True), run, attacks, threat, **arguments))
    print(show.damage_json(made)) if json else show.damage(made, _console())


@app.command(cls=Recipe, help=ADAPT)
def adapt(
    run: Annotated[str, Argument(metavar="RUN", help="Id of a finished run of perdure meta, or its beginning.")],
    data: Annotated[str, Option(help="The task: a CSV or .npz file, or a folder of images.")],
    steps: Annotated[int | None, Option(help="On the samples that have an answer.", min=0)] = None,
    home: o.Home = "perdure-runs",
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    from ..platform import plugins
    from ..platform.meta import adapt as adapting
    from . import show

    def told() -> None:
        plugins.load(plugin or [])
        made = adapting.adapt(run, data, steps, home)
        print(show.answers_json(made)) if json else show.answers(made, _console())

    _refusing(told)


@app.command(cls=Recipe)
def resume(
    id: Annotated[str | None, Argument(help="Of a command or a run, or its beginning; the newest command.")] = None,
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    here: Annotated[bool | None, Option("--here/--fleet", help="In this process, or on Ray actors.")] = None,
    slots: o.Slots = None,
    address: o.Address = None,
    tracking_uri: o.TrackingUri = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Go on with a command that was stopped, from its checkpoints.

    Settings are those of the time before, but for those given now. Example: `perdure resume`
    """
    given = {"data": data, "here": here, "slots": slots, "address": address, "tracking_uri": tracking_uri}
    changed = {k: v for k, v in given.items() if v is not None}
    from ..platform import api
    from .watch import trial

    def hear(tried: Any) -> None:
        trial(tried, _console(stderr=True))

    _conducted(lambda watch: api.resume(id, home, watch, hear, **changed), json)


@app.command(cls=Recipe)
def show(
    run: Annotated[str, Argument(metavar="RUN", help="Its id, or the beginning of it.")],
    home: o.Home = "perdure-runs",
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Tell everything of one run: what it is, how far it came, its accuracy matrix. Example: `perdure show 5f2c`"""
    from ..platform import api, plugins
    from . import show as shown

    def told() -> None:
        plugins.load(plugin or [])
        known = api.outcome(run, home)
        print(shown.outcome_json(known)) if json else shown.outcome(known, _console(), tuple(plugin or ()))

    _refusing(told)


@app.command("list", cls=Recipe)
def list_(
    names: Annotated[list[str] | None, Argument(help="Only these.", show_default="all")] = None,
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """List every stream, data set, model, optimizer and strategy, with parameters, defaults and paper."""
    from ..platform import plugins
    from . import listing

    def told() -> None:
        plugins.load(plugin or [])
        print(listing.as_json(names)) if json else listing.show(names, _console())

    _refusing(told)


@app.command(cls=Recipe)
def ui(
    port: Annotated[int, Option(help="On this machine; another where it is taken.")] = 5000,
    tracking_uri: o.TrackingUri = None,
    recipe: o.RecipeFile = None,
) -> None:
    """Show all runs in MLflow's own pages, served to this machine alone. Ctrl-C ends it."""
    from .ui import serve

    _refusing(lambda: serve(port, tracking_uri))


@app.command()
def version() -> None:
    """Print the version of Perdure, and of what it runs on."""
    from importlib.metadata import version as of
    from platform import python_version

    from .. import __version__

    print(f"perdure {__version__}")
    print(f"python {python_version()}")
    for package in ("torch", "ray", "mlflow"):
        print(f"{package} {of(package)}")


app.command(help=submitting.SUBMIT, no_args_is_help=True)(submitting.submit)
app.add_typer(submitting.job, name="job")


def main() -> None:
    try:
        app()
    finally:
        if "triton" not in sys.modules:  # which would tell of leaks
            gc.freeze()  # or Python looks through all the modules' objects once more, for a second, before it ends


def _made(strategies: list[str], seeds: list[int], **arguments: Any) -> None:
    from ..platform import api

    del arguments["recipe"]
    json, arguments["plugins"] = arguments.pop("json"), tuple(arguments.pop("plugin") or ())
    arguments["attacks"] = arguments.pop("attack") or ()
    _conducted(lambda watch: api.compare(strategies, seeds=seeds, watch=watch, **arguments), json)


def _conducted(make: Callable[[Any], Any], json: bool) -> None:
    """Make runs while they are watched, show what came out, and leave with the code that says it."""
    from . import show
    from .watch import watch

    _cautioning()
    comparison = _refusing(lambda: make(lambda command: watch(command, _console(stderr=True))))
    show.made(comparison, json, _console())
    sys.exit(130 if comparison.stopped else 1 if comparison.failed else 0)


def _searched(arguments: dict[str, Any], json: bool) -> None:
    """Search while a line tells of every trial, show what came out, and leave with the code that says it."""
    from ..platform.search import api
    from . import show
    from .watch import trial, watch

    _cautioning()
    console = _console(stderr=True)
    arguments |= {"watch": lambda command: watch(command, console), "hear": lambda tried: trial(tried, console)}
    made = _refusing(lambda: api.tune(**arguments))
    show.made(made, json, _console())
    sys.exit(130 if made.stopped else 1 if made.failed or not made.ended else 0)


def _cautioning() -> None:
    """Let cautions look like messages, without the place in the code that they come from."""
    from ..strategies.attacks.victims import MaskedGradients
    from ..strategies.fitness import Caution

    plain = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any) -> None:
        if issubclass(category, Caution | MaskedGradients):
            _console(stderr=True).print(f"caution: {message}", markup=False, highlight=False, soft_wrap=True)
        else:
            plain(message, category, *where)

    warnings.showwarning = show


def _refusing(work: Callable[[], Any]) -> Any:
    """A user's mistake ends in a message and code 2; numbers that stop being finite in a message and code 1."""
    from ..strategies.finite import Diverged

    try:
        return work()
    except Diverged as e:
        _console(stderr=True).print(f"failed: {e}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except (ValueError, FileNotFoundError) as e:
        own = isinstance(e, UnknownName)
        hint = "\na name of your own? its file goes with the line: --plugin FILE" if own else ""
        _console(stderr=True).print(f"error: {e}{hint}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _console(stderr: bool = False):
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=140)

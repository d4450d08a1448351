"""The options of the command line, each said once."""

from typing import Annotated

from typer import Argument, BadParameter, Context, Option

DEMO = ["naive", "ewc", "rehearsal(200)", "rehearsal(200) + ewc(1)", "joint"]
WHAT, WHERE, SHOWN = "What is learned", "Where and by whom", "What is shown"
HOW = "How it is searched"
SERVED = "What is served"


def seeds(text: str) -> int | list[int]:
    """`5` is the seeds 0 to 4; `3,5,8` (or `7,`) are seeds by name."""
    try:
        return [int(part) for part in text.split(",") if part.strip()] if "," in text else int(text)
    except ValueError:
        raise BadParameter(f"expected a number of seeds, as 5, or seeds, as 3,5,8, got {text!r}") from None


def numbers(text: str) -> list[int]:
    """`0,1,5` as whole numbers."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadParameter(f"expected whole numbers, as 0,1,5, got {text!r}") from None


def _slots(value: int | None) -> int | None:
    if value is not None and value < 1:
        raise BadParameter(f"expected 1 or more, got {value}")
    return value


def _share(value: float) -> float:
    if value < 0:
        raise BadParameter(f"expected 0 or more, got {value:g}")
    return value


def _home(context: Context, value: str) -> str:
    """In a submitted job, a place in its storage."""
    from ..platform.storage.locations import home_in_job

    source = context.get_parameter_source("home")
    try:
        return home_in_job(None if source is not None and source.name == "DEFAULT" else value) or value
    except ValueError as e:
        raise BadParameter(str(e)) from None


def _state(value: str) -> str:
    """A folder; in a submitted job, in its storage."""
    from ..platform.storage.locations import home_in_job, is_url
    from ..platform.storage.secrets import masked

    try:
        place = home_in_job(value) or value
    except ValueError as e:
        raise BadParameter(str(e)) from None
    if is_url(place):
        raise BadParameter(f"expected a folder, which all machines see where it is a cluster's, got {masked(place)}")
    return place


def _joined(value: str | None) -> str | None:
    """A cluster that answers, which is said: environment variables of Ray's name others."""
    from ..platform.cluster.addresses import expect_head
    from ..platform.runs import dry_run
    from ..platform.storage.secrets import masked
    from .terminal import console, saying

    if value and value != "auto" and not dry_run.asked():
        try:
            expect_head(value)
        except ValueError as e:
            raise BadParameter(str(e)) from None
        saying(console(stderr=True))(f"on the Ray cluster at {masked(value)}")
    return value


def _tracked(value: str | None) -> str | None:
    """In a submitted job, no file outside of its storage."""
    from ..platform.tracking.addresses import tracking_in_job

    try:
        return value and tracking_in_job(value)
    except ValueError as e:
        raise BadParameter(str(e)) from None


Strategies = Annotated[
    list[str] | None, Argument(help="Strategies, as 'rehearsal(500) + ewc(100)'.", show_default=", ".join(DEMO))
]
Strategy = Annotated[str, Argument(help="A strategy, as 'rehearsal(500) + ewc(100)'.")]
On = Annotated[str, Option("--on", help="The stream, as 'split(fashion_mnist)'.", rich_help_panel=WHAT)]
Seeds = Annotated[str, Option(help="How many seeds, or which: 3,5,8.", rich_help_panel=WHAT)]
Seed = Annotated[int, Option(help="Of all random numbers.", rich_help_panel=WHAT)]
Model = Annotated[str, Option(help="The model, as 'mlp(400, 400)' or 'resnet18'.", rich_help_panel=WHAT)]
Optimizer = Annotated[str, Option(help="As 'sgd(0.1, momentum=0.9)'.", rich_help_panel=WHAT)]
Epochs = Annotated[int, Option(help="Passes over each experience.", rich_help_panel=WHAT)]
Steps = Annotated[int | None, Option(help="Batches of each experience, instead of epochs.", rich_help_panel=WHAT)]
BatchSize = Annotated[int, Option(help="Samples in a batch.", rich_help_panel=WHAT)]
Threads = Annotated[int, Option(help="CPU threads of a run; part of what it is.", rich_help_panel=WHAT)]
Accumulate = Annotated[int, Option(help="Parts that a batch goes through in.", min=1, rich_help_panel=WHAT)]
Precision = Annotated[str, Option(help="float32, or bfloat16 in what layers multiply.", rich_help_panel=WHAT)]
Sharing = Annotated[
    int, Option("--workers", help="Processes that share every batch, by Ray Train.", min=1, rich_help_panel=WHAT)
]
Device = Annotated[str, Option(help="cpu or cuda.", rich_help_panel=WHAT)]
Attacks = Annotated[
    list[str] | None,
    Option("--attack", help="Made after every experience, as 'pgd(eps=0.1)'; again for more.", rich_help_panel=WHAT),
]
Start = Annotated[
    str, Option(metavar="RUN", help="Id of a finished run whose weights to begin from.", rich_help_panel=WHAT)
]
Evaluate = Annotated[
    str,
    Option(
        metavar="WHICH",
        help="Tests along the stream: 'every 10' experiences, on 20 'seen 20' or the 'last 5'.",
        show_default="all, after each",
        rich_help_panel=WHAT,
    ),
]
AttackSamples = Annotated[int, Option(help="Test samples of each experience to attack.", min=1, rich_help_panel=WHAT)]

Learners = Annotated[
    list[str] | None, Argument(help="Meta-learners, as 'maml(lr=0.01, steps=5)'.", show_default="maml")
]
Episodes = Annotated[str, Option("--on", help="Episodes, as 'few_shot(strokes, 5, 1)'.", rich_help_panel=WHAT)]
MetaModel = Annotated[
    str | None,
    Option("--model", help="As 'mlp(40, 40)'.", show_default="mlp(40, 40) or conv4(32)", rich_help_panel=WHAT),
]
OuterOptimizer = Annotated[
    str,
    Option("--optimizer", help="As 'sgd(0.1)'.", show_default="adam, of reptile sgd(0.5)", rich_help_panel=WHAT),
]
Loss = Annotated[
    str, Option(help="As 'huber(2)'.", show_default="cross_entropy or squared_error", rich_help_panel=WHAT)
]
Iterations = Annotated[int, Option(help="Of the outer optimizer.", min=1, rich_help_panel=WHAT)]
Batch = Annotated[int, Option(help="Tasks in a meta-batch.", min=1, rich_help_panel=WHAT)]
Every = Annotated[
    int | None, Option(help="Iterations between milestones.", min=1, show_default="a 20th", rich_help_panel=WHAT)
]
Judged = Annotated[int, Option(help="Validation tasks at a milestone.", min=1, rich_help_panel=WHAT)]
Parts = Annotated[
    int | None,
    Option(help="Of a meta-batch, for workers to share.", min=1, show_default="as workers", rich_help_panel=WHAT),
]
Compiled = Annotated[bool, Option("--compiled", help="By torch.compile, for many iterations.", rich_help_panel=WHAT)]
Tested = Annotated[int, Option(help="Test tasks at the end.", min=1, rich_help_panel=WHAT)]
Adapted = Annotated[str, Option(help="Numbers of steps that they are tested after.", rich_help_panel=WHAT)]

Space = Annotated[str, Argument(metavar="METHOD", help="A strategy or meta-learner, as 'ewc(loguniform(1, 1e4))'.")]
Met = Annotated[str, Option("--on", help="A stream, or episodes to meta-learn.", rich_help_panel=WHAT)]
Trials = Annotated[int, Option(help="Points of the space to try.", min=1, rich_help_panel=HOW)]
Objectives = Annotated[
    list[str] | None,
    Option(
        "--objective",
        help="As accuracy or 'accuracy - 0.5 * forgetting'; twice for a Pareto front.",
        show_default="accuracy or loss",
        rich_help_panel=HOW,
    ),
]
By = Annotated[str, Option("--by", help="random, grid or optuna.", rich_help_panel=HOW)]
Scheduler = Annotated[str, Option(help="none, asha (stops trials early) or pbt (moves them).", rich_help_panel=HOW)]
Grace = Annotated[int, Option(help="Experiences that asha lets every trial have.", min=1, rich_help_panel=HOW)]
Interval = Annotated[int, Option(help="Experiences between moves of pbt.", min=1, rich_help_panel=HOW)]
Held = Annotated[float, Option("--share", help="Of training samples, to choose by.", rich_help_panel=HOW)]
First = Annotated[int | None, Option(help="Search on so many experiences only.", min=1, rich_help_panel=HOW)]
SeedsPerTrial = Annotated[int, Option(help="A trial is judged by their mean.", min=1, rich_help_panel=HOW)]
Finalists = Annotated[
    int | None,
    Option(help="The best, to be tested.", min=1, show_default="1, or 3 of a front", rich_help_panel=HOW),
]
Fresh = Annotated[int, Option(help="Seeds to test them from; 0 tests none.", min=0, rich_help_panel=HOW)]
SpaceModel = Annotated[
    str | None,
    Option("--model", help="As 'mlp(choice(64, 256))'.", show_default="as run or meta", rich_help_panel=WHAT),
]

Source = Annotated[str, Argument(metavar="DIR", help="A folder that receives files, or the name of another source.")]
Kept = Annotated[
    str,
    Option("--state", help="Folder of all that is kept; to go on, the same.", callback=_state, rich_help_panel=WHERE),
]
Room = Annotated[str, Option(help="Room for so many, as 10; or their names, as cat,dog.", rich_help_panel=WHAT)]
HoldOut = Annotated[float, Option(help="Share of each class that is kept to judge by.", rich_help_panel=WHAT)]
Arrivals = Annotated[int | None, Option(help="Stop once so many are learned in all.", min=1, rich_help_panel=WHERE)]
Idle = Annotated[float | None, Option(help="Stop after so many seconds without one.", rich_help_panel=WHERE)]
Ahead = Annotated[int, Option(help="Arrivals read ahead of the learner.", min=1, rich_help_panel=WHERE)]
Register = Annotated[str | None, Option(help="Name in MLflow's model registry.", rich_help_panel=SERVED)]
Alias = Annotated[str, Option(help="Moves to the newest version if the rule holds.", rich_help_panel=SERVED)]
Tolerance = Annotated[
    float, Option(help="That a class's accuracy may fall for the alias to move.", rich_help_panel=SERVED)
]

Home = Annotated[
    str,
    Option(
        help="Folder of all results, or an address as s3://bucket/runs.",
        envvar="PERDURE_HOME",
        callback=_home,
        rich_help_panel=WHERE,
    ),
]
Data = Annotated[str | None, Option(help="Folder to look for data in first.", rich_help_panel=WHERE)]
Plugins = Annotated[
    list[str] | None, Option("--plugin", help="Python file that registers names of its own.", rich_help_panel=WHERE)
]
SaveEvery = Annotated[float, Option(help="Seconds between checkpoints in an experience.", rich_help_panel=WHERE)]
Here = Annotated[bool, Option("--here/--fleet", help="In this process, or on Ray actors.", rich_help_panel=WHERE)]
Slots = Annotated[int | None, Option(help="Runs at once; all CPUs by default.", callback=_slots, rich_help_panel=WHERE)]
GpusPerRun = Annotated[float, Option(help="0.25 lets four runs share one.", callback=_share, rich_help_panel=WHERE)]
Workers = Annotated[int, Option(help="Ray workers that share each meta-batch.", min=1, rich_help_panel=WHERE)]
Together = Annotated[
    bool | None,
    Option(
        "--together/--apart",
        help="Learn seeds at once, or one after another; to the same bits.",
        show_default="the faster",
        rich_help_panel=WHERE,
    ),
]
Address = Annotated[
    str | None, Option(help="Ray cluster to join, as host:6379.", callback=_joined, rich_help_panel=WHERE)
]
Silence = Annotated[float, Option(help="Seconds without a step that mean a hung run.", rich_help_panel=WHERE)]
Tracking = Annotated[bool, Option(help="Mirror everything in MLflow.", rich_help_panel=WHERE)]
TrackingUri = Annotated[
    str | None,
    Option(help="Of MLflow; mlflow.db in this folder by default.", callback=_tracked, rich_help_panel=WHERE),
]
Experiment = Annotated[
    str, Option(help="Of MLflow, by name.", show_default="$MLFLOW_EXPERIMENT_NAME, or perdure", rich_help_panel=WHERE)
]
Profile = Annotated[bool, Option("--profile", help="Tell where the time of a step goes.", rich_help_panel=SHOWN)]
Again = Annotated[
    bool,
    Option("--again", help="Make runs anew; the old come back where it fails.", rich_help_panel=WHERE),
]
Json = Annotated[bool, Option("--json", help="Print the result for programs.", rich_help_panel=SHOWN)]
RecipeFile = Annotated[
    str | None, Option(metavar="FILE", help="YAML file with these arguments; key=value on the line goes before it.")
]

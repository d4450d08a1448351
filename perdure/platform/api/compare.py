"""What Python users call; the command line calls the same."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from os import fspath
from typing import Any

from ...notation import expect_types, spell
from ...strategies import names
from ...strategies.attacks.base import Attack
from ...strategies.attacks.names import ATTACKS
from ...strategies.base import Strategy
from ...strategies.learner import Precision
from ...strategies.meta.base import MetaLearner
from ...strategies.meta.loop import MetaPlan
from ...strategies.meta.losses import Loss
from ...strategies.meta.names import LOSSES, META_LEARNERS
from ...strategies.training.plan import Plan
from ...streams.episodes import EpisodeRecipe
from ...streams.names import DATASETS, EPISODES, STREAMS, episode_recipe
from ...streams.recipe import Recipe
from ..execution.execute import finished
from ..execution.executor import Data, Executor, InProcess
from ..execution.replicas import expect_together
from ..reports.comparison import Comparison, Outcome
from ..reports.meta_comparison import MetaComparison
from ..runs import dry_run, plugins, sync
from ..runs import study as commands
from ..runs.any_run import kind
from ..runs.identity import announce_changes, doubt_same, identified
from ..runs.journal import Journal
from ..runs.lookup import found
from ..runs.meta_run import MetaRun
from ..runs.run import Run
from ..runs.set_aside import set_aside, settled
from ..runs.study import Command, seeds_of
from ..runs.verification import FINISHED, sealed, unseal_damaged
from ..runs.workspace import Site
from ..storage.locations import JOB, absolute
from ..storage.secrets import masked
from ..studies.runner import Watch, check, conduct, nobody
from ..tracking import addresses
from ..tracking.tracker import Tracker, Untracked


@dataclass(frozen=True)
class How:
    """Where runs are made and by whom. Nothing of it changes what comes out."""

    home: str = "perdure-runs"  # folder of all results that every node of a cluster sees, or an address as s3://bucket
    data: str | None = None  # folder to look for data in first
    plugins: tuple[str, ...] = ()  # Python files that register names of their own
    save_every: float = 60.0  # seconds between checkpoints inside an experience
    here: bool = False  # one after the other in this process, without Ray
    slots: int | None = None  # runs at once; None takes as many as there are CPUs (and GPUs)
    gpus_per_run: float = 0.0  # a fraction lets runs share one
    address: str | None = None  # of a Ray cluster to join; None starts one on this machine
    workers: int = 1  # that share every meta-batch of a run in this process
    together: bool | None = None  # learn seeds, and other numbers of one strategy, at once; None where that is faster
    silence: float = 300.0  # seconds without a step after which a run is given to another actor
    profile: bool = False  # tell where the time of every run goes
    tracking: bool = True  # mirror everything in MLflow
    tracking_uri: str | None = None  # $MLFLOW_TRACKING_URI, or mlflow.db in the working folder, by default
    experiment: str = ""  # of MLflow, by name; $MLFLOW_EXPERIMENT_NAME, or perdure, by default

    def __post_init__(self):
        object.__setattr__(self, "home", fspath(self.home))
        object.__setattr__(self, "data", None if self.data is None else fspath(self.data))
        object.__setattr__(self, "plugins", tuple(map(fspath, self.plugins)))
        expect_types(self)

    def settled(self) -> "How":
        """The same for whoever reads it in another folder: paths in full, and where tracking goes."""
        uri = self.tracking_uri
        if self.tracking:
            uri = addresses.default_uri() if uri is None else addresses.settled(uri)
        files, data = tuple(map(absolute, self.plugins)), self.data and absolute(self.data)
        return replace(self, home=absolute(self.home), data=data, plugins=files, tracking_uri=uri)

    def kept(self) -> dict[str, Any]:
        """As it is written down: without the password or key in an address, which whoever goes on says again, and
        without the cluster that a submitted job runs on, which a laptop that goes on has none of."""
        address = None if os.environ.get(JOB) and self.address == "auto" else self.address
        return asdict(self) | {"tracking_uri": self.tracking_uri and masked(self.tracking_uri), "address": address}


def compare(
    strategies: Sequence[str | Strategy] = ("naive", "ewc", "rehearsal(200)", "rehearsal(200) + ewc(1)", "joint"),
    on: str | Recipe = "split(digits)",
    seeds: int | Sequence[int] = 3,
    *,
    model: str = "mlp(64, 64)",
    optimizer: str = "adam",
    epochs: int = 20,
    batch_size: int = 32,
    steps: int | None = None,
    accumulate: int = 1,
    precision: Precision = "float32",
    compiled: bool = False,
    threads: int = 1,
    workers: int = 1,
    device: str = "cpu",
    attacks: Sequence[str | Attack] = (),
    attack_samples: int = 200,
    start: str = "",
    evaluate: str = "",
    again: bool = False,
    watch: Watch = nobody,
    **how: Any,
) -> Comparison:
    """Learn a stream with every strategy from every seed, and compare what came out.

    strategies: as text, `"rehearsal(500) + ewc(100)"`, or as objects. seeds: how many, or which.
    steps: batches of each experience, instead of epochs. accumulate, precision, compiled: as in `Plan`. workers:
    processes that share every batch of a run, by Ray Train. attacks: made after every experience, on `attack_samples`
    test samples of each experience met so far, as `"pgd(eps=0.1)"`. start: (the beginning of) the id of a finished run,
    whose weights are begun from: what it has meta-learned, or what it had learned of its stream. evaluate: which
    experiences are tested on along the stream, as `Evaluation` has it: "every 10", "seen 20" or "last 5"; by default
    all after each, which is T² tests. again: make runs anew; those that were made before come back where that fails.
    how: fields of `How`, where and by whom runs are made.

    Raises NotationError (a ValueError) for texts that cannot be read, ValueError for what does not fit
    together, DataNotFound (a FileNotFoundError), and TooFew where a cluster has less than is asked for.
    Runs that fail raise nothing: see `Comparison.failed`.

    >>> import perdure, tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     result = perdure.compare(["naive"], seeds=1, epochs=1, home=home, here=True, tracking=False)
    >>> [standing.strategy for standing in result.league]
    ['naive']
    """
    where = How(**how)
    plugins.load(where.plugins)
    plan = Plan(epochs, batch_size, steps, accumulate, precision, compiled)
    texts = _texts(strategies, Strategy, "strategies", names.spelled)
    chosen = seeds_of(seeds, len(texts))
    stream = on if isinstance(on, str) else spell(on, STREAMS | DATASETS)
    made = tuple(_texts(attacks, Attack, "attacks", lambda a: spell(a, ATTACKS), 0))
    common = {"stream": stream, "model": model, "optimizer": optimizer, "plan": plan, "threads": threads}
    common |= {"workers": workers, "device": device, "attacks": made, "attack_samples": attack_samples}
    common |= {"start": found(start, where.home).id if start and not dry_run.asked() else "", "evaluate": evaluate}
    asked = Command.grid(texts, chosen, **common)
    dry_run.ends((run.source() for run in asked.runs), data=where.data)
    line = kind(asked.runs[0]).line(asked.methods, asked.runs[0], chosen, asdict(where.settled()))
    return make(replace(asked, line=line), where, again, watch, typed=True)


def meta(
    learners: Sequence[str | MetaLearner] = ("maml",),
    on: str | EpisodeRecipe = "sinusoid",
    seeds: int | Sequence[int] = 1,
    *,
    model: str | None = None,
    optimizer: str = "",
    loss: str | Loss = "",
    iterations: int = 10_000,
    batch: int = 25,
    every: int | None = None,
    judged: int = 200,
    parts: int | None = None,
    compiled: bool = False,
    tested: int = 600,
    adapted: Sequence[int] = (0, 1, 5, 10),
    threads: int = 1,
    device: str = "cpu",
    again: bool = False,
    watch: Watch = nobody,
    **how: Any,
) -> MetaComparison:
    """Meta-learn episodes with every learner from every seed, and compare what came out.

    learners: as text, `"maml(lr=0.01, steps=5)"`, or as objects. model: by default mlp(40, 40) for tasks that are made
    up, conv4(32) for those of a data set. optimizer: the outer one; by default each learner's own, adam, or of reptile
    sgd(0.5). loss: by default the cross-entropy of classes, the squared error of values.
    batch: tasks in a meta-batch. every: iterations between milestones, each judged on `judged` validation tasks; a
    twentieth of all by default. parts: that a meta-batch falls into; as many as `workers` by default. compiled: by
    torch.compile, for many iterations.
    tested: test tasks at the end, after each number of steps in `adapted`. how: fields of `How`; workers=2 lets two
    Ray workers share every meta-batch of a run in this process.

    Raises NotationError (a ValueError), ValueError, DataNotFound and TooFew, as `compare` does.

    >>> import perdure, tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     made = perdure.meta(["maml"], iterations=20, batch=4, tested=20, home=home, here=True, tracking=False)
    >>> made.league[0].steps
    (0, 1, 5, 10)
    """
    where = How(**how)
    plugins.load(where.plugins)
    texts = _texts(learners, MetaLearner, "meta-learners", lambda one: spell(one, META_LEARNERS))
    chosen = seeds_of(seeds, len(texts))
    episodes = on if isinstance(on, str) else spell(on, EPISODES | DATASETS)
    if tested < 1:
        raise ValueError(f"expected a test task at least, got {tested}")
    if where.workers > 1 and not where.here:
        raise ValueError("workers share the meta-batches of a run in this process: ask for --here beside --workers")
    plan = MetaPlan(iterations, batch, every or max(1, iterations // 20), judged, parts or where.workers, compiled)
    if model is None:
        model = "mlp(40, 40)" if episode_recipe(episodes).source() is None else "conv4(32)"
    common = {"model": model, "optimizer": optimizer, "plan": plan, "threads": threads, "device": device}
    common |= {"tested": tested, "adapted": tuple(adapted)}
    common |= {"loss": loss if isinstance(loss, str) else spell(loss, LOSSES)}
    runs = [MetaRun(text, episodes, seed=seed, **common).normal() for seed in chosen for text in texts]
    command = Command(tuple({run.id: run for run in runs}.values()))
    dry_run.ends((run.source() for run in runs), data=where.data)
    asked = replace(runs[0], optimizer=optimizer and runs[0].optimizer)
    line = kind(asked).line(command.methods, asked, chosen, asdict(where.settled()))
    return make(replace(command, line=line), where, again, watch, typed=True)


def make(
    command: Command,
    how: How,
    again: bool = False,
    watch: Watch = nobody,
    typed: bool = False,
    data: Data | None = None,
) -> Any:
    """Make the runs of a command, or go on with them.

    again: make finished ones anew; what was there comes back where that cannot be done. typed: runs are of the data and
    the code as they are now; otherwise they have been told already what they are of. data: loaded already.
    """
    how = how.settled()
    more = {"profile": how.profile, "workers": how.workers, "together": how.together}
    site = Site(how.home, how.data, how.plugins, how.save_every, **more)
    data = data or Data(site)
    sync.look(site)
    if typed:
        command = replace(command, runs=tuple(identified(run, data) for run in command.runs))
        sync.fetch_commands(site)
    sync.fetch([run.id for run in command.runs], site)
    if typed:
        announce_changes(command.runs, site)
    check(command, site, data, again)
    if how.together:
        expect_together(command.runs)
    kept_command = replace(command, how=how.kept())
    if again:
        with command.held(site.home):
            set_aside(command.runs, site)
    with settled(command.runs, site):
        return conduct(kept_command, site, lambda: _executor(command, how, site, data), tracker_of(how, site), watch)


def _texts(given: Any, kind: type, what: str, spelled: Callable[[Any], str], least: int = 1) -> list[str]:
    """Texts and objects, or one alone, as texts. Raises ValueError where they are something else, or too few."""
    several = [given] if isinstance(given, str | kind) else given
    if not isinstance(several, Sequence) or not all(isinstance(one, str | kind) for one in several):
        raise ValueError(f"expected {what} as texts or as objects, got {given!r}")
    if len(several) < least:
        raise ValueError(f"expected {what}, one at least, got none")
    return [one if isinstance(one, str) else spelled(one) for one in several]


def unheard(trial: Any, so_far: Any) -> None:
    """Nobody wants to know."""


def resume(
    id: str | None = None,
    home: str = "perdure-runs",
    watch: Watch = nobody,
    hear: Callable[[Any, Any], None] = unheard,
    **other: Any,
) -> Any:
    """Go on with a command, a search or a run by (the beginning of) its id; by default with the newest command.

    hear: told of every trial of a search that has come to an end.
    other: fields of `How` that shall be different this time. Raises ValueError where there is none.
    """
    site = Site(home)
    sync.fetch_commands(site)
    folder = next((f for f in commands.folders(site.home) if f.name.startswith(id or "")), None)
    if folder is not None:
        how = How(**{**commands.settings(folder), "home": home, **other})
        plugins.load(how.plugins)
        command = commands.read(folder)
        doubt_same([run for run in command.runs if finished(run, site)], site, Data(Site(home, how.data)))
        if command.search:
            from ..search.runner import conduct_search
            from ..search.search import Search

            return conduct_search(Search.of(command.search), how, watch=watch, hear=hear)
        return make(command, how, watch=watch)
    if id is None:
        raise ValueError(f"no command in {home} to go on with; name another folder with --home")
    how = How(**{"home": home, **other})
    plugins.load(how.plugins)
    run = found(id, home)
    unseal_damaged(site.folder(run))
    if finished(run, site):
        doubt_same([run], site, Data(Site(home, how.data)))
    return make(Command((run,), kind(run).line([run.method], run, [run.seed])), how, watch=watch)


def outcome(id: str, home: str = "perdure-runs") -> Outcome:
    """What is known of a run by (the beginning of) its id.

    Raises ValueError, and Damaged where what is on disk is not what was written.
    """
    run, site = found(id, home), Site(home)
    if (site.folder(run) / FINISHED).exists():
        sealed(site.folder(run))
        doubt_same([run], site, Data(site))
        return Outcome.of(run, site)
    ends = [note for note in Journal(site.folder(run)).notes() if note["event"] in ("start", "failed")]
    if ends and ends[-1]["event"] == "failed":
        return Outcome.of(run, site, "failed", ends[-1]["message"])
    return Outcome.of(run, site, "stopped")


def _executor(command: Command, how: How, site: Site, data: Data) -> Executor:
    gpu = any(run.device.startswith("cuda") for run in command.runs)
    if any(isinstance(run, Run) and run.workers > 1 for run in command.runs):
        from ..fleet.ray_train import Trainers

        return Trainers(site, how.address, gpu, how.silence, data=data)
    if how.here:
        return InProcess(site, data)
    from ..fleet.fleet import Fleet

    return Fleet(site, how.slots, how.gpus_per_run or float(gpu), how.address, how.silence, data=data)


def tracker_of(how: How, site: Site) -> Tracker:
    if not how.tracking or how.tracking_uri is None:
        return Untracked()
    from ..tracking.mlflow_tracker import MLflow

    return MLflow(site, how.tracking_uri)

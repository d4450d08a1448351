"""Attacks on finished runs: what is left of their accuracy, and pictures of what fooled them."""

import hashlib
import json
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, isnan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...notation import spell
from ...strategies import names as strategies
from ...strategies.attacks import names
from ...strategies.attacks.base import Attack
from ...strategies.attacks.evaluate import Attacked
from ...strategies.attacks.oracles import MaskedGradients
from ...strategies.attacks.threats import Gray, Threat, Transfer
from ...strategies.training.loop import restored
from ...streams.datasets.dataset import Dataset
from ...streams.storage.directories import Places
from ..execution.execute import execute
from ..figures.adversarial import drawn
from ..reports.page import digits, embedded, page
from ..runs import dry_run, plugins, sync
from ..runs.datasets import Data
from ..runs.events import Failed
from ..runs.identity import expect_same
from ..runs.job_record import note
from ..runs.lookup import found
from ..runs.record import ended, expect_finished
from ..runs.run import Run, build
from ..runs.workspace import Site
from ..storage.atomic import write
from ..storage.claims import claimed
from ..storage.disk_space import room
from ..storage.safe_names import LONGEST_NAME, LONGEST_TAG, file_name, metric_name, shortened
from ..storage.secrets import masked
from ..tracking.access import expect_welcome
from ..tracking.described import params
from ..tracking.mlflow_client import client
from ..tracking.mlflow_client import experiment as experiment_of
from ..tracking.provenance import origin
from ..tracking.refusals import told as refused
from ..workloads.attack_target import Target, refuse_own_loops, swift

SHARD = 512  # samples attacked at once in this process: between them there is something to tell


@dataclass(frozen=True)
class Column:
    """Of the table of attacks, in the terminal and in the report."""

    title: str
    measure: str
    form: str
    meaning: str
    scale: float = 1.0

    def cell(self, measures: dict[str, float]) -> str:
        return digits(self.scale * measures[self.measure], self.form)


COLUMNS = (
    Column("clean %", "accuracy", ".1f", "share of the samples that were right at first", 100),
    Column("robust %", "robust_accuracy", ".1f", "share still right under the attack", 100),
    Column("fooled %", "success", ".1f", "share fooled of those that were attacked", 100),
    Column("mean L0", "mean_l0", ".3g", "pixels changed of those fooled, on average"),
    Column("mean L2", "mean_l2", ".3g", "size of what was changed of those fooled, on average, in L2"),
    Column("mean L∞", "mean_linf", ".3g", "the same in L∞: the largest change of a value"),
    Column("queries", "queries", ".0f", "questions asked for each sample that was attacked, on average"),
    Column("seconds", "seconds", ".1f", "that the attack took, on all samples"),
)
Heard = Callable[[str, int, int], object]  # the attack under way, its samples that are done, and of how many


@dataclass(frozen=True)
class Assault:
    """What is asked for: attacks on a finished run. samples: at most, as many of each experience."""

    run: Run
    attacks: tuple[str, ...]
    threat: str = "white"
    samples: int = 1000
    seed: int = 0

    def normal(self) -> "Assault":
        """With every text as it is spelled. Raises NotationError for what cannot be read."""
        attacks = tuple(dict.fromkeys(spell(names.attack(text), names.ATTACKS) for text in self.attacks))
        threat = spell(names.threat(self.threat), names.THREATS | names.SURROGATES)
        return replace(self, attacks=attacks, threat=threat)

    @cached_property
    def id(self) -> str:
        it = self.normal()
        text = json.dumps([it.run.id, it.attacks, it.threat, it.samples, it.seed])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def line(self) -> str:
        """The command that makes it."""
        parts = ["--run", self.run.id, "--threat", self.threat, "--samples", str(self.samples)]
        return shlex.join(["perdure", "attack", *self.attacks, *parts, "--seed", str(self.seed)])


@dataclass(frozen=True, eq=False)
class Blow:
    """What one attack came to. robust: accuracy on every experience, under the attack."""

    attack: str
    measures: dict[str, float]
    clean: tuple[float, ...]  # accuracy on the same samples of every experience
    robust: tuple[float, ...]
    picture: Path | None

    @property
    def title(self) -> str:
        """The whole text of the attack, its eps too where that is the default."""
        return names.whole(self.attack)


@dataclass(frozen=True, eq=False)
class Damage:
    assault: Assault
    folder: str
    blows: list[Blow]
    cautions: tuple[str, ...] = ()  # why an attack may have seen less than there is
    undelivered: str = field(default="", repr=False)  # why MLflow does not have it

    @property
    def report(self) -> Path:
        return Path(self.folder) / "report.html"


def assault(
    id: str,
    attacks: Sequence[str],
    threat: str = "white",
    *,
    home: str = "perdure-runs",
    data: str | None = None,
    samples: int = 1000,
    seed: int = 0,
    plugin: Sequence[str] = (),
    here: bool = True,
    slots: int | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = "",
    hear: Heard = lambda attack, done, of: None,
) -> Damage:
    """Attack a finished run by (the beginning of) its id, on at most `samples` test samples.

    Surrogates of gray and transfer threats are learned first, as runs like any other, unless they are known.
    here: in this process; otherwise samples are dealt out to `slots` workers of a Ray cluster. What comes out is the
    same to the bit. tracking_uri: of MLflow; None tracks nothing. experiment: there.

    Raises ValueError for runs that are not finished or have no model of ours, and for what cannot be attacked;
    NotationError for texts that cannot be read. Warns of MaskedGradients.
    """
    plugins.load(plugin)
    asked = Assault(Run(), tuple(attacks), threat, samples, seed).normal()
    dry_run.ends(data=data)
    run, site = found(id, home), Site(home, data, tuple(plugin))
    if not isinstance(run, Run):
        raise ValueError(f"run {run.id} has meta-learned; attacks are made on runs that learned a stream")
    expect_finished(run, site)
    asked = replace(asked, run=run)
    sync.look(site)
    expect_welcome(tracking_uri, experiment)
    sets = Data(site)
    expect_same(run, site, sets)
    for other in _surrogates(asked):
        _make(other, site, sets)
    folder = site.folder(run) / "attacks" / asked.id
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    note(folder, site)
    with ExitStack() as held, warnings.catch_warnings(record=True) as caught:
        held.enter_context(claimed(site.home, asked.id))  # the same, asked for twice at once
        held.enter_context(room(folder))
        warnings.simplefilter("always", MaskedGradients)
        dataset = sets.of(run)
        assert dataset is not None
        stand = held.enter_context(_stand(asked, site, dataset))
        strike = _here if here else held.enter_context(_shared(asked, site, dataset, slots, address))
        blows = []
        for text in asked.attacks:
            start = time.perf_counter()
            attack, questions = stand.prepared(names.attack(text))
            parts = []
            for part in strike(stand, attack):
                parts.append(part)
                hear(text, sum(len(p.y) for p in parts), len(stand.target.y))
            got = replace(Attacked.union(parts), learning=questions, seconds=time.perf_counter() - start)
            blows.append(_told(stand.target, text, got, folder))
    cautions = tuple(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, MaskedGradients)))
    for caution in cautions:
        warnings.warn(caution, MaskedGradients, stacklevel=2)
    made = Damage(asked, str(folder), blows, cautions)
    with room(folder):
        _keep(made)
    sync.carry(folder, site)
    return made if tracking_uri is None else replace(made, undelivered=_tracked(made, tracking_uri, experiment))


@dataclass(frozen=True, eq=False)
class _Stand:
    """Target and surrogate, ready to be attacked."""

    target: Target
    surrogate: Target | None
    threat: Threat
    seed: int

    def prepared(self, attack: Attack) -> tuple[Attack, int]:
        """The attack once it has learned, and its questions; under a threat that knows no data it learns later, from
        what it may ask about the samples themselves."""
        known = attack.learns and self.threat.knows_data
        return (self.surrogate or self.target).prepared(attack, self.seed) if known else (attack, 0)

    def shards(self, attack: Attack, count: int) -> tuple[Tensor, ...]:
        """Rows of the samples in `count` parts, or all of them where the attack has still to learn from them."""
        rows = torch.arange(len(self.target.y))
        return (rows,) if attack.learns else rows.chunk(count)

    def strike(self, attack: Attack, rows: Tensor) -> Attacked:
        """Attack the samples at `rows` with what has been prepared."""
        surrogate = self.surrogate and self.surrogate.part(rows)
        return self.target.part(rows).attacked(attack, self.threat, self.seed, surrogate)


def _here(stand: _Stand, attack: Attack) -> Iterator[Attacked]:
    for rows in stand.shards(attack, ceil(len(stand.target.y) / SHARD)):
        yield stand.strike(attack, rows.to(stand.target.y.device))


@contextmanager
def _shared(asked: Assault, site: Site, dataset: Dataset, slots: int | None, address: str | None) -> Iterator[Any]:
    """Strikes that deal samples out to workers; the samples of one that dies are attacked anew by another."""
    from ..cluster import connection
    from ..runs.datasets import packed

    ours, threads, gpus = connection.connect(address), asked.run.threads, float(asked.run.device.startswith("cuda"))
    import ray
    from ray.exceptions import RayError

    remote: Any = ray.remote
    work, running = remote(num_cpus=threads, num_gpus=gpus, max_retries=3)(_shard), []

    def strike(stand: _Stand, attack: Attack) -> Iterator[Attacked]:
        shards = stand.shards(attack, 2 * room)
        running[:] = [work.remote(asked, site, arrays, attack, some) for some in shards]
        for ref in running:
            got, said = ray.get(ref)
            for message in said:
                warnings.warn(message, MaskedGradients, stacklevel=2)
            yield got

    try:
        room, arrays = connection.slots(slots, threads, gpus), ray.put(packed(dataset))
        ray.get([work.remote(asked, site, arrays, None, torch.arange(0)) for _ in range(room)])  # processes, warm
        yield strike
    finally:
        for ref in running:
            with suppress(RayError):
                ray.cancel(ref, force=True)
        if ours:
            connection.disconnect()


def _shard(asked: Assault, site: Site, arrays: Any, attack: Attack | None, rows: Tensor) -> Any:
    """What runs in a worker: some samples attacked, and what is to be warned of."""
    from ..runs.datasets import unpacked

    plugins.load(site.plugins)
    dataset = unpacked(arrays, lambda: asked.run.source().loaded(Places(site.data)))
    with warnings.catch_warnings(record=True) as caught, _stand(asked, site, dataset) as stand:
        warnings.simplefilter("always", MaskedGradients)
        got = None if attack is None else stand.strike(attack, rows.to(asked.run.device))
    return got, [str(w.message) for w in caught if issubclass(w.category, MaskedGradients)]


@contextmanager
def _stand(asked: Assault, site: Site, dataset: Dataset) -> Iterator[_Stand]:
    threads = torch.get_num_threads()
    torch.set_num_threads(asked.run.threads)
    with ExitStack() as held:
        held.callback(torch.set_num_threads, threads)
        target = _target(asked.run, asked, site, dataset, held)
        others = [_target(run, asked, site, dataset, held) for run in _surrogates(asked)]
        surrogate = None
        if others:
            surrogate = Target.mean(others)
        yield _Stand(target, surrogate, names.threat(asked.threat), asked.seed)


def _target(run: Run, asked: Assault, site: Site, dataset: Dataset, held: ExitStack) -> Target:
    stream, learner, strategy = build(run, dataset)
    refuse_own_loops(strategy)
    sync.fetch([run.id], site, checkpoints=True)
    checkpoint = ended(run, site)
    state = restored(strategy, stream, learner, checkpoint)
    learner.model.eval()
    held.enter_context(swift(learner.model))
    now = stream.marks[-1]
    return Target.of(stream, learner, strategy, state, now, max(1, asked.samples // len(stream.marks)), run.seed)


def _surrogates(asked: Assault) -> list[Run]:
    """The runs whose models are attacked in the stead of one that may not be seen."""
    threat = names.threat(asked.threat)
    if threat.asks_itself:
        return []
    assert isinstance(threat, Gray | Transfer)
    model = strategies.spelled(threat.model) if isinstance(threat, Transfer) else asked.run.model
    return [replace(asked.run, seed=s, model=model, attacks=()).normal() for s in threat.seeds]


def _make(run: Run, site: Site, data: Data) -> None:
    """Make a surrogate, unless it is made."""
    with claimed(site.home, run.id):
        for event in execute(run, site, data.of(run)):
            if isinstance(event, Failed):
                raise ValueError(f"the surrogate {run.model} seed {run.seed} failed: {event.message}")


def _told(target: Target, attack: str, got: Attacked, folder: Path) -> Blow:
    picture = None
    if got.x.dim() == 4 and got.x.shape[1] in (1, 3) and got.fooled.any():
        picture = folder / "pictures" / f"{file_name(attack)}.png"
        drawn(got, names.whole(attack)).savefig(picture, dpi=120)
    measures = got.measures() | {"seconds": got.seconds}
    return Blow(attack, measures, target.shares(got.right), target.shares(got.still), picture)


def _keep(made: Damage) -> None:
    """The numbers and the report, beside the pictures."""
    asked, folder = made.assault, Path(made.folder)
    known = {"id": asked.id, "run": asked.run.id, "threat": asked.threat, "samples": asked.samples, "seed": asked.seed}
    known["blows"] = [
        {"attack": b.attack, "clean": b.clean, "robust": b.robust}
        | {"measures": {k: None if isnan(v) else v for k, v in b.measures.items()}}
        for b in made.blows
    ]
    write(folder / "attacks.json", json.dumps(known, indent=1).encode())
    pictures = {b.title: embedded(b.picture) for b in made.blows if b.picture}
    told = {"damage": made, "run": asked.run, "columns": COLUMNS, "pictures": pictures}
    write(made.report, page("attacked.html", **told).encode())


def _tracked(made: Damage, uri: str, experiment: str) -> str:
    """Tell MLflow; why it could not be told, or nothing."""
    asked, folder = made.assault, Path(made.folder)
    mark = folder / f"tracked-{hashlib.sha256(f'{uri} {experiment}'.rstrip().encode()).hexdigest()[:8]}"
    if mark.exists():
        return ""
    try:
        to = client(uri)
        from mlflow.entities import Metric

        tags = origin() | {
            "perdure.attacked": asked.run.id,
            "perdure.assault": asked.id,
            "mlflow.source.name": shortened(asked.line, LONGEST_TAG),
        }
        title = f"{', '.join(b.title for b in made.blows)} on {asked.run.strategy} seed {asked.run.seed}"
        into = to.create_run(
            experiment_of(to, uri, experiment), run_name=shortened(title, LONGEST_NAME), tags=tags
        ).info.run_id
        now, known = int(time.time() * 1000), asked.run.row() | {"attacks": ", ".join(asked.attacks)}
        known |= {"threat": asked.threat, "attacked": asked.samples, "attack_seed": asked.seed}
        told = [(metric_name(f"{b.attack}/{k}"), v) for b in made.blows for k, v in b.measures.items() if not isnan(v)]
        to.log_batch(into, metrics=[Metric(k, v, now, 0) for k, v in told])
        to.log_batch(into, params=params(known))
        for blow in made.blows:
            if blow.picture:
                to.log_artifact(into, str(blow.picture), "figures")
        to.log_artifact(into, str(made.report))
        to.log_artifact(into, str(folder / "attacks.json"))
        to.set_terminated(into, "FINISHED")
        mark.touch()
    except Exception as e:  # whatever is wrong there, what was found out is found out
        return f"MLflow at {masked(uri)} does not take it ({refused(e)}); the same command delivers it later"
    return ""

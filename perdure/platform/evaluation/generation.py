"""One generator on one data set: fitted, judged, drawn, and tracked in MLflow."""

import hashlib
import io
import json
import shlex
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...limits import expect_machine
from ...notation import expect_types, spell
from ...strategies.generators import evaluate
from ...strategies.generators.base import Data, Generator, Progress
from ...strategies.generators.names import GENERATORS, generator
from ...strategies.generators.variational import Variational
from ...strategies.numerics.pytree import state_bytes
from ...strategies.numerics.rng import Rng
from ...strategies.training.requirements import Caution
from ...streams.datasets.dataset import Dataset, Part, Source
from ...streams.experience import pixels
from ...streams.names import DATASETS, data_set
from ..figures.canvas import svg
from ..figures.generators import figures
from ..reports.page import page
from ..runs import datasets, dry_run, sync
from ..runs.identity import identified
from ..runs.job_record import note
from ..runs.numerics import NUMERICS
from ..runs.workspace import Site
from ..storage.atomic import write
from ..storage.claims import claimed
from ..storage.disk_space import room
from ..storage.safe_names import LONGEST_NAME, LONGEST_TAG, file_name, shortened
from ..storage.sealed import Damaged, read_sealed, sha256, write_sealed
from ..storage.secrets import masked
from ..tracking.access import expect_welcome
from ..tracking.refusals import told as refused

MADE = "generated.json"
DRAWN = 2000  # samples that are judged, and test samples that they are held against
RECKONED = 500  # test samples whose likelihood is reckoned
WORDS = {
    "classes": "that a classifier of real samples takes samples for, at least 1 % of an equal share of them each",
    "entropy": "of these classes in nats",
    "agreement": "share of samples taken for the class that was asked for",
    "frechet": "Fréchet distance of samples and real test samples, on features of that classifier, less is nearer",
    "frechet_real": "the same of real training samples: what no generator is expected to beat",
    "elbo": "lower bound of the log-likelihood of test samples, nats each",
    "log_likelihood": "of test samples by importance sampling, nats each",
    "bytes": "of the fitted state",
    "seconds": "of fitting",
}


@dataclass(frozen=True)
class Generation:
    """What is fitted to what. Equal ones have equal ids."""

    generator: str
    on: str = "digits"
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    data: str = ""  # fingerprint of what it is fitted to
    code: str = ""  # digest of the source behind names of one's own
    numerics: int = NUMERICS

    def __post_init__(self):
        expect_types(self)
        expect_machine(self.threads, self.device)

    def normal(self) -> "Generation":
        """With every text as it is spelled. Raises NotationError for what cannot be read."""
        on = spell(self.source(), DATASETS)
        return replace(self, generator=spell(generator(self.generator), GENERATORS), on=on)

    def source(self) -> Source:
        """Where its data come from."""
        return data_set(self.on)

    def texts(self) -> tuple[str, ...]:
        """All that may name code of one's own."""
        return self.generator, self.on

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self.normal()), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def line(self) -> str:
        """The command that makes it."""
        typed = [f for f in fields(self)[1:] if f.name not in ("data", "code", "numerics")]
        given = [(f"--{f.name}", str(v)) for f in typed if (v := getattr(self, f.name)) != f.default]
        return shlex.join(["perdure", "generate", self.generator, *(word for pair in given for word in pair)])


@dataclass(frozen=True)
class Generated:
    generation: Generation
    folder: str
    measures: dict[str, float]
    told: list[Progress] = field(repr=False)
    undelivered: str = ""  # why MLflow does not have it

    @property
    def report(self) -> Path:
        return Path(self.folder) / "report.html"


def generate(
    generation: Generation,
    home: str = "perdure-runs",
    data: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = "",
    again: bool = False,
    hear: Callable[[Progress], object] = lambda progress: None,
) -> Generated:
    """Fit, judge, draw, and keep it all below `home`; what has been made before is told again.

    tracking_uri: of MLflow; None tracks nothing. experiment: there; perdure by default.
    Raises NotationError, DataError, DataNotFound or ValueError for what cannot be fitted, Diverged where losses
    stop being finite.
    """
    dry_run.ends([generation.normal().source()] if dry_run.asked() else [], data=data)
    site, sets = Site(home), datasets.Data(Site(home, data))
    sync.look(site)
    generation = identified(generation, sets)
    folder = Path(site.home) / "generated" / generation.id
    note(folder, site)
    sync.fetch_folder(folder, site)
    with room(site.home), claimed(site.home, generation.id):  # the same, asked for twice at once
        if again or not _whole(folder):
            expect_welcome(tracking_uri, experiment)
            torch.set_num_threads(generation.threads)
            dataset = sets.of(generation)
            assert dataset is not None
            _make_beside(generation, folder, dataset.to(generation.device), hear)
            sync.carry(folder, site)
    known = read_sealed(folder / MADE)
    told = [Progress(*row) for row in known["told"]]
    made = Generated(generation, str(folder), known["measures"], told)
    mark = folder / ("tracked" + f"-{file_name(experiment)}" * bool(experiment))
    if tracking_uri is None or mark.exists():
        return made
    try:
        _track(made, tracking_uri, experiment)
    except Exception as e:  # whatever is wrong there, what was made is made
        problem = (
            f"MLflow at {masked(tracking_uri)} does not take it ({refused(e)}); the same command delivers it later"
        )
        return Generated(generation, str(folder), known["measures"], told, problem)
    mark.touch()
    return made


def _whole(folder: Path) -> bool:
    """Whether it has been made, and all of it is as it was made; says where it is not."""
    try:
        known = read_sealed(folder / MADE)
        problem = next((n for n, digest in known["files"].items() if sha256(folder / n) != digest), "")
    except FileNotFoundError as e:
        problem = Path(e.filename).name if (folder / MADE).exists() else None
    except Damaged:
        problem = MADE
    if problem:
        warnings.warn(f"{folder / problem} is damaged or gone: it is made anew", Caution, stacklevel=3)
    return problem == ""


def _make_beside(generation: Generation, folder: Path, dataset: Dataset, hear: Callable[[Progress], object]) -> None:
    """What was made before stays until the new is whole."""
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    _make(generation, new, dataset, hear)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def _make(generation: Generation, folder: Path, dataset: Dataset, hear: Callable[[Progress], object]) -> None:
    one, rng, told = generator(generation.generator), Rng(generation.seed), []

    def heard(progress: Progress) -> None:
        told.append(progress)
        hear(progress)

    real = Data(dataset.train.x, dataset.train.y)
    start = time.perf_counter()
    state = one.fit(real, rng.fold("fit"), None, len(dataset.classes), heard)
    seconds = time.perf_counter() - start
    test = _some(dataset.test, rng["test"], DRAWN)
    measures = _measured(one, state, real, test, len(dataset.classes), rng)
    measures |= {"bytes": state_bytes(state), "seconds": seconds}
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    drawings = dict(figures(one, state, pixels(real.x), test, told, rng.fold("pictures")))
    for name, figure in drawings.items():
        figure.savefig(folder / "pictures" / f"{name}.png", dpi=120)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write(folder / "state.pt", buffer.getbuffer())
    facts = [f for f in fields(one) if getattr(one, f.name) is not None]
    report = page(
        "generated.html",
        generation=generation,
        measures=measures,
        words=WORDS,
        settings={f.name: getattr(one, f.name) for f in facts},
        figures={name: _markup(svg(figure)) for name, figure in drawings.items()},
    )
    write(folder / "report.html", report.encode())
    files = {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    write_sealed(folder / MADE, {"generation": asdict(generation), "measures": measures, "told": told, "files": files})


def _measured(one: Generator, state, real: Data, test: Data, classes: int, rng: Rng) -> dict[str, float]:
    by = evaluate.trained(real, rng.fold("judge"), conditions=classes)
    asked = None
    if one.conditional:
        asked = torch.arange(DRAWN, device=real.y.device) % classes
    x = one.sample(state, DRAWN, rng.fold("judged"), asked)
    covered = by.coverage(x)
    some = real.x[torch.randperm(len(real.x), generator=rng["some"])[:DRAWN].to(real.x.device)]
    measures = {"classes": covered.classes, "entropy": covered.entropy}
    if asked is not None:
        measures["agreement"] = by.agreement(x, asked)
    measures |= {"frechet": by.distance(x, test.x), "frechet_real": by.distance(pixels(some), test.x)}
    if isinstance(one, Variational):
        few = test.x[:RECKONED], test.y[:RECKONED]
        measures["elbo"] = one.elbo(state, *few, rng.fold("elbo")).mean().item()
        measures["log_likelihood"] = one.log_likelihood(state, *few, rng.fold("likelihood")).mean().item()
    return measures


def _track(made: Generated, uri: str, into: str) -> None:
    from ..tracking.described import params
    from ..tracking.mlflow_client import client, experiment
    from ..tracking.provenance import origin

    to, asked = client(uri), made.generation  # first, for it quiets what is imported next
    from mlflow.entities import Metric

    tags = origin() | {"perdure.generated": asked.id, "mlflow.source.name": shortened(asked.line, LONGEST_TAG)}
    name = f"{asked.generator} on {asked.on}"
    run = to.create_run(experiment(to, uri, into), run_name=shortened(name, LONGEST_NAME), tags=tags).info.run_id
    now = int(time.time() * 1000)
    curves = [Metric(k, v, now, p.step) for p in made.told for k, v in p.values.items()]
    ends = [Metric(k, float(v), now, made.told[-1].step) for k, v in made.measures.items()]
    for first in range(0, len(curves), 900):  # a batch may hold 1000
        to.log_batch(run, metrics=curves[first : first + 900])
    to.log_batch(run, metrics=ends, params=params(asdict(asked)))
    for path in sorted((Path(made.folder) / "pictures").glob("*.png")):
        to.log_artifact(run, str(path), "figures")
    to.log_artifact(run, str(made.report))
    to.log_artifact(run, str(Path(made.folder) / "state.pt"))
    to.set_terminated(run, "FINISHED")


def _some(part: Part, chance: torch.Generator, n: int) -> Data:
    at = torch.randperm(len(part.x), generator=chance)[:n].to(part.x.device)
    return Data(pixels(part.x[at]), part.y[at])


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)

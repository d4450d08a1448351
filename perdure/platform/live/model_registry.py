"""A stream that goes on in MLflow: one run for all of it, and a version in the model registry for every arrival.

As with commands, the folder is the truth and MLflow mirrors it. Whatever is sent twice is found again and not made
twice: metrics by step and time, versions by the tags that say which arrival they are of.
"""

import logging
import os
import shutil
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf, isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..figures import live
from ..reports import curves
from ..reports.curves import tables
from ..runs.journal import Row
from ..storage.safe_names import LONGEST_NAME, metric_name, shortened
from ..storage.sealed import read_sealed, write_sealed
from ..storage.secrets import masked
from ..tracking.access import refused as refusal
from ..tracking.described import params
from ..tracking.mlflow_client import client, exists, experiment, known_by
from ..tracking.provenance import origin
from ..tracking.refusals import away
from ..tracking.refusals import told as refused
from .settings import Following
from .state import Kept

ARRIVAL, FOLLOWED = "perdure.arrival", "perdure.follow"
PICKLES = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
ROUNDING = 1e-9
DRAWING = 60.0  # seconds between two times that pictures and tables are sent
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registration:
    """Where versions go. tolerance: what the accuracy of any class may lose for `alias` to move on to a new one."""

    name: str
    alias: str = "champion"
    tolerance: float = 0.02


@dataclass
class Registry:
    """Delivers what MLflow does not have yet, whenever it is asked to."""

    kept: Kept
    following: Following
    created: int  # when the stream began, in ms
    uri: str
    registration: Registration | None = None
    experiment: str = ""  # by name
    known: dict[str, Any] = field(default_factory=dict)  # what MLflow has
    problem: str = ""  # why it does not take more
    _client: Any = None
    _curves: Any = None
    _read: int = 0  # rows
    _points: deque[tuple[int, dict[str, float]]] = field(default_factory=deque)  # of rows, not sent yet
    _drawn: float = -inf  # when
    _champions: dict[str, Any] = field(default_factory=dict)  # loaded versions

    def __post_init__(self):
        self._begin_anew()
        with suppress(FileNotFoundError, ValueError):
            self.known = read_sealed(self._path)  # what is damaged is found in MLflow by its tags

    def deliver(self, status: str = "RUNNING") -> list[str]:
        """Send what is lacking; says in words what became of versions, and of MLflow being away."""
        told, problems = [], []
        parts = (self._open, self._rows, lambda: self._pictures(status != "RUNNING"), lambda: self._versions(told))
        for part in (*parts, lambda: self._client.update_run(self.known["run"], status=status)):
            try:
                part()
            except Exception as e:  # whatever is wrong there, learning goes on
                problems.append(refused(e))
                log.info("MLflow does not take it: %s", problems[-1])
                if self._client is None or not self.known["run"] or away(e, self.uri):
                    break
        if problems and not self.problem:
            where = masked(self.uri)
            told.append(f"MLflow at {where} does not take it ({problems[0]}); tried again after the next arrival")
        self.problem = problems[0] if problems else ""
        return told

    def greet(self) -> None:
        """Before anything is learned. Raises ValueError where MLflow refuses, or its address is none."""
        try:
            self._open()
        except Exception as e:
            if not away(e, self.uri):
                raise ValueError(refusal(self.uri, refused(e))) from None

    @property
    def _path(self) -> Path:
        return known_by(self.kept.path, self.uri)

    def _keep(self) -> None:
        write_sealed(self._path, self.known)

    def _begin_anew(self) -> None:
        self.known = {"run": None, "rows": 0, "pictured": 0, "versions": {}}
        self._curves, self._read = Curves(), 0
        self._points.clear()

    def _open(self) -> None:
        if self._client is None:
            self._client = client(self.uri)
        if self.known["run"] and not exists(self._client, self.known["run"]):
            self._begin_anew()  # somebody has emptied the store
        if self.known["run"] is None:
            into = experiment(self._client, self.uri, self.experiment)
            tags = {FOLLOWED: str(self.created), "perdure.folder": str(self.kept.path)}
            asked = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
            found = self._client.search_runs([into], filter_string=asked, max_results=1)
            name = f"{self.following.strategy} follows"
            name = shortened(name, LONGEST_NAME)
            made = found[0] if found else self._client.create_run(into, self.created, origin() | tags, run_name=name)
            self.known["run"] = made.info.run_id
            self._client.log_batch(self.known["run"], params=params(self.following.row()))
            self._keep()

    def _rows(self) -> None:
        from mlflow.entities import Metric

        rows, before = self.kept.journal.rows(), self.known["rows"]
        for count in range(self._read + 1, len(rows) + 1):
            self._points.append((count, self._curves(rows[count - 1])))
            self._read = count
        while self._points:
            count, values = self._points[0]
            if count > self.known["rows"]:
                sent = [Metric(k, v, self.created + count, count) for k, v in values.items() if not isnan(v)]
                self._client.log_batch(self.known["run"], metrics=sent)
                self.known["rows"] = count
            self._points.popleft()
        if self.known["rows"] > before:
            self._keep()

    def _pictures(self, over: bool) -> None:
        """Once in a while, and at the end: they grow with the stream."""
        rows = self.kept.journal.rows()
        if self.known.get("pictured", 0) >= len(rows) or not (over or time.monotonic() - self._drawn > DRAWING):
            return
        self._drawn = time.monotonic()
        for name, figure in live.drawn(rows).items():
            self._client.log_figure(self.known["run"], figure, f"figures/{name}.png")
        for name, text in tables(rows).items():
            self._client.log_text(self.known["run"], text, f"{name}.csv")
        self.known["pictured"] = len(rows)
        self._keep()

    def _versions(self, told: list[str]) -> None:
        """Register the models that wait for it, in order."""
        if self.registration is None:
            return
        rows = self.kept.journal.rows()
        for folder in sorted(self.kept.models.glob("[0-9]*")):
            number = int(folder.name)
            if number >= len(rows):
                continue  # of an arrival that is under way again
            if str(number) not in self.known["versions"]:
                version = str(self._found(number) or self._made(folder, number, rows[number]))
                told.append(self._judged(version, rows[: number + 1]))
                self.known["versions"][str(number)] = version
                self._keep()
            shutil.rmtree(folder)

    def _tags(self, number: int) -> dict[str, str]:
        return {FOLLOWED: str(self.created), ARRIVAL: str(number + 1)}

    def _found(self, number: int) -> str | None:
        """The version of an arrival, if it was made before a crash."""
        assert self.registration
        asked = f"name = '{self.registration.name}' and run_id = '{self.known['run']}'"
        versions = self._client.search_model_versions(asked)
        tags = self._tags(number)
        return next((v.version for v in versions if tags.items() <= v.tags.items()), None)

    def _made(self, folder: Path, number: int, row: Row) -> str:
        assert self.registration
        name, run, tags = self.registration.name, self.known["run"], self._tags(number)
        into = self._client.get_run(run).info.experiment_id
        asked = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
        for half in self._client.search_logged_models([into], filter_string=asked):  # a crash has left it behind
            self._client.delete_logged_model(half.model_id)
        model = self._client.create_logged_model(into, f"arrival-{number + 1}", source_run_id=run, tags=tags)
        self._client.log_model_artifacts(model.model_id, str(folder))
        self._client.finalize_logged_model(model.model_id, "READY")
        if not self._registered(name):
            self._client.create_registered_model(name)
        held, right = (sum(counts[k] for counts in row["classes"].values()) for k in (0, 1))
        tags |= {"arrival.name": row["name"], "accuracy": f"{right / held:.4f}"}
        source = model.artifact_location  # as models:/ID it would be looked up where this process tracks by default
        made = self._client.create_model_version(name, source, run_id=run, tags=tags, model_id=model.model_id)
        return made.version

    def _registered(self, name: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_registered_model(name) is not None
        except MlflowException as e:
            if e.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _judged(self, version: str, rows: Sequence[Row]) -> str:
        """Move the alias to a version if the rule holds; says in words what was done, there and here."""
        assert self.registration
        name, alias = self.registration.name, self.registration.alias
        current = str(self._client.get_registered_model(name).aliases.get(alias, ""))
        reason = "" if current in ("", version) else self._fallen(current, rows)
        if reason:
            said = f"{alias} stays with version {current}: {reason}"
        else:
            said = f"{alias} is version {version}"
            if current != version:
                self._client.set_registered_model_alias(name, alias, version)
        self._client.set_model_version_tag(name, version, f"alias.{alias}", said)
        return f"{name} version {version}: {said}"

    def _fallen(self, version: str, rows: Sequence[Row]) -> str:
        """Why the newest model must not take the place of a version; empty where it may.

        Both are judged on all that was held out up to the newest arrival; the version is asked as it is served.
        """
        assert self.registration
        try:
            before = self._right(version, len(rows), rows[-1])
        except Exception as e:
            if self._away(e):
                raise
            return f"it cannot be asked what it answers ({type(e).__name__}: {str(e).splitlines()[0][:200]})"
        fallen = []
        for label, (count, right) in rows[-1]["classes"].items():
            loss = (before.get(label, 0) - right) / count
            if loss > self.registration.tolerance + ROUNDING:
                fallen.append(f"class {label} fell from {before[label] / count:.1%} to {right / count:.1%}")
        return ", ".join(fallen)

    @torch.no_grad()
    def _right(self, version: str, arrivals: int, row: Row) -> dict[str, int]:
        """How many held-out samples of each class a version answers rightly."""
        model, outputs = self._loaded(version)
        right = dict.fromkeys(row["classes"], 0)
        for number in range(arrivals):
            taken = self.kept.taken(number)
            assert taken is not None
            labels = {place: label for label, place in taken["names"].items()}
            for x, y in zip(taken["held_x"].split(4096), taken["held_y"].split(4096), strict=True):
                answers = model(x).argmax(1)
                for place in y.unique().tolist():
                    hits = answers[y == place].tolist()
                    right[labels[place]] += sum(outputs.get(str(a)) == labels[place] for a in hits)
        return right

    def _loaded(self, version: str) -> tuple[Any, Mapping[str, str]]:
        """A version, and the class that each of its outputs stands for."""
        if version not in self._champions:
            from mlflow.artifacts import download_artifacts

            assert self.registration
            at = self._client.get_model_version_download_uri(self.registration.name, version)
            with TemporaryDirectory(dir=self.kept.path) as folder:
                self._champions = {version: _served(download_artifacts(at, dst_path=folder, tracking_uri=self.uri))}
        return self._champions[version]

    def _away(self, error: Exception) -> bool:
        """Whether MLflow itself does not answer, so that nothing can be said of its versions."""
        try:
            self._client.get_run(self.known["run"])
        except Exception:
            return True
        return False


def _served(folder: str) -> tuple[Any, Mapping[str, str]]:
    """An exported model and what its outputs are called; nothing of another kind is loaded, as it could be code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of MLflow on its own types
        from mlflow import pytorch
        from mlflow.models import Model

    about = (Model.load(folder).metadata or {}).get("classes")
    if about is None:
        raise ValueError("it does not say which output stands for which class; move the alias by hand")
    before = os.environ.get(PICKLES)
    os.environ[PICKLES] = "false"
    try:
        return pytorch.load_model(folder), about
    finally:
        if before is None:
            del os.environ[PICKLES]
        else:
            os.environ[PICKLES] = before


class Curves:
    """Called with the rows of a stream in order, gives the points that each adds: as many, however long it goes on."""

    def __init__(self):
        self._shared = curves.Curves()

    def __call__(self, row: Row) -> dict[str, float]:
        held, right = (sum(counts[k] for counts in row["classes"].values()) for k in (0, 1))
        values = {k: v for k, v in self._shared(row).items() if not k.startswith("accuracy")}
        values |= {"accuracy": right / held, "samples": row["samples"]}
        values |= {f"accuracy/arrival_{j + 1:04d}": v for j, v in enumerate(row["accuracy"][: curves.SINGLE])}
        values |= {f"accuracy/class_{label}": hits / count for label, (count, hits) in row["classes"].items()}
        return {metric_name(k): float(v) for k, v in values.items() if v is not None}

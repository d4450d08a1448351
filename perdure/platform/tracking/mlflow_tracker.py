"""Mirrors journals in MLflow: a parent run for every command, a child for each of its runs.

The journals are the truth. What of them MLflow has is written down beside the command, so that whoever
comes next delivers the rest: after an outage, or after this process was killed. Everything that is sent
twice is the same to the last bit, timestamps too, and MLflow keeps it once.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any

from ...notation import NotationError, spell
from ...streams.dataset import Source
from ...streams.names import DATASETS
from .. import command as commands
from ..command import Busy, Command
from ..events import Event, Failed, Finished, Reached
from ..execute import begin, finished
from ..journal import Journal
from ..kinds import AnyRun, kind
from ..naming import file_name, metric_name
from ..profile import PROFILE
from ..records import read_sealed, write_sealed
from ..secrets import masked
from ..site import Site
from ..tracker import Told
from .mlflow_client import client, exists, experiment, known_by

PAUSES = (0.5, 1, 2, 5, 10)  # seconds between attempts to reach a server that is away
ENDS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
log = logging.getLogger(__name__)


@dataclass
class MLflow:
    """Tracker with one writer, a thread of this process.

    uri: of the tracking store. patience: seconds to wait at the end for a server that is away.
    """

    site: Site
    uri: str
    experiment: str = "perdure"
    patience: float = 20.0
    _mirror: Any = field(default=None, init=False)
    _problem: str = field(default="", init=False)
    _final: Told | None = field(default=None, init=False)
    _wake: threading.Event = field(default_factory=threading.Event, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)
    _done: threading.Event = field(default_factory=threading.Event, init=False)

    def begin(self, command: Command) -> None:
        self._mirror = _Mirror(command, self.site, self.uri, self.experiment)
        self._mirror.keep()  # from here on whoever comes next knows that something is to be delivered
        threading.Thread(target=self._write, name="mlflow", daemon=True).start()

    def grow(self, command: Command) -> None:
        self._mirror.command = command

    def hear(self, event: Event) -> None:
        if isinstance(event, Reached | Finished | Failed):
            if not isinstance(event, Reached):
                self._mirror.ends[event.run] = "finished" if isinstance(event, Finished) else "failed"
            self._mirror.heard.add(event.run)
            self._wake.set()

    def end(self, comparison: Told) -> str:
        self._final = comparison
        self._ended.set()
        self._wake.set()
        self._done.wait(self.patience)
        while not self._done.is_set() and not self._problem:  # it answers, so there is an end to it
            self._done.wait(1.0)
        if self._done.is_set():
            return ""
        return f"MLflow at {masked(self.uri)} is away ({self._problem}); the next command delivers what it lacks"

    def _write(self) -> None:
        """The writer: whatever is new, then what former commands left behind, until all is delivered."""
        pause, late = iter(PAUSES), list(self._left_behind())
        while not self._done.is_set():
            self._wake.clear()
            ended = self._ended.is_set()
            try:
                self._mirror.deliver(self._final if ended else None)
                while late:
                    _deliver_late(late[0])
                    late.pop(0)
                self._problem, pause = "", iter(PAUSES)
                if ended:
                    self._done.set()
                else:
                    self._wake.wait()
            except Exception as e:  # whatever is wrong there, training goes on, and `end` tells of it
                self._problem = masked(f"{type(e).__name__}: {str(e).splitlines()[0][:200] if str(e) else ''}")
                log.info("MLflow does not take it: %s", self._problem)
                time.sleep(next(pause, PAUSES[-1]))

    def _left_behind(self) -> Iterator["_Mirror"]:
        for folder in commands.folders(self.site.home):
            if folder.name == self._mirror.command.id or not known_by(folder, self.uri).exists():
                continue
            with suppress(NotationError, OSError, ValueError):  # a plugin's, or not ours to read
                mirror = _Mirror(commands.read(folder), self.site, self.uri, self.experiment)
                if not mirror.known["ended"]:
                    yield mirror


def _deliver_late(mirror: "_Mirror") -> None:
    """What a command whose process is gone has left behind."""
    with suppress(Busy), mirror.command.held(mirror.site.home):
        for run in mirror.command.runs:
            folder = mirror.site.folder(run)
            if finished(run, mirror.site):
                mirror.ends[run.id] = "finished"
            elif (folder / "error.txt").exists():
                mirror.ends[run.id] = "failed"
        mirror.deliver(None)
        mirror.close("KILLED")


class _Mirror:
    """One command in MLflow: what it has, and sending what it lacks."""

    def __init__(self, command: Command, site: Site, uri: str, experiment: str):
        self.command, self.site, self.uri, self.experiment = command, site, uri, experiment
        self.path = known_by(command.folder(site.home), uri)
        self.known: dict[str, Any] = {"parent": None, "runs": {}, "ended": False}
        self.ends: dict[str, str] = {}
        self.heard = {run.id for run in command.runs}  # of whom there may be news
        self._client: Any = None
        with suppress(FileNotFoundError, ValueError):
            self.known = read_sealed(self.path)  # what is damaged is found in MLflow by its tags

    def keep(self) -> None:
        write_sealed(self.path, self.known)

    def deliver(self, final: Told | None) -> None:
        self._open()
        for run in self.command.runs:
            if run.id in self.heard or final is not None:
                self._news(run)
        if final is not None and not self._told_of(final):
            self._report(final)
            status = "KILLED" if final.stopped else "FAILED" if final.failed else "FINISHED"
            self.close(status)

    def close(self, status: str) -> None:
        for run in self.command.runs:
            child = self.known["runs"].get(run.id)
            if child and not child["end"]:
                rows = Journal(self.site.folder(run)).rows()[: child["rows"]]
                self._client.log_batch(child["id"], metrics=_last(run, rows, child["created"], "stopped"))
                self._client.set_terminated(child["id"], "KILLED")
                child["end"] = "stopped"
        self._client.set_terminated(self.known["parent"], status)
        self.known["ended"] = status
        self.keep()

    def _told_of(self, final: Told) -> bool:
        """Whether MLflow has this end of the command already; it is told of a better one."""
        return self.known["ended"] == "FINISHED" and not final.failed and not final.stopped

    def _open(self) -> None:
        if self._client is None:
            self._client = client(self.uri)
            if self.known["parent"] and not exists(self._client, self.known["parent"]):
                self.known = {"parent": None, "runs": {}, "ended": False}  # somebody has emptied the store
            elif self.known["parent"] and self.known["ended"] not in ("FINISHED", False):
                self._client.update_run(self.known["parent"], status="RUNNING")
                self.known["ended"] = False
        if self.known["parent"] is None:
            tags = {"perdure.command": self.command.id, "mlflow.source.name": self.command.line or "perdure"}
            self.known["parent"] = self._found_or_made(self.command.title, tags, int(time.time() * 1000))
            self.keep()

    def _news(self, run: AnyRun) -> None:
        """Of every run that was heard of: all the others need not be looked at each time."""
        self.heard.discard(run.id)  # first, since more may come meanwhile
        try:
            self._run(run)
        except Exception:
            self.heard.add(run.id)
            raise

    def _run(self, run: AnyRun) -> None:
        journal = Journal(self.site.folder(run))
        rows = journal.rows()
        if not rows and run.id not in self.ends:
            return  # not begun yet
        created, end = begin(run, self.site)["created"], self.ends.get(run.id, "")
        child = self.known["runs"].get(run.id)
        if child is None or child["created"] != created:  # the second: somebody had it made --again
            child = {"id": self._child(run, journal, created), "created": created, "rows": 0, "end": ""}
            self.known["runs"][run.id] = child
            self.keep()
        if child["rows"] == len(rows) and end in ("", child["end"]):
            return
        if child["end"] not in ("", end):
            self._client.update_run(child["id"], status="RUNNING")
        if child["rows"] < len(rows):
            sent = [m for i in range(child["rows"], len(rows)) for m in _metrics(run, rows[: i + 1], created)]
            self._client.log_batch(child["id"], metrics=sent)
        if end == "finished" and child["end"] != end:
            self._pictures(child["id"], run, rows)
        if end and child["end"] != end:
            if end != "finished" or child["end"]:
                self._client.log_batch(child["id"], metrics=_last(run, rows, created, end))
            self._client.set_terminated(child["id"], ENDS[end])
        child["rows"], child["end"] = len(rows), end
        self.keep()

    def _child(self, run: AnyRun, journal: Journal, created: int) -> str:
        from mlflow.entities import Param

        tags = {"perdure.run": run.id, "perdure.created": str(created), "mlflow.parentRunId": self.known["parent"]}
        id = self._found_or_made(f"{run.method} seed {run.seed}", tags, created)
        params = [Param(k, str(v)) for k, v in run.row().items()]
        self._client.log_batch(id, params=params)
        data = next((n["data"] for n in reversed(journal.notes()) if "data" in n), None)
        source = run.source()
        if data and source is not None:
            self._client.log_inputs(id, [_input(source, data)])
        return id

    def _found_or_made(self, name: str, tags: dict[str, str], start: int) -> str:
        """The MLflow run that bears these tags: made before a crash, or now."""
        asked = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items() if k != "mlflow.source.name")
        into = experiment(self._client, self.experiment, self.uri)
        for found in self._client.search_runs([into], filter_string=asked, max_results=1):
            return found.info.run_id
        return self._client.create_run(into, start_time=start, run_name=name, tags=tags).info.run_id

    def _pictures(self, id: str, run: AnyRun, rows: list) -> None:
        for name, figure in kind(run).figures(run, rows).items():
            self._client.log_figure(id, figure, f"figures/{file_name(name)}.png")
        for path in self.site.pictures(run):
            self._client.log_artifact(id, str(path), "figures")
        for path in sorted((self.site.folder(run) / PROFILE).glob("*")):
            self._client.log_artifact(id, str(path), PROFILE)

    def _report(self, final: Told) -> None:
        parent = self.known["parent"]
        for name, figure in final.covers().items():
            self._client.log_figure(parent, figure, f"figures/{file_name(name)}.png")
        self._client.log_text(parent, final.frame().to_csv(index=False), "runs.csv")
        self._client.log_artifact(parent, final.report)


def _metrics(run: AnyRun, rows: list, created: int) -> list:
    """What a milestone says, at a time that a replay repeats: milliseconds after the run was created."""
    from mlflow.entities import Metric

    step = len(rows)
    values = {metric_name(k): v for k, v in kind(run).metrics(rows).items()}
    return [Metric(k, float(v), created + step, step) for k, v in values.items() if v is not None and not isnan(v)]


def _last(run: AnyRun, rows: list, created: int, end: str) -> list:
    """What is said once a run has ended: MLflow shows the last values as what it has come to, and sorts by them.

    NaN of a run that is not finished, after the values that it had on its way; of one that had been stopped and is
    finished now, the values again.
    """
    from mlflow.entities import Metric

    known = _metrics(run, rows, created) if rows else []
    if end == "finished":
        return [Metric(m.key, m.value, m.timestamp + 2, m.step) for m in known]
    return [Metric(m.key, nan, m.timestamp + 1, m.step) for m in known]


def _input(source: Source, fingerprint: str) -> Any:
    """The data set as MLflow lists it: its name, and the digest of its content."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = spell(source, DATASETS)
    digest, where = fingerprint[:16], json.dumps({"uri": f"perdure:{name}"})
    known = Dataset(name=name, digest=digest, source_type="perdure", source=where)
    return DatasetInput(known, [InputTag("mlflow.data.context", "stream")])

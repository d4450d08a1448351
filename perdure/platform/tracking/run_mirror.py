"""One run in MLflow. What MLflow has of it is written down in the run's folder, for all commands that share the run."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..runs.any_run import AnyRun
from ..runs.journal import Journal
from ..runs.record import begin, finished
from ..runs.workspace import Site
from ..storage.safe_names import LONGEST_NAME, LONGEST_TAG, shortened
from ..storage.sealed import read_sealed, write_sealed
from .delivery import Delivery
from .described import artifacts, describe
from .mlflow_client import PAGES, exists, known_by
from .points import Points

PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"  # a note is what MLflow's page of a run describes it by
ENDS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class RunMirror:
    def __init__(self, run: AnyRun, site: Site, uri: str):
        self.run, self.site, self.folder = run, site, site.folder(run)
        self.path = known_by(self.folder, uri)
        self.known: dict[str, Any] = {}
        self.changed = False  # whether there was something to send
        self._points = Points(run, site)

    def deliver(self, to: Delivery, above: dict[str, str], end: str) -> None:
        """Send what is new. above: tags of a run that is not there yet, its parent's among them. end: what became of
        it, if it has."""
        if end and not self.lacks(to, end):
            return
        self._look(to)
        self._points.read()
        if not self._points.count and not end:
            return  # not begun yet
        self._open(to, above)
        points, before = self._points.after(self.known["rows"], self._created()), self.known["end"]
        if points or end not in ("", before):
            if before not in ("", end):
                to.client.update_run(self.known["id"], status="RUNNING")
            if points:
                to.client.log_batch(self.known["id"], metrics=points)
            if end not in ("", before):
                self._close(to, end)
            self._keep(rows=self._points.count, end=end)
            self.changed = True
        self._points.sent()
        if end == "finished" and not self.known["whole"]:
            self._keep(whole=to.artifacts(artifacts(to.client, self.known["id"], self.run, self.site)))

    def lacks(self, to: Delivery, end: str) -> bool:
        """Whether MLflow lacks something of a run that has ended so, or, if this is not known, that has begun."""
        self._look(to)
        if not self.known:
            return end != ""
        untrue = self.known["end"] == "" or end not in ("", self.known["end"]) or self.known["parent"] in to.gone
        return untrue or (self.known["end"] == "finished" and not self.known["whole"])

    def stop(self, to: Delivery) -> None:
        """It is not gone on with, and has not ended."""
        self._look(to)
        if self.known and not self.known["end"]:
            self._close(to, "stopped")
            self._keep(end="stopped")

    def adopt(self, to: Delivery, parent: str) -> None:
        """Its parent is gone."""
        to.client.set_tag(self.known["id"], PARENT, parent)
        self._keep(parent=parent)

    def shared(self, to: Delivery, tag: str, parent: str) -> None:
        """Say of a child that another command has it too: by a tag to search for, and by a link in its description."""
        id, known = self.known["id"], to.client.get_run(self.known["id"]).data.tags
        if known.get(tag) != parent:
            line = f"- {link(to, parent)}"
            note = known.get(NOTE, "") or "Run of other commands too:\n"
            to.client.set_tag(id, NOTE, f"{note}\n{line}" if len(note) + len(line) < LONGEST_TAG else note)
            to.client.set_tag(id, tag, parent)

    def end(self) -> str:
        """What became of it, as its folder says; empty of one that was stopped."""
        return "finished" if finished(self.run, self.site) else "failed" * (self.folder / "error.txt").exists()

    def _look(self, to: Delivery) -> None:
        """What is written down, by whichever command, unless it is of another database or of a run made before."""
        self.known = {}
        with suppress(FileNotFoundError, ValueError):  # what is damaged is found in MLflow by its tags
            known = read_sealed(self.path)
            if known["store"] == to.server.store and known["created"] == self._created():
                self.known = known

    def _open(self, to: Delivery, above: dict[str, str]) -> None:
        gone = bool(self.known) and self.known["parent"] in to.gone
        if gone and exists(to.client, self.known["id"]):
            self.adopt(to, above[PARENT])
            gone = False
        if self.known and not gone:
            return
        with _alone(Path(self.site.home)):  # of several commands that share the run, one makes it
            self._look(to)
            if gone or not self.known:
                id, parent = self._found_or_made(to, above)
                describe(to.client, id, self.run, self.site)
                self.known = {"store": to.server.store, "id": id, "parent": parent, "created": self._created()}
                self._keep(rows=0, end="", whole=False)

    def _found_or_made(self, to: Delivery, above: dict[str, str]) -> tuple[str, str]:
        """The MLflow run of these tags, made before a crash or by somebody else, or made now; and its parent."""
        tags = {"perdure.run": self.run.id, "perdure.created": str(self._created())}
        asked = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
        for found in to.client.search_runs([to.server.into], filter_string=asked, max_results=1):
            return found.info.run_id, found.data.tags.get(PARENT, "")
        name = shortened(f"{self.run.method} seed {self.run.seed}", LONGEST_NAME)
        tags = above | tags | _where(Journal(self.folder))
        made = to.client.create_run(to.server.into, start_time=self._created(), run_name=name, tags=tags)
        return made.info.run_id, above[PARENT]

    def _close(self, to: Delivery, end: str) -> None:
        if end != "finished" or self.known["end"]:
            to.client.log_batch(self.known["id"], metrics=self._points.last(end, self._created()))
        to.client.set_terminated(self.known["id"], ENDS[end], ended_at(Journal(self.folder), end))

    def _created(self) -> int:
        return begin(self.run, self.site)["created"]

    def _keep(self, **news: Any) -> None:
        self.known |= news
        write_sealed(self.path, self.known)


def link(to: Delivery, run: str) -> str:
    """To the page of a run, by its name."""
    return f"[{to.client.get_run(run).info.run_name}](#/experiments/{to.server.into}/runs/{run}?{PAGES})"


def _where(journal: Journal) -> dict[str, str]:
    """The machine that has made a run, as a tag."""
    told = [note["where"].rpartition(":")[0] for note in journal.notes() if "where" in note]
    return {"perdure.host": told[-1]} if told else {}


def ended_at(journal: Journal, end: str = "") -> int:
    """When a run ended, or was last heard of, in ms."""
    which = {"finished": ("end",), "failed": ("failed",)}.get(end)
    told = [note["time"] for note in journal.notes() if "time" in note and (not which or note.get("event") in which)]
    return int(1000 * (told[-1] if told else time.time()))


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Wait until no other command of this home makes a run in MLflow."""
    with (home / ".mlflow.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

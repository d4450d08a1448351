"""One command in MLflow: the parent of its runs, what it came to, and which of its runs are children of others."""

import csv
import io
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..runs.journal import Journal
from ..runs.study import Command
from ..runs.workspace import Site
from ..storage.safe_names import LONGEST_NAME, LONGEST_TAG, shortened
from ..storage.sealed import read_sealed, write_sealed
from . import ended
from .delivery import Delivery
from .described import params, sending
from .mlflow_client import exists, known_by
from .points import metrics
from .provenance import origin
from .refusals import Refusals, told
from .run_mirror import NOTE, PARENT, RunMirror, ended_at, link

LINKED = 50  # runs of others that are told whose they are too, which costs requests; the table names all


class CommandMirror:
    def __init__(self, command: Command, site: Site, uri: str):
        self.command, self.site, self.uri = command, site, uri
        self.folder = command.folder(site.home)
        self.path = known_by(self.folder, uri)
        self.refusals = Refusals(self.path)
        self.known: dict[str, Any] = {"store": "", "parent": None, "ended": False, "whole": False, "origin": {}}
        self.ends: dict[str, str] = {}
        self.heard = {run.id: None for run in command.runs}  # of whom there may be news
        self.runs: dict[str, RunMirror] = {}
        self._opened = False
        self.grow(command)
        with suppress(FileNotFoundError, ValueError):  # what is damaged is found in MLflow by its tags
            known = read_sealed(self.path)
            self.known |= {"whole": bool(known["ended"])} | {k: v for k, v in known.items() if k != "runs"}

    @property
    def experiment(self) -> str:
        """The name of the one that it was asked to go to; empty where none was asked for."""
        return self.command.how.get("experiment", "")

    @property
    def delivered(self) -> bool:
        return bool(self.known["ended"]) and self.known["whole"]

    def begin(self) -> None:
        """From here on whoever comes next knows that something is to be delivered."""
        ended.forget(self.folder)
        self.refusals.begin()
        finished = self.known["ended"] == "FINISHED" and self.known["whole"]
        self._keep(whole=finished, began=self.known.get("began") or int(time.time() * 1000), origin=origin())

    def forget(self) -> None:
        """Nothing of it was taken, and nothing was made that could be."""
        for path in (self.path, self.refusals.path):
            path.unlink(missing_ok=True)

    def grow(self, command: Command) -> None:
        self.runs |= {run.id: RunMirror(run, self.site, self.uri) for run in command.runs if run.id not in self.runs}
        self.command = command

    def hear(self, run: str, end: str = "") -> None:
        if end:
            self.ends[run] = end
        self.heard[run] = None

    def deliver(self, to: Delivery, over: bool) -> bool:
        """Send what is lacking; whether all was taken, or refused for good. over: no run is made any more."""
        self.open(to)
        for id in list(self.runs if over else self.heard):
            self._run(to, id)
        self.refusals.taken("everything")
        if over:
            self._close(to)
        self.refusals.keep()
        return not to.troubled

    def refused(self, error: Exception) -> None:
        """Whatever is sent."""
        self.refusals.note("everything", told(error))
        self.refusals.keep()

    def _run(self, to: Delivery, id: str) -> None:
        self.heard.pop(id, None)  # first, since more may come meanwhile
        mirror = self.runs[id]
        what = f"run {id} ({shortened(mirror.run.method, 120)}, seed {mirror.run.seed})"
        try:
            taken = to.sent(what, lambda: mirror.deliver(to, self._above, self.ends.get(id, "")))
        except Exception:
            self.heard[id] = None
            raise
        if not taken and what in to.troubled:
            self.heard[id] = None

    @property
    def _above(self) -> dict[str, str]:
        """Tags of a child."""
        return self.known["origin"] | {"mlflow.source.name": self._line, PARENT: self.known["parent"]}

    @property
    def _line(self) -> str:
        """What was typed, as the source of a run."""
        return shortened(self.command.line or "perdure", LONGEST_TAG)

    def open(self, to: Delivery) -> None:
        """Find the parent, or make it."""
        if self._opened:
            return
        to.server.open()
        parent = self.known["parent"]
        if parent and self.known["store"] in ("", to.server.store) and exists(to.client, parent):
            if self.known["ended"] not in ("FINISHED", False):
                to.client.update_run(parent, status="RUNNING")
                self._keep(ended=False)
        else:
            to.gone.update([parent] if parent else [])  # somebody has emptied the store, or deleted it there
            self._keep(parent=self._found_or_made(to), ended=False, whole=False)
        self._keep(store=to.server.store)
        self._opened = True

    def _found_or_made(self, to: Delivery) -> str:
        asked = f"tags.`perdure.command` = '{self.command.id}'"
        for found in to.client.search_runs([to.server.into], filter_string=asked, max_results=1):
            return found.info.run_id
        tags = self.known["origin"] | {"perdure.command": self.command.id, "mlflow.source.name": self._line}
        began, name = self.known.get("began") or int(time.time() * 1000), shortened(self.command.title, LONGEST_NAME)
        made = to.client.create_run(to.server.into, start_time=began, run_name=name, tags=tags).info.run_id
        to.client.log_batch(made, params=params(self.command.row()))
        return made

    def _close(self, to: Delivery) -> None:
        for id, mirror in self.runs.items():
            if not self.ends.get(id):
                to.sent(f"run {id}", lambda mirror=mirror: mirror.stop(to))
        self._keep(whole=self.known["whole"] and not any(mirror.changed for mirror in self.runs.values()))
        end, finished = ended.read(self.folder), self.known["ended"] == "FINISHED"
        if finished and (end is None or (end["status"] == "FINISHED" and self.known["whole"])):
            return
        to.sent("its end", lambda: self._end(to, end))
        taken = end is None or self._report(to)
        lacking = any(mirror.lacks(to, self.ends.get(id, "")) for id, mirror in self.runs.items())
        if taken and not lacking:
            self.refusals.taken("artifacts")
        self._keep(whole=taken and not lacking and not to.troubled and not self.refusals.known)

    def _report(self, to: Delivery) -> bool:
        """What the command came to, and where its runs are; whether all of it was taken."""
        to.sent("which of its runs are others' children", lambda: self._link(to))
        parent, line = self.known["parent"], self.command.line
        sends = [sending(to.client, parent, *file) for file in ended.artifacts(self.folder)]
        sends.append(lambda: to.client.log_text(parent, self._table(), ended.RUNS))
        sends += [lambda: to.client.log_text(parent, line, "command.txt")] * (len(line) > LONGEST_TAG)
        return to.artifacts(sends)

    def _end(self, to: Delivery, end: dict[str, Any] | None) -> None:
        begun = [Journal(m.folder) for m in self.runs.values() if (m.folder / "attempts.jsonl").exists()]
        known = end or {"status": "KILLED", "time": max(map(ended_at, begun), default=int(time.time() * 1000))}
        means = known.get("means", {})
        to.client.log_batch(self.known["parent"], metrics=metrics(0, means, known["time"]))
        to.client.set_terminated(self.known["parent"], known["status"], known["time"])
        self._keep(ended=known["status"])

    def _link(self, to: Delivery) -> None:
        """Name the parents of runs that were there before; runs of a parent that is gone become its own."""
        mine, above = self.known["parent"], Counter(m.known.get("parent", "") for m in self.runs.values() if m.known)
        links, shared = [], 0
        for parent, count in above.items():
            if parent == mine:
                continue
            if not parent or not exists(to.client, parent):
                for mirror in (m for m in self.runs.values() if m.known.get("parent", "") == parent and m.known):
                    mirror.adopt(to, mine)
                continue
            links.append(f"- {count}: {link(to, parent)}")
            for mirror in (m for m in self.runs.values() if m.known.get("parent", "") == parent):
                if (shared := shared + 1) <= LINKED:
                    mirror.shared(to, f"perdure.also.{self.command.id}", mine)
        if links:
            text = "Runs that were there before are children of other commands; `runs.csv` has the id of each.\n"
            to.client.set_tag(mine, NOTE, shortened("\n".join([text, *links]), LONGEST_TAG))

    def _table(self) -> str:
        """The table of runs, with the id that MLflow knows each by."""
        text = Path(self.folder / ended.RUNS).read_text()
        head, *lines = csv.reader(io.StringIO(text))
        if "id" not in head:
            return text
        made, at = io.StringIO(), head.index("id")
        ids = {id: mirror.known.get("id", "") for id, mirror in self.runs.items()}
        writer = csv.writer(made, lineterminator="\n")
        writer.writerow([*head, "mlflow_run"])
        writer.writerows([*line, ids.get(line[at], "")] for line in lines)
        return made.getvalue()

    def _keep(self, **news: Any) -> None:
        self.known |= news
        write_sealed(self.path, self.known)

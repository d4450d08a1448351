"""What is delivered late is what would have been delivered then."""

import csv
import errno
import io
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from perdure.platform.execution.executor import InProcess
from perdure.platform.reports.curves import Curves
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.workspace import Site
from perdure.platform.tracking import ended
from perdure.platform.tracking.tail import Tail
from perdure.strategies.base import Naive
from perdure.strategies.names import STRATEGIES

from .commands import command, held, known, made

OTHER = "rehearsal(20)"


@dataclass(frozen=True)
class Failing(Naive):
    def consolidate(self, learner, experience, state):
        if experience.index == 1:
            raise RuntimeError("out of luck")
        return state


class Stopped(InProcess):
    """Somebody presses Ctrl-C in the second run."""

    def map(self, runs):
        for n, event in enumerate(super().map(runs)):
            if n == 9:
                raise KeyboardInterrupt
            yield event


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path / "home"))


@pytest.fixture
def uri(tmp_path):
    """Of a folder that is away until somebody makes it."""
    (tmp_path / "there").mkdir()
    return f"sqlite:///{tmp_path}/there/mlflow.db"


@pytest.fixture
def away(monkeypatch):
    """MLflow does not answer while this is entered."""

    def nobody(self):
        raise ConnectionRefusedError("nobody is there")

    def enter():
        monkeypatch.setattr("perdure.platform.tracking.mlflow_client.Server.open", nobody)

    return enter, monkeypatch.undo


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_command_is_delivered_late_as_it_ended(site, uri, away, status, monkeypatch):
    STRATEGIES["failing"] = Failing
    second = {"FINISHED": OTHER, "FAILED": "failing", "KILLED": OTHER}[status]
    asked = command(0, strategies=["naive", second])
    leave, come = away
    leave()
    then = time.time()
    told = made(site, uri, asked, Stopped if status == "KILLED" else InProcess, patience=0.2)
    over = time.time()
    assert "is away (ConnectionRefusedError: nobody is there)" in told.undelivered
    come()
    assert made(site, uri, command(7)).undelivered == ""
    to, parents, children = known(uri)
    parent, child = parents[asked.id], children[asked.runs[0].id]
    assert parent.info.status == status and child.info.status == "FINISHED"
    assert children[asked.runs[1].id].info.status == status
    times = [parent.info.start_time, child.info.start_time, child.info.end_time, parent.info.end_time]
    assert times == sorted(times) and int(then * 1000) <= times[0] and times[-1] <= over * 1000 + 1
    assert held(to, parent) == {"figures", "report.html", "runs.csv"}
    assert held(to, parent, "figures") >= {"figures/accuracy_over_stream.png", "figures/accuracy_matrix_naive.png"}
    lines = list(csv.DictReader(io.StringIO(_text(to, parent, "runs.csv"))))
    assert [line["status"] for line in lines] == [o.status for o in told.outcomes]
    assert lines[0]["mlflow_run"] == child.info.run_id
    assert _text(to, parent, "report.html") == (asked.folder(site.home) / "report.html").read_text()


def _text(to, run, name):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return Path(to.download_artifacts(run.info.run_id, name, folder)).read_text()


def test_a_command_that_goes_on_and_is_killed_is_not_said_to_have_ended_as_before(site, uri):
    asked = command(0, strategies=["naive", OTHER])
    made(site, uri, asked, Stopped)
    assert ended.read(asked.folder(site.home))["status"] == "KILLED"
    ended.forget(asked.folder(site.home))
    assert ended.read(asked.folder(site.home)) is None
    made(site, uri, asked)
    ended.forget(asked.folder(site.home))
    assert ended.read(asked.folder(site.home))["status"] == "FINISHED"
    _, parents, _ = known(uri)
    assert parents[asked.id].info.status == "FINISHED"


KILLED = """
import os, signal, sys
from perdure.platform.runs.workspace import Site
from tests.platform.tracking.commands import command, made
from perdure.platform.tracking import mlflow_tracker

def end(self, told):
    mlflow_tracker.ended.keep(self._mirror.folder, told)
    os.kill(os.getpid(), signal.SIGKILL)

mlflow_tracker.MLflow.end = end
made(Site(sys.argv[1]), sys.argv[2], command(0))
"""


def test_a_process_that_is_killed_once_its_command_has_ended_loses_nothing(site, uri):
    words = [sys.executable, "-W", "ignore", "-c", KILLED, site.home, uri]
    assert subprocess.run(words, timeout=200).returncode == -signal.SIGKILL
    made(site, uri, command(1))
    to, parents, children = known(uri)
    one = command(0)
    assert parents[one.id].info.status == children[one.runs[0].id].info.status == "FINISHED"
    assert held(to, parents[one.id]) == {"figures", "report.html", "runs.csv"}


def test_runs_that_commands_share_are_sent_once_and_named_by_all(site, uri, monkeypatch):
    sent = []
    made(site, uri, command(*range(4)))
    from mlflow import MlflowClient

    create, log = MlflowClient.create_run, MlflowClient.log_batch
    monkeypatch.setattr(MlflowClient, "create_run", lambda *a, **k: sent.append("run") or create(*a, **k))
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *a, **k: sent.append("batch") or log(*a, **k))
    more = command(*range(5))
    assert made(site, uri, more).undelivered == ""
    assert sent.count("run") == 2 and sent.count("batch") <= 8  # one parent, one run of five experiences
    to, parents, children = known(uri)
    first, then = parents[command(*range(4)).id], parents[more.id]
    assert {children[r.id].data.tags["mlflow.parentRunId"] for r in more.runs[:4]} == {first.info.run_id}
    assert children[more.runs[4].id].data.tags["mlflow.parentRunId"] == then.info.run_id
    assert f"- 4: [{first.info.run_name}](#/experiments/" in then.data.tags["mlflow.note.content"]
    assert first.info.run_id in then.data.tags["mlflow.note.content"]
    lines = list(csv.DictReader(io.StringIO(_text(to, then, "runs.csv"))))
    assert [line["mlflow_run"] for line in lines] == [children[r.id].info.run_id for r in more.runs]


def test_a_shared_run_that_one_command_left_unfinished_is_finished_by_the_other(site, uri):
    made(site, uri, command(0, strategies=["naive", OTHER]), Stopped)
    other = command(0, strategies=[OTHER])
    assert known(uri)[2][other.runs[0].id].info.status == "KILLED"
    assert made(site, uri, other).undelivered == ""
    to, _, children = known(uri)
    child = children[other.runs[0].id]
    assert child.info.status == "FINISHED" and child.data.metrics["accuracy"] > 0
    steps = [m.step for m in to.get_metric_history(child.info.run_id, "loss") if m.value == m.value]
    assert sorted(set(steps)) == [1, 2, 3, 4, 5]


def test_children_whose_parent_was_deleted_with_them_come_again(site, uri):
    asked = command(0, 1)
    made(site, uri, asked)
    to, parents, children = known(uri)
    for run in (parents[asked.id], children[asked.runs[0].id]):
        to.delete_run(run.info.run_id)
    assert made(site, uri, asked).undelivered == ""
    _, parents, again = known(uri)
    assert again[asked.runs[0].id].info.run_id != children[asked.runs[0].id].info.run_id
    assert again[asked.runs[1].id].info.run_id == children[asked.runs[1].id].info.run_id
    assert {r.data.tags["mlflow.parentRunId"] for r in again.values()} == {parents[asked.id].info.run_id}
    assert {r.info.status for r in again.values()} == {"FINISHED"}


def test_a_full_disk_at_the_end_is_said_and_sent_once_there_is_room(site, uri, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(ended, "write", full)
    told = made(site, uri, command(0))
    assert "No space left on device" in told.undelivered and "perdure resume sends it" in told.undelivered
    monkeypatch.undo()
    assert made(site, uri, command(0)).undelivered == ""
    to, parents, _ = known(uri)
    assert parents[command(0).id].info.status == "FINISHED"
    assert held(to, parents[command(0).id]) == {"figures", "report.html", "runs.csv"}


def test_each_row_of_a_journal_is_read_once_wherever_it_is_written(tmp_path):
    """By one attempt, by the next, and in the file that the last of them leaves."""
    folder = tmp_path / "run"
    folder.mkdir()
    tail, rows = Tail(folder), [{"experience": n, "value": n / 7} for n in range(6)]
    assert tail.more() == ([], False)
    first = Journal(folder, 1)
    first.begin([])
    for row in rows[:3]:
        first.add(row)
    assert tail.more() == (rows[:3], False) and tail.more() == ([], False)
    second = Journal(folder, 2)
    second.begin(rows[:2])  # from an older checkpoint
    assert tail.more() == ([], False)
    for row in rows[2:5]:
        second.add(row)
    assert tail.more() == (rows[3:5], False)
    second.add(rows[5])
    second.end()
    second.clear()
    assert tail.more() == (rows[5:], False) and tail.count == 6
    (folder / "journal.jsonl").write_bytes((folder / "journal.jsonl").read_bytes().replace(b"0.4", b"0.5"))
    assert Tail(folder).more() == (rows[:3], True)


def test_what_a_tracker_is_told_does_not_grow_with_the_stream():
    chance, told = random.Random(0), Curves()
    baseline = [0.1] * 300
    for n in range(300):
        extras = {"rank/0": 1.0, **{f"cosine/{n + 1:02d}/{j + 1:02d}": 0.5 for j in range(n)}}
        row = {"experience": n, "loss": 1.0, "accuracy": [chance.random() for _ in range(300)], "baseline": baseline}
        points = told(row | {"state_bytes": 0, "extras": extras})
        assert len(points) == 6 + 1 + 10
        assert {"accuracy", "forgetting", "loss", "rank/0", "accuracy/experience_10"} < set(points)

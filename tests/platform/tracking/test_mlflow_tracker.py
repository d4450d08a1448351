"""What MLflow has is what the journals say: after one command, after two, after an outage, after a kill."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from math import isnan

import pytest

from perdure.platform.execution.executor import InProcess
from perdure.platform.runs.events import Finished
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.study import Command
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.safe_names import file_name
from perdure.platform.studies.runner import conduct
from perdure.platform.tracking import mlflow_client
from perdure.platform.tracking.mlflow_tracker import MLflow
from perdure.platform.tracking.tracker import Untracked
from perdure.strategies.base import Naive
from perdure.strategies.names import STRATEGIES
from perdure.strategies.training.plan import Plan

from ...browser import look
from ...servers import cuttable, free_port, mlflow

OTHER = "rehearsal(20) + interference"
COMMAND = replace(Command.grid(["naive", OTHER], [0], plan=Plan(1, 64)), line="perdure compare naive ...")


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path / "home"))


def made(site, uri, command=COMMAND, executor=InProcess, **tracker):
    return conduct(command, site, lambda: executor(site), MLflow(site, uri, **tracker))


def told(uri: str):
    """Parent and children of the newest command in MLflow, children by strategy."""
    client = mlflow_client.client(uri)
    experiment = client.get_experiment_by_name("perdure")
    every = client.search_runs([experiment.experiment_id])
    parents = [r for r in every if "perdure.command" in r.data.tags]
    children = {r.data.params["method"]: r for r in every if "perdure.run" in r.data.tags}
    assert len(parents) + len(children) == len(every)
    return client, parents, children


def assert_mirrors(client, child, journal: Journal):
    """Every row of the journal once, in order."""
    rows = journal.rows()
    keys = {"loss": lambda r: r["loss"], "accuracy/experience_01": lambda r: r["accuracy"][0]}
    curved = [k for k in rows[-1]["extras"] if not k.startswith("cosine/")]  # of which there are more and more
    for key, value in (keys | {k: lambda r, k=k: r["extras"].get(k) for k in curved}).items():
        history = client.get_metric_history(child.info.run_id, key)
        rows_ = [r for r in rows if value(r) is not None]
        known = [(m.step, m.value) for m in history if not isnan(m.value)]  # NaN while it was stopped
        assert known == [(r["experience"] + 1, value(r)) for r in rows_]


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    """A home with one command made twice, and its MLflow store."""
    folder = tmp_path_factory.mktemp("sqlite")
    site, uri = Site(str(folder / "home")), f"sqlite:///{folder}/mlflow.db"
    first, second = made(site, uri), made(site, uri)
    assert first.undelivered == second.undelivered == ""
    return site, uri


def test_a_parent_for_the_command_and_a_child_for_each_run(sqlite):
    site, uri = sqlite
    client, parents, children = told(uri)
    assert len(parents) == 1 and set(children) == {"naive", OTHER}
    assert parents[0].info.status == "FINISHED"
    assert parents[0].data.tags["mlflow.source.name"] == COMMAND.line
    for run in COMMAND.runs:
        child = children[run.strategy]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        row = {{"strategy": "method", "stream": "on"}.get(k, k): str(v) for k, v in run.row().items()}
        assert child.data.params == row
        assert_mirrors(client, child, Journal(site.folder(run)))
        dataset = child.inputs.dataset_inputs[0].dataset
        assert dataset.name == "digits" and len(dataset.digest) == 16


def test_pictures_and_report_are_artifacts(sqlite):
    client, parents, children = told(sqlite[1])

    def held(id, path=None):
        return {a.path for a in client.list_artifacts(id, path)}

    assert held(parents[0].info.run_id) == {"figures", "report.html", "runs.csv"}
    drawn = {"accuracy_over_stream", "accuracy_matrix_naive", file_name(f"accuracy_matrix_{OTHER}")}
    assert held(parents[0].info.run_id, "figures") == {f"figures/{name}.png" for name in drawn}
    assert held(children["naive"].info.run_id) == {"accuracy_matrix.csv"}
    assert held(children[OTHER].info.run_id) == {"accuracy_matrix.csv", "extras.csv"}


def test_decision_surfaces_are_artifacts_of_the_run(tmp_path):
    site, uri = Site(str(tmp_path / "home")), f"sqlite:///{tmp_path}/mlflow.db"
    command = Command.grid(["naive"], [0], stream="swiss_roll(2, samples=20)", plan=Plan(1, 20))
    assert made(site, uri, command).undelivered == ""
    client, _, children = told(uri)
    held = {a.path for a in client.list_artifacts(children["naive"].info.run_id, "figures")}
    assert {"figures/surface_01.png", "figures/surface_02.png"} == held


def test_a_run_made_again_is_a_child_of_its_own(sqlite, tmp_path):
    from perdure.platform.runs.set_aside import set_aside

    site, uri = sqlite
    command = Command.grid(["naive"], [5], plan=Plan(1, 64))
    made(site, uri, command)
    set_aside([command.runs[0]], site)
    time.sleep(0.002)
    made(site, uri, command)
    client = mlflow_client.client(uri)
    experiment = client.get_experiment_by_name("perdure").experiment_id
    found = client.search_runs([experiment], filter_string=f"tags.`perdure.run` = '{command.runs[0].id}'")
    assert len(found) == 2
    for child in found:
        assert [m.step for m in client.get_metric_history(child.info.run_id, "accuracy")] == [1, 2, 3, 4, 5]


def test_a_store_that_was_emptied_is_filled_again(site, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    made(site, uri)
    (tmp_path / "mlflow.db").unlink()
    made(site, uri)
    client, parents, children = told(uri)
    assert len(parents) == 1 and len(children) == 2
    assert_mirrors(client, children["naive"], Journal(site.folder(COMMAND.runs[0])))


def test_an_outage_holds_nothing_up_and_loses_nothing(site, tmp_path, capfd):
    """The server dies while runs are made. They end, and the next command delivers what it missed."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    running = mlflow(tmp_path, port)
    running.__enter__()

    class Dying(InProcess):
        def map(self, runs):
            for event in super().map(runs):
                yield event
                if isinstance(event, Finished) and event.run == COMMAND.runs[0].id:
                    running.__exit__(None, None, None)

    first = made(site, uri, executor=Dying, patience=2.0)
    assert [o.status for o in first.outcomes] == ["finished", "finished"]
    assert "is away" in first.undelivered and "the next command delivers what it lacks" in first.undelivered
    assert capfd.readouterr().out == ""
    with mlflow(tmp_path, port):
        other = Command.grid(["naive"], [7], plan=Plan(1, 64))
        assert made(site, uri, other, patience=60.0).undelivered == ""
        client = mlflow_client.client(uri)
        experiment = client.get_experiment_by_name("perdure").experiment_id
        parents = client.search_runs([experiment], filter_string="tags.`perdure.command` LIKE '%'")
        mine = next(p for p in parents if p.data.tags["perdure.command"] == COMMAND.id)
        asked = f"tags.`mlflow.parentRunId` = '{mine.info.run_id}'"
        children = client.search_runs([mine.info.experiment_id], filter_string=asked)
        assert {c.data.params["method"]: c.info.status for c in children} == dict.fromkeys(("naive", OTHER), "FINISHED")
        for child in children:
            run = next(r for r in COMMAND.runs if r.strategy == child.data.params["method"])
            assert_mirrors(client, child, Journal(site.folder(run)))
        page, _ = look(f"{uri}/#/experiments/{mine.info.experiment_id}/runs", tmp_path, patience=60_000)
        assert "2 strategies on split(digits)" in page  # the parent, by its name, on MLflow's own page


def test_an_outage_that_ends_in_time_is_made_up_for_by_the_command_itself(site, tmp_path):
    """Most runs are made while the server is away, in no more time than without it; all of them are delivered."""
    port, started = free_port(), []
    command = Command.grid(["naive", OTHER], range(4), plan=Plan(1, 64))
    other = Site(str(tmp_path / "untracked"))
    conduct(command, other, lambda: InProcess(other), Untracked())  # warm
    start = time.perf_counter()
    untracked = Site(str(tmp_path / "again"))
    conduct(command, untracked, lambda: InProcess(untracked), Untracked())
    alone = time.perf_counter() - start
    with mlflow(tmp_path, port), cuttable(port) as line:

        class Outage(InProcess):
            def map(self, runs):
                ends = 0
                for event in super().map(runs):
                    yield event
                    ends += isinstance(event, Finished)
                    if isinstance(event, Finished) and ends == 2:
                        line.cut()
                        started.append(time.perf_counter())
                started.append(time.perf_counter())
                line.mend()

        uri = f"http://127.0.0.1:{line.port}"
        assert made(site, uri, command, Outage, patience=120.0).undelivered == ""
        client = mlflow_client.client(uri)
        every = client.search_runs([client.get_experiment_by_name("perdure").experiment_id])
        assert [r.info.status for r in every if "perdure.command" in r.data.tags] == ["FINISHED"]
        found = [r for r in every if "perdure.run" in r.data.tags]
        by_id = {child.data.tags["perdure.run"]: child for child in found}
        assert len(found) == len(by_id) == len(command.runs)
        for run in command.runs:
            assert by_id[run.id].info.status == "FINISHED"
            assert_mirrors(client, by_id[run.id], Journal(site.folder(run)))
    away = started[1] - started[0]  # 6 of the 8 runs
    assert away < 2 * alone + 1.0, (away, alone)


KILLED = """
import os, signal, sys
from contextlib import closing
from dataclasses import replace
from perdure.platform.runs.study import Command
from perdure.platform.studies.runner import conduct
from perdure.platform.execution.executor import InProcess
from perdure.platform.storage.sealed import read_sealed
from perdure.platform.runs.workspace import Site
from perdure.platform.tracking.mlflow_client import known_by
from perdure.platform.tracking.mlflow_tracker import MLflow
from perdure.strategies.training.plan import Plan
import time

class Killed(InProcess):
    def map(self, runs):
        for n, event in enumerate(super().map(runs)):
            yield event
            if n == 3:
                while not known.exists() or not read_sealed(known)["rows"]:
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)

site = Site(sys.argv[1])
tracker, command = MLflow(site, sys.argv[2]), Command.grid(["naive"], [3], plan=Plan(1, 64))
known = known_by(site.folder(command.runs[0]), sys.argv[2])
conduct(command, site, lambda: Killed(site), tracker)
"""


def test_runs_of_a_killed_process_do_not_stay_running(site, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    words = [sys.executable, "-W", "ignore", "-c", KILLED, site.home, uri]
    died = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    _, parents, children = told(uri)
    assert parents[0].info.status == children["naive"].info.status == "RUNNING"
    made(site, uri, Command.grid(["ewc"], [3], plan=Plan(1, 64)))
    _, parents, children = told(uri)
    ends = {p.data.tags["perdure.command"]: p.info.status for p in parents}
    killed = Command.grid(["naive"], [3], plan=Plan(1, 64))
    assert ends[killed.id] == children["naive"].info.status == "KILLED"
    made(site, uri, killed)  # and gone on with
    client, _, children = told(uri)
    assert children["naive"].info.status == "FINISHED"
    assert_mirrors(client, children["naive"], Journal(site.folder(killed.runs[0])))


BROKEN: list[int] = []  # experiences that Breaking cannot learn


@dataclass(frozen=True)
class Breaking(Naive):
    """A strategy that fails where BROKEN says so."""

    def consolidate(self, learner, experience, state):
        if experience.index in BROKEN:
            raise RuntimeError("out of luck")
        return state


def test_a_run_that_failed_half_way_has_come_to_nothing_until_it_is_finished(site, tmp_path, monkeypatch):
    monkeypatch.setitem(STRATEGIES, "breaking", Breaking)
    uri, command = f"sqlite:///{tmp_path}/mlflow.db", Command.grid(["breaking"], [0], plan=Plan(1, 64))
    monkeypatch.setattr(f"{__name__}.BROKEN", [2])
    failed = made(site, uri, command)
    assert failed.failed and failed.frame()["accuracy"].isna().all()
    assert "out of luck" in failed.frame()["problem"][0]
    client, _, children = told(uri)
    child = children["breaking"]
    assert child.info.status == "FAILED" and isnan(child.data.metrics["accuracy"])
    history = client.get_metric_history(child.info.run_id, "accuracy")
    assert [m.step for m in history] == [1, 2, 2] and not any(isnan(m.value) for m in history[:2])
    made(site, uri, command)  # fails again: the same is said once more, and kept once
    assert len(client.get_metric_history(child.info.run_id, "accuracy")) == 3
    monkeypatch.setattr(f"{__name__}.BROKEN", [])
    whole = made(site, uri, command)
    child = told(uri)[2]["breaking"]
    assert child.info.status == "FINISHED"
    assert child.data.metrics["accuracy"] == whole.outcomes[0].metrics()["accuracy"] == whole.frame()["accuracy"][0]

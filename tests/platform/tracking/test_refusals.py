"""What MLflow refuses is told once, and holds up nothing: its own servers, databases and artifact folders."""

import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from perdure.platform.execution.executor import InProcess
from perdure.platform.runs.events import Finished
from perdure.platform.runs.study import folders
from perdure.platform.runs.workspace import Site
from perdure.platform.tracking import access, mlflow_tracker, refusals
from perdure.platform.tracking.access import expect_welcome
from perdure.platform.tracking.mlflow_client import client, quiet
from perdure.strategies.base import Naive
from perdure.strategies.names import STRATEGIES

from ...servers import free_port, guard, mlflow, postgres
from .commands import command, held, known, made

LOGIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "a-long-password"}


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path / "home"))


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """MLflow's basic-auth app over PostgreSQL, whose artifacts' folder cannot be made: a file has its name."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    (folder / "artifacts").write_text("")
    told = guard(folder, LOGIN["MLFLOW_TRACKING_PASSWORD"])
    with postgres() as store, mlflow(folder, port, ["--app-name", "basic-auth"], store, **told) as group:
        yield f"http://127.0.0.1:{port}", folder, group


@contextmanager
def writable(folder):
    """While artifacts can be kept."""
    (folder / "artifacts").unlink()
    try:
        yield
    finally:
        shutil.rmtree(folder / "artifacts", ignore_errors=True)
        (folder / "artifacts").write_text("")


@dataclass(frozen=True)
class Labelled(Naive):
    label: str = ""


@pytest.fixture
def signed_in(guarded, monkeypatch):
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    return guarded


def test_who_has_not_signed_in_is_told_at_the_start_and_what_to_set(guarded, site, monkeypatch):
    for name in LOGIN:
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    with pytest.raises(
        ValueError, match="refuses: .*401.*set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
    ):
        made(site, guarded[0], command(0))
    assert time.monotonic() - start < 15 and not list(site.runs.glob("*"))


def test_who_may_only_read_is_told_so(signed_in, site, monkeypatch):
    uri, name = signed_in[0], "reader"
    made(site, uri, command(1))  # the experiment is the administrator's
    login = tuple(LOGIN.values())
    new = {"username": name, "password": LOGIN["MLFLOW_TRACKING_PASSWORD"]}
    requests.post(f"{uri}/api/2.0/mlflow/users/create", json=new, auth=login, timeout=30).raise_for_status()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    for waits in (access, mlflow_tracker):
        monkeypatch.setattr(waits, "GREETING", 120.0)  # however busy this machine is
    for asks in (lambda: made(site, uri, command(2)), lambda: expect_welcome(uri)):
        with pytest.raises(ValueError, match="ask for the right to write there"):
            asks()


def test_artifacts_that_a_server_cannot_keep_hold_up_nothing_and_follow_once_it_can(signed_in, site):
    uri, folder, _ = signed_in
    first, other, third = command(3), command(4), command(5)
    told = made(site, uri, first).undelivered
    assert "refuses artifacts: " in told and "let the folder of artifacts be written to" in told
    to, parents, children = known(uri)
    assert parents[first.id].info.status == children[first.runs[0].id].info.status == "FINISHED"
    noted = next(f for f in folders(site.home) if f.name == first.id)
    assert set(json.loads(next(noted.glob("mlflow-*-refused.json")).read_text())) == {"artifacts"}
    again = made(site, uri, other).undelivered  # its own are refused too; of the first nothing more is said
    assert again.count("refuses") == 1 and other.id in again and first.id not in again
    with writable(folder):
        assert made(site, uri, third).undelivered == ""
        for one in (first, other, third):
            assert held(to, known(uri)[1][one.id]) == {"figures", "report.html", "runs.csv"}
            assert held(to, known(uri)[2][one.runs[0].id]) == {"accuracy_matrix.csv"}
        assert not list(noted.glob("mlflow-*-refused.json"))


def test_what_is_longer_than_mlflow_takes_is_shortened_and_kept_whole_elsewhere(signed_in, site, monkeypatch):
    """PostgreSQL refuses what SQLite lets pass."""
    uri, folder, _ = signed_in
    monkeypatch.setitem(STRATEGIES, "labelled", Labelled)
    asked = command(6, strategies=[f"labelled('{'many words ' * 700}')", "naive"])
    with writable(folder):
        assert made(site, uri, asked).undelivered == ""
        to, parents, children = known(uri)
        long = children[asked.runs[0].id]
        assert len(long.data.params["method"]) == 6000 and len(long.info.run_name) == 250
        assert long.info.status == parents[asked.id].info.status == "FINISHED"
        at = to.download_artifacts(long.info.run_id, "parameters.json", str(folder))
        assert json.loads(Path(at).read_text()) == {"strategy": asked.runs[0].strategy}


def test_a_server_that_is_stopped_in_mid_call_is_away_and_not_waited_for(signed_in, site):
    """And once it goes on, it has everything."""
    uri, _, group = signed_in
    asked = command(7, 8, 9)

    class Stopping(InProcess):
        def map(self, runs):
            for event in super().map(runs):
                yield event
                if isinstance(event, Finished) and event.run == asked.runs[0].id:
                    os.killpg(group, signal.SIGSTOP)

    start = time.monotonic()
    try:
        told = made(site, uri, asked, Stopping, patience=3.0)
        assert "is away" in told.undelivered and [o.status for o in told.outcomes] == ["finished"] * 3
        assert time.monotonic() - start < 40
    finally:
        os.killpg(group, signal.SIGCONT)
    made(site, uri, command(10), patience=60.0)
    _, parents, children = known(uri)
    assert parents[asked.id].info.status == "FINISHED"
    assert {children[run.id].info.status for run in asked.runs} == {"FINISHED"}


def test_a_deleted_experiment_is_said_before_there_is_a_run(site, uri, monkeypatch):
    first, second, third, fourth = (command(n) for n in range(4))
    made(site, uri, first)
    to = client(uri)
    into = to.get_experiment_by_name("perdure").experiment_id
    to.delete_experiment(into)
    with pytest.raises(ValueError, match=f"'perdure' .id {into}. is deleted; restore it there, or .* or leave it with"):
        made(site, uri, second)
    assert {path.name for path in site.runs.iterdir()} == {run.id for run in first.runs}  # before any run
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert made(site, uri, third).undelivered == ""
    assert set(known(uri)[1]) == {third.id}  # of the second there is nothing to send
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    to.restore_experiment(into)
    assert made(site, uri, fourth).undelivered == ""
    assert set(known(uri)[1]) == {first.id, fourth.id}


def test_an_experiment_that_is_deleted_meanwhile_and_restored_in_time_misses_nothing(site, uri):
    asked, to = command(0, 1), client(uri)

    class Deleting(InProcess):
        def map(self, runs):
            for event in super().map(runs):
                yield event
                if isinstance(event, Finished) and event.run == asked.runs[0].id:
                    while to.get_experiment_by_name("perdure") is None:
                        time.sleep(0.05)
                    into = to.get_experiment_by_name("perdure").experiment_id
                    to.delete_experiment(into)
            to.restore_experiment(into)

    assert made(site, uri, asked, Deleting).undelivered == ""
    _, parents, children = known(uri)
    assert parents[asked.id].info.status == "FINISHED"
    assert {children[run.id].info.status for run in asked.runs} == {"FINISHED"}


def test_a_run_that_somebody_has_deleted_is_refused_once_and_alone(site, uri):
    asked, to = command(0, 1, 2), client(uri)

    class Deleting(InProcess):
        def map(self, runs):
            for event in super().map(runs):
                yield event
                if isinstance(event, Finished) and event.run == asked.runs[0].id:
                    while not (found := [r for r in _children(to) if r.data.tags["perdure.run"] == event.run]):
                        time.sleep(0.05)
                    to.delete_run(found[0].info.run_id)

    told = made(site, uri, asked, Deleting).undelivered
    _, parents, children = known(uri)
    assert parents[asked.id].info.status == "FINISHED"
    assert {children[run.id].info.status for run in asked.runs[1:]} == {"FINISHED"}
    if told:  # it was deleted before all of it was there
        assert f"refuses run {asked.runs[0].id} (naive, seed 0): " in told and "restore it there" in told
    assert made(site, uri, command(3)).undelivered == ""
    assert held(to, parents[asked.id]) == {"figures", "report.html", "runs.csv"}


def _children(to):
    into = to.get_experiment_by_name("perdure")
    return [r for r in to.search_runs([into.experiment_id]) if "perdure.run" in r.data.tags] if into else []


def test_artifacts_that_cannot_be_kept_in_a_folder_here_are_refused_at_once(site, uri, tmp_path):
    (tmp_path / "mlruns").write_text("no folder")
    start = time.monotonic()
    told = made(site, uri, command(0, 1)).undelivered
    assert "refuses artifacts: NotADirectoryError" in told and told.count("refuses") == 1
    assert time.monotonic() - start < 25
    assert {r.info.status for r in [*known(uri)[1].values(), *known(uri)[2].values()]} == {"FINISHED"}


def test_a_database_that_is_locked_is_waited_for(site, uri, tmp_path):
    made(site, uri, command(0))
    with closing(sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False)) as other:
        other.execute("begin exclusive")
        free = threading.Timer(25, other.rollback)  # longer than the 20 s that MLflow itself waits for
        free.start()
        assert made(site, uri, command(1), patience=90.0).undelivered == ""
        free.join()
    assert {r.info.status for r in known(uri)[1].values()} == {"FINISHED"}


def test_a_database_that_is_none_is_no_outage(site, uri, tmp_path):
    (tmp_path / "mlflow.db").write_text("no database at all")
    with pytest.raises(ValueError, match="mlflow.db holds none .file is not a database.; name another file"):
        made(site, uri, command(0))
    assert not site.runs.exists()


def test_a_server_that_is_no_mlflow_and_an_address_that_is_none_are_said_at_the_start(site, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{other.server_address[1]}"
        for asks in (expect_welcome, lambda uri: made(site, uri, command(0))):
            with pytest.raises(ValueError, match=f"MLflow at {uri} refuses: .*; or leave it with --no-tracking"):
                asks(uri)
        other.shutdown()
    for uri in ("htp://host", "localhost:5000", "postgresql+nothing://me@127.0.0.1:1/runs"):
        with pytest.raises(ValueError, match="refuses: .*--no-tracking"):
            made(site, uri, command(0))
    assert not site.runs.exists() and not list(site.runs.parent.glob("commands/*/mlflow-*"))


def test_a_server_that_is_away_is_sent_to_later(uri):
    expect_welcome(f"http://127.0.0.1:{free_port()}")
    expect_welcome(uri)  # not there yet, and made with the first command
    expect_welcome(None)


@pytest.mark.parametrize(
    ("code", "away"),
    [
        ("INVALID_PARAMETER_VALUE", False), ("RESOURCE_DOES_NOT_EXIST", False), ("PERMISSION_DENIED", False),
        ("UNAUTHENTICATED", False), ("BAD_REQUEST", False), ("ENDPOINT_NOT_FOUND", False), ("INTERNAL_ERROR", True),
        ("TEMPORARILY_UNAVAILABLE", True), ("RESOURCE_EXHAUSTED", True), ("REQUEST_LIMIT_EXCEEDED", True),
    ],
)  # fmt: skip
def test_a_servers_codes_are_told_apart(code, away):
    quiet()
    from mlflow.exceptions import RestException

    assert refusals.away(RestException({"error_code": code, "message": "so"}), "http://host") is away


@pytest.mark.parametrize(
    ("status", "away"), [(400, False), (401, False), (413, False), (429, True), (500, True), (503, True)]
)
def test_an_object_stores_statuses_are_told_apart(status, away):
    answer = requests.Response()
    answer.status_code = status
    assert refusals.away(requests.HTTPError(response=answer), "http://host") is away


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), requests.ConnectionError()])
def test_who_does_not_answer_is_away(error):
    assert refusals.away(error, "http://host")


@pytest.mark.parametrize("error", [PermissionError(13, "no"), TypeError("ours"), ImportError("boto3")])
def test_what_is_wrong_here_is_no_outage(error):
    assert not refusals.away(error, "http://host")

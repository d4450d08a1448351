"""Addresses of MLflow: whatever a path holds, the database lies at it, and whoever opens the address finds it."""

import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

import perdure
from perdure.platform.tracking.addresses import database, default_uri, file_of, settled, tracking_in_job
from perdure.platform.tracking.mlflow_client import client, experiment

from ...servers import answers, free_port

ODD = ["q?a=b", "pct%41", "a#b", "it's", "both ' and \"", "a:b", "sp ace é", "&;=+", "back\\slash", "100%", "plain"]


@pytest.mark.parametrize("name", ODD)
def test_the_database_and_its_artifacts_lie_in_the_working_folder(tmp_path, monkeypatch, name):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = default_uri()
    assert file_of(uri) == folder / "mlflow.db"
    to = client(uri)
    run = to.create_run(experiment(to, uri)).info.run_id
    to.log_text(run, "here", "some where/a.txt")
    assert [a.path for a in to.list_artifacts(run, "some where")] == ["some where/a.txt"]
    assert sorted(p.name for p in folder.iterdir()) == ["mlflow.db", "mlruns"]
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert list(folder.rglob("a.txt"))
    with closing(sqlite3.connect(folder / "mlflow.db")) as rows:
        assert rows.execute("select run_uuid from runs").fetchall() == [(run,)]
        assert all("file://" in at for (at,) in rows.execute("select artifact_location from experiments"))


def test_ui_opens_the_database_that_a_command_has_written(tmp_path):
    folder = tmp_path / "q?a=b 100%41 'so' #1"
    folder.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    port, words = free_port(), [sys.executable, "-W", "ignore", "-m", "perdure"]
    made = subprocess.run(
        [*words, "run", "naive", "--steps", "1", "--here"], cwd=folder, env=env, capture_output=True, text=True
    )
    assert made.returncode == 0 and "MLflow" not in made.stdout, made.stdout + made.stderr
    shown = subprocess.Popen(
        [*words, "ui", "--port", str(port)], cwd=folder, env=env, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        answers(f"http://127.0.0.1:{port}/health")
        there = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=perdure"
        with urllib.request.urlopen(there, timeout=30) as found:
            assert b"perdure" in found.read()
    finally:
        os.killpg(shown.pid, signal.SIGINT)
        shown.wait(60)
    assert sorted(p.name for p in folder.iterdir()) == ["mlflow.db", "mlruns", "perdure-runs"]
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_plain_paths_keep_the_address_that_everybody_knows():
    assert database(Path("/a b/mlflow.db")) == "sqlite:////a b/mlflow.db"
    assert [file_of(uri) for uri in ("http://h/x", "sqlite:///:memory:", "postgresql://h/db", "sqlite://")] == [
        None
    ] * 4


def test_an_address_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settled("sqlite:///mine.db") == f"sqlite:///{tmp_path}/mine.db"
    assert settled("sqlite:////mine.db") == "sqlite:////mine.db" and settled("http://h") == "http://h"


def test_a_job_keeps_to_its_storage_whatever_its_path_holds(tmp_path, monkeypatch):
    storage = tmp_path / "runs?"
    monkeypatch.setenv("PERDURE_STORAGE", str(storage))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert file_of(tracking_in_job("sqlite:///m.db")) == storage / "m.db"
    assert file_of(default_uri()) == storage / "mlflow.db"
    with pytest.raises(ValueError, match="leaves the storage of this job"):
        tracking_in_job(database(tmp_path / "runs%3F" / "m.db"))


SECRET = "https://127.0.0.1:1/?token=hunter2secret"


@pytest.mark.parametrize("command", ["compare", "tune"])
def test_a_password_that_was_not_written_down_is_asked_for(tmp_path, monkeypatch, command):
    """Of every command, and never does the local database take the place of what was asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("perdure.platform.tracking.mlflow_tracker.MLflow.patience", 0.1)
    how = {"home": str(tmp_path / "home"), "tracking_uri": SECRET, "steps": 2}
    if command == "compare":
        perdure.compare(["naive"], seeds=1, here=True, **how)
    else:
        monkeypatch.setattr("perdure.platform.search.runner._sought", _interrupted)
        perdure.tune("rehearsal(choice(5, 10))", trials=1, **how)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and b"hunter2secret" in p.read_bytes()] == []
    with pytest.raises(ValueError, match=r"token=\*\*\*, and the password .* --tracking-uri or MLFLOW_TRACKING_URI"):
        perdure.resume(home=how["home"])
    assert not (tmp_path / "mlflow.db").exists()
    for given in ({"tracking": False}, {"tracking_uri": SECRET}):
        perdure.resume(home=how["home"], **given)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SECRET)
    perdure.resume(home=how["home"])
    assert not (tmp_path / "mlflow.db").exists()


def _interrupted(*asked):
    raise KeyboardInterrupt

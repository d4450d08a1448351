"""What is typed is what is spoken to, and where nothing of Ray's listens is known within seconds."""

import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.cluster import connection
from perdure.platform.cluster.addresses import VARIABLES, as_typed, expect_dashboard, expect_head

SECONDS = 3.0
VERSION = {"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "x"}


@contextmanager
def server(answers: dict[str, object], code: int = 200):
    """The address of an HTTP server on loopback, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            known = answers.get(self.path.split("?")[0])
            self.send_response(code if known is not None else 404)
            self.end_headers()
            self.wfile.write(json.dumps(known).encode())

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", asked
    finally:
        listening.shutdown()
        listening.server_close()


@contextmanager
def silent():
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def in_time():
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS + 1.0  # of a busy machine


def dashboard(code: int = 200):
    return server({"/api/version": VERSION, "/api/jobs/": []}, code)


def test_variables_of_rays_are_hidden_and_come_back(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "other:1")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with as_typed():
        assert "RAY_ADDRESS" not in os.environ
    assert os.environ["RAY_ADDRESS"] == "other:1" and "RAY_API_SERVER_ADDRESS" not in os.environ


@pytest.mark.parametrize("code", [200, 401])
def test_a_dashboard_is_known(code):
    with dashboard(code) as (address, _):
        expect_dashboard(address)


@pytest.mark.parametrize("address", ["head:8265", "127.0.0.1", "ray://head:10001", "http://", "auto", "ftp://head:1"])
def test_what_is_no_address_of_a_dashboard_is_refused(address):
    with pytest.raises(ValueError, match="expected the address of a Ray dashboard, as http://head:8265"):
        expect_dashboard(address)


def test_where_no_dashboard_is_one_sentence_says_so():
    with in_time(), pytest.raises(ValueError, match=r"no Ray dashboard answers at http://127.0.0.1:1 \("):
        expect_dashboard("http://127.0.0.1:1")
    with in_time(), silent() as port, pytest.raises(ValueError, match="no Ray dashboard answers"):
        expect_dashboard(f"http://127.0.0.1:{port}")
    for answers in ({}, {"/api/version": {"mlflow": 1}}, {"/api/version": [1]}):
        with server(answers) as (address, _), pytest.raises(ValueError, match="is no Ray dashboard"):
            expect_dashboard(address)


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:x", "head:6379/x", "a b:1", "1:2:3"])
def test_what_is_no_address_of_a_head_is_refused(address):
    with pytest.raises(ValueError, match="expected the address of a Ray cluster to join, as head:6379"):
        expect_head(address)


def test_where_no_head_is_one_sentence_says_so():
    with in_time(), pytest.raises(ValueError, match=r"no Ray cluster answers at 127.0.0.1:1; is a cluster running"):
        expect_head("127.0.0.1:1")
    with in_time(), pytest.raises(ValueError, match="no Ray cluster answers at 127.0.0.1:99999"):
        expect_head("127.0.0.1:99999")
    with in_time(), silent() as port, pytest.raises(ValueError, match="is no Ray cluster"):
        expect_head(f"127.0.0.1:{port}")
    with in_time(), dashboard() as (address, _):
        with pytest.raises(ValueError, match="is no Ray cluster"):
            expect_head(address.removeprefix("http://"))
        with pytest.raises(ValueError, match="got that of a server"):
            expect_head(address)


@pytest.mark.parametrize("variables", [(), VARIABLES[:1], VARIABLES[1:], VARIABLES])
def test_jobs_are_those_of_the_address_that_is_typed(monkeypatch, variables):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with dashboard() as (other, wrong), dashboard() as (typed, right):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name in variables:
            monkeypatch.setenv(name, other)
        told = CliRunner().invoke(main.app, ["job", "list", "--address", typed])
    assert told.exit_code == 0, told.output
    assert f"at {typed}" in told.stderr and "/api/jobs/" in " ".join(right) and wrong == []


def test_a_cluster_that_is_joined_is_the_one_that_is_typed(monkeypatch):
    import ray

    said = {}

    def init(address, **_):
        said.update(address=address, environment={k: v for k, v in os.environ.items() if "ADDRESS" in k})
        raise ConnectionError("not now")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connection, "expect_head", lambda address: None)
    for name in VARIABLES:
        monkeypatch.setenv(name, "other:1")
    with pytest.raises(ValueError, match="no Ray cluster answers at typed:2"):
        connection.connect("typed:2")
    assert said["address"] == "typed:2"
    assert not set(VARIABLES) & said["environment"].keys()


@pytest.mark.parametrize("command", ["compare", "run", "meta", "tune", "attack", "follow", "resume"])
def test_every_command_says_within_seconds_that_nothing_is_there(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    more = {"tune": ["ewc(uniform(1, 2))"], "attack": ["pgd", "--run", "5f2c"], "follow": ["inbox", "--state", "s"]}
    with in_time():
        told = CliRunner().invoke(main.app, [command, *more.get(command, []), "--address", "127.0.0.1:1"])
    said = " ".join(told.output.replace("│", " ").split())
    assert told.exit_code == 2 and "no Ray cluster answers at 127.0.0.1:1" in said

"""Results in an object store that speaks S3: a server of moto's on loopback."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
import requests
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Failed, Finished, Reached
from perdure.platform.runs.sync import fetch
from perdure.platform.runs.workspace import Site
from perdure.platform.storage import remote_access
from perdure.platform.storage.mirror import Mirror, names
from perdure.testing.equality import same
from perdure.testing.executors import RUN, results


@contextmanager
def store() -> Iterator[tuple[str, dict[str, str]]]:
    """An address in an empty bucket, and the environment in which it is seen."""
    import s3fs
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server, name = ThreadedMotoServer("127.0.0.1", 0, verbose=False), uuid4().hex
    server.start()
    host, port = server.get_host_and_port()
    login = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(key="test", secret="test", endpoint_url=f"http://{host}:{port}").mkdir(name)
    yield f"s3://{name}/runs", {"AWS_ENDPOINT_URL": f"http://{host}:{port}"} | login
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    with store() as (url, environment):
        for key, value in (environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(key, value)
        yield url


def test_a_run_killed_on_one_machine_ends_on_another_with_the_same_bits(bucket, tmp_path, monkeypatch):
    whole = Site(str(tmp_path / "whole"))
    list(execute(RUN, whole, Data(whole).of(RUN)))
    sleeping = execute(RUN, Site(bucket), Data(whole).of(RUN))
    next(e for e in sleeping if isinstance(e, Reached) and e.row["experience"] == 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    site = Site(bucket)
    assert list(execute(RUN, site, Data(site).of(RUN)))[-1] == Finished(RUN.id, False)
    assert isinstance(end := list(sleeping)[-1], Failed) and end.kind == "taken"  # the first one wakes up
    fetch([RUN.id], site, checkpoints=True)
    assert same(results(site, RUN), results(whole, RUN))
    assert list(execute(replace(RUN), site, Data(site).of(RUN)))[-1] == Finished(RUN.id, True)


def test_attempts_claimed_at_once_differ(bucket, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: Mirror(tmp_path, bucket).claim(), range(4))) == [1, 2, 3, 4]


LOGIN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"


def refused(url: str, *words: str) -> str:
    """What a command says whose storage is no good: within seconds, before there is a run."""
    start = time.monotonic()
    told = CliRunner().invoke(main.app, [*(words or ("run", "naive", "--no-tracking")), "--home", url])
    assert told.exit_code == 2 and time.monotonic() - start < 20, told.output
    (line,) = told.stderr.strip().splitlines()
    return line.removeprefix("error: ")


def test_a_bucket_that_is_not_there_is_named(bucket):
    said = "s3://nowhere/runs is not there (FileNotFoundError: The specified bucket does not exist); make the bucket"
    assert refused("s3://nowhere/runs").startswith(said)
    assert refused("s3://nowhere/runs", "show", "5f2c").startswith(said)


def test_who_has_no_login_is_told_what_to_set(bucket, monkeypatch, tmp_path):
    for name in LOGIN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    said = refused(bucket)
    assert f"{bucket} asks for a login" in said
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of every machine" in said


def test_a_login_that_is_refused_is_told(bucket):
    server = os.environ["AWS_ENDPOINT_URL"]
    requests.post(f"{server}/moto-api/reset-auth", data=b"0", timeout=5).raise_for_status()
    try:
        said = refused(bucket)
    finally:
        requests.post(f"{server}/moto-api/reset-auth", data=b"inf", timeout=5)
    assert said.startswith(
        f"{bucket} refuses what it is asked for (PermissionError: The AWS Access Key Id you provided"
    )
    assert "AWS_ACCESS_KEY_ID" in said


def test_who_may_not_write_is_told_before_there_is_something_to_keep(bucket, monkeypatch):
    import s3fs

    def denied(*given, **other):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "pipe_file", denied)
    assert "refuses what it is asked for (PermissionError: Access Denied)" in refused(bucket)


def test_where_nobody_answers_is_told_with_the_endpoint(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert "does not answer (EndpointConnectionError: " in (said := refused(bucket))
    assert said.endswith("; AWS_ENDPOINT_URL is http://127.0.0.1:1")


def test_a_server_that_is_silent_is_not_waited_for(bucket, monkeypatch):
    monkeypatch.setattr(remote_access, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer (TimeoutError: nothing within 1 s)" in refused(f"{bucket}/silent")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket/runs", "needs a library that is not here .*; pip install gcsfs, on every machine"),
        ("az://bucket/runs", "needs a library that is not here .*; pip install adlfs, on every machine"),
        ("foo://bucket/runs", "foo://bucket/runs is no address of a storage .*; name one as s3://bucket/runs"),
    ],
)
def test_a_library_that_is_not_here_is_named(url, said, monkeypatch):
    import sys

    for library in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=said):
        remote_access.expect_storage(url)


def test_a_storage_that_falls_silent_later_fails_as_a_connection_does(bucket, tmp_path, monkeypatch):
    """What is carried is tried again, and a run ends as for want of its storage."""
    mirror = Mirror(tmp_path, bucket)
    monkeypatch.setattr("perdure.platform.storage.mirror.PAUSES", (0.0,))
    monkeypatch.setattr(mirror.fs, "pipe_file", _unanswered)
    monkeypatch.setattr(mirror.fs, "ls", _unanswered)
    with pytest.raises(ConnectionError, match="EndpointConnectionError"):
        mirror._put("there", b"")
    with pytest.raises(ConnectionError, match="EndpointConnectionError"):
        names(mirror.fs, mirror.root)


def _unanswered(*given, **other):
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

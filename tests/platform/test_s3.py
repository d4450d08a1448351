"""Results in an object store that speaks S3: a server of moto's on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from perdure.platform.events import Failed, Finished, Reached
from perdure.platform.execute import execute
from perdure.platform.executor import Data
from perdure.platform.mirror import Mirror, fetch
from perdure.platform.site import Site
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

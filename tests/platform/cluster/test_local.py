"""The cluster that a command starts for itself: closed to others, noticed when it dies, and gone with its command."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from perdure.platform.api import resume
from perdure.platform.cluster import local
from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.lookup import found
from perdure.platform.runs.workspace import Site
from perdure.testing.equality import same
from perdure.testing.executors import results

from ..fleet.nodes import Watched

ROOT = Path(__file__).parents[3]
STRANGER = """
import os, sys
from pathlib import Path
address, folder = sys.argv[1:]
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "HOME": "/nonexistent"}
from ray._raylet import GcsClient
try:
    print("read", GcsClient(address=address).internal_kv_keys(b"", None, timeout=5))
except Exception as e:
    print("refused", type(e).__name__, e)
try:
    print("read", list(Path(folder).iterdir()))
except PermissionError:
    print("closed")
"""


LIVING = """
import time
import ray
from perdure.platform.cluster import connection as cluster
cluster.connect()
print(cluster._ours.folder, ray.get_runtime_context().gcs_address, flush=True)
time.sleep(600)
"""


@contextmanager
def living():
    """A process with a cluster of its own: it, the cluster's folder and its address."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    line = [sys.executable, "-W", "ignore", "-c", LIVING]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=clean) as process:
        try:
            assert process.stdout
            folder, address = process.stdout.readline().split()
            yield process, Path(folder), address
        finally:
            process.terminate()


def test_a_stranger_who_reaches_its_ports_is_refused():
    """Where the tests are root's, the stranger is another user, who may not enter its folder either."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with living() as (_, theirs, address), tempfile.TemporaryDirectory(dir="/tmp") as folder:
        assert stat.S_IMODE(theirs.stat().st_mode) == 0o700
        words = ["-W", "ignore", "-c", STRANGER, address, str(theirs)]
        os.chmod(folder, 0o755)
        (Path(folder) / ".venv").symlink_to(sys.prefix)
        as_user = [str(ROOT / ".ci" / "as_user"), "nobody"] if os.geteuid() == 0 else []
        program = [*as_user, ".venv/bin/python", *words]
        told = subprocess.run(program, cwd=folder, env=clean, capture_output=True, text=True, timeout=120)
    first, *rest = told.stdout.splitlines()
    assert first.startswith("refused") and "InvalidAuthToken" in first, told.stdout + told.stderr
    assert rest == ["closed"] if as_user else True


def test_the_longest_socket_has_a_path_that_may_be(monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/a/very/long/folder/for/temporary/files")
    assert local._short() == "/tmp"
    longest = (
        "x" * local.LONG + f"/{local._PREFIX}abcdefgh/r/session_2026-11-27_20-54-00_123456_4194304/sockets/plasma_store"
    )
    assert len(longest) <= 107


def test_what_a_killed_command_leaves_is_swept_by_the_next():
    with living() as (first, folder, _):
        local._sweep()
        assert folder.exists()  # its command lives
        family = psutil.Process(first.pid).children(recursive=True)
        first.kill()
    local._sweep()
    assert not folder.exists()
    assert [p for p in psutil.wait_procs(family, timeout=60)[1] if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_a_server_of_rays_that_dies_ends_the_command_with_a_sentence(tmp_path, server):
    home = tmp_path / "home"
    words = ["-m", "perdure", "run", "naive", "--fleet", "--epochs", "100", "--save-every", "0.2", "--no-tracking"]
    running = Watched(*words, "--home", str(home))
    running.waited(lambda: list(home.glob("runs/*/checkpoint-*")))
    family = psutil.Process(running.process.pid).children(recursive=True)
    os.kill(next(p.pid for p in family if p.name() == server), signal.SIGKILL)
    assert running.ended(20) == 1
    (said,) = [line for line in running.told if line]
    assert "has died" in said and "perdure resume, or the same command, goes on" in said
    assert [p for p in psutil.wait_procs(family, timeout=10)[1] if p.status() != psutil.STATUS_ZOMBIE] == []
    made = resume.resume(home=str(home), here=True)
    site, whole = Site(str(home)), Site(str(tmp_path / "whole"))
    run = found(made.outcomes[0].run.id, str(home))
    deque(execute(run, whole, Data(whole).of(run)), maxlen=0)
    assert not made.failed and same(results(site, run), results(whole, run))

"""Signals end a command in order: a checkpoint, how to go on, and an exit code that says which it was."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perdure.platform.storage.checkpoints import Store

# A shell lets what it starts in the background ignore Ctrl-C, a whole test run too, and children inherit that.
PERDURE = [
    sys.executable, "-W", "ignore", "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from perdure.jobs.main import main; main()",
]  # fmt: skip
LONG = ["--epochs", "400", "--no-tracking"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(*words: str, **how) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([*PERDURE, *words], **pipes | how)


def until(process: subprocess.Popen, ready, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)


def at_work() -> bool:
    return any(Path().glob("perdure-runs/runs/*/attempts.jsonl"))


def hears(process: subprocess.Popen) -> bool:
    """Whether it has a handler for SIGTERM by now."""
    caught = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line)
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(("one", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_is_a_checkpoint_and_how_to_go_on(one, code):
    running = started("run", "naive", *LONG)  # no checkpoint is due for a minute
    until(running, at_work)
    running.send_signal(one)
    out, err = running.communicate(timeout=120)
    assert running.returncode == code, err
    assert "stopped; go on with: perdure resume" in out and "Traceback" not in err
    (folder,) = Path("perdure-runs/runs").iterdir()
    kept = Store(folder).load()
    assert kept and kept["step"] > 0, "within an experience"


@pytest.mark.parametrize("count", [1, 3])
def test_a_signal_before_there_is_anything_to_stop_is_no_traceback(count):
    running = started("compare", *LONG)
    until(running, lambda: hears(running))
    for _ in range(count):
        running.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130 and "Traceback" not in err and out == "", err
    assert "stopping (SIGINT); a second signal leaves at once" in err


HANGING = """
import time
from dataclasses import dataclass

import perdure
from perdure.strategies.base import Strategy


@dataclass(frozen=True)
class Hanging(Strategy):
    def augment(self, learner, batch, state):
        while True:
            time.sleep(0.1)


perdure.register("hanging", Hanging)
"""


def test_a_second_signal_does_not_wait(folder):
    """Neither for a step that does not end, nor for what is done after it."""
    Path("hanging.py").write_text(HANGING)
    running = started("run", "hanging", "--plugin", "hanging.py", *LONG)
    until(running, at_work)
    running.send_signal(signal.SIGTERM)
    assert running.stderr
    while "stopping" not in running.stderr.readline():
        pass
    time.sleep(1.1)  # what comes sooner is taken for the same: a terminal that is closed and its shell both send theirs
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=5)
    assert running.returncode == 143 and "Traceback" not in err
    assert "stopped; go on with" in out


def test_a_terminal_that_is_closed_ends_it_in_order(folder):
    """Nothing can be printed any more; the report and the checkpoint are there."""
    ours, theirs = pty.openpty()
    running = started("run", "naive", *LONG, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    until(running, at_work)
    running.send_signal(signal.SIGHUP)
    os.close(ours)
    assert running.wait(60) == 129
    assert list(folder.glob("perdure-runs/runs/*/checkpoint-*"))
    assert list(folder.glob("perdure-runs/commands/*/report.html"))


def test_on_a_fleet_too_every_run_comes_to_a_checkpoint_and_goes_on_to_the_same(folder):
    running = started("compare", "naive", "lwf", "--seeds", "1", "--slots", "2", *LONG)
    until(running, at_work)
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 143, err
    assert "stopped; go on with: perdure resume" in out and "Traceback" not in err and "***" not in err
    kept = [Store(one).load() for one in Path("perdure-runs/runs").iterdir() if (one / "attempts.jsonl").exists()]
    assert kept and all(kept)


def test_a_server_that_was_started_beside_it_ends_with_it(folder):
    subprocess.run([*PERDURE, "run", "naive", "--epochs", "1"], check=True, capture_output=True, timeout=180)
    running = started("ui", "--port", "0")
    assert running.stdout and "http://127.0.0.1" in running.stdout.readline()
    mlflow = psutil.Process(running.pid)
    until(running, lambda: len(mlflow.children(recursive=True)) > 1)
    family = mlflow.children(recursive=True)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 143 and psutil.wait_procs(family, timeout=10)[1] == []

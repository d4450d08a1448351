"""Runs that several commands of one home want at once: each is made once, and every command succeeds."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.platform.execution import shared
from perdure.platform.execution.execute import execute
from perdure.platform.execution.executor import InProcess
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Awaited, Failed, Finished, Started
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.claims import Claims
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import RUN, results

ROOT = Path(__file__).parents[3]
LONG = replace(RUN, plan=Plan(epochs=20, batch_size=32))


def test_a_claim_is_one_commands_until_it_lets_go_and_thousands_cost_one_file(tmp_path):
    with closing(Claims(str(tmp_path))) as one, closing(Claims(str(tmp_path))) as other:
        names = [f"{n:012x}" for n in range(3000)]
        assert all(map(one.take, names)) and not any(map(other.take, names[:10]))
        one.release(names[0])
        assert other.take(names[0]) and not one.take(names[0])
    assert [path.name for path in tmp_path.iterdir()] == ["claims"]


HOLDER = """
import sys
from contextlib import closing
from perdure.platform.storage.claims import Claims
claims = Claims(sys.argv[1])
assert claims.take(sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_run_of_another_command_is_waited_for_and_made_where_its_maker_dies(tmp_path):
    site, pipes = Site(str(tmp_path)), {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    words = [sys.executable, "-W", "ignore", "-c", HOLDER, site.home, RUN.id]
    with subprocess.Popen(words, cwd=ROOT, **pipes) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        other = replace(RUN, seed=1)
        events, ends = [], []
        for event in shared.made([RUN, other], site, lambda: InProcess(site)):
            events.append(event)
            if isinstance(event, Awaited):
                ends = [e for e in events if isinstance(e, Finished)]
                os.kill(holder.pid, signal.SIGKILL)
    assert ends == [Finished(other.id, False)]  # what is free is made first
    assert Awaited(RUN.id) in events and events[-1] == Finished(RUN.id, False)


def test_who_is_taken_over_waits_for_the_other_and_reads(tmp_path):
    """As where two machines see one folder that knows no locks."""
    site = Site(str(tmp_path), every_steps=5)
    dataset, events = Data(site).of(LONG), []
    for event in shared.made([LONG], site, lambda: InProcess(site)):
        events.append(event)
        if isinstance(event, Started):
            other = execute(LONG, site, dataset)
            next(e for e in other if isinstance(e, Started))
        if isinstance(event, Awaited):
            deque(other, maxlen=0)
    assert not any(isinstance(e, Failed) for e in events)
    assert events[-1] == Finished(LONG.id, True)
    assert [note["event"] for note in Journal(site.folder(LONG)).notes()].count("end") == 1


def test_who_has_taken_a_run_over_and_gives_no_sign_is_waited_for_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "SILENCE", 1.0)
    site = Site(str(tmp_path), every_steps=5)
    dataset, events, others = Data(site).of(LONG), [], []
    for event in shared.made([LONG], site, lambda: InProcess(site)):
        events.append(event)
        if isinstance(event, Started) and not others:
            others.append(execute(LONG, site, dataset))
            next(e for e in others[0] if isinstance(e, Started))
    assert Awaited(LONG.id) in events and events[-1] == Finished(LONG.id, False)
    whole = Site(str(tmp_path / "whole"))
    deque(execute(LONG, whole, dataset), maxlen=0)
    assert same(results(site, LONG), results(whole, LONG))


@pytest.mark.parametrize("where", ["--here", "--fleet"])
def test_two_commands_that_share_runs_both_succeed(tmp_path, where):
    base = [sys.executable, "-W", "ignore", "-m", "perdure", "compare"]
    more = ["--epochs", "60", "--no-tracking", "--json", "--home", str(tmp_path), where]
    lines = [["naive", "lwf", "--seeds", "1"], ["lwf", "rehearsal(20)", "naive", "--seeds", "1"]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    both = [subprocess.Popen([*base, *line, *more], **pipes) for line in lines]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    first, second = ({run["strategy"]: run["id"] for run in json.loads(out)["runs"]} for out, _ in told)
    assert len(first) == 2 and len(second) == 3 and first.items() < second.items()
    for id in second.values():
        notes = Journal(tmp_path / "runs" / id).notes()
        assert [note["event"] for note in notes].count("start") == 1, "made once"


def test_the_same_generator_asked_for_twice_at_once_is_made_once(tmp_path):
    words = [sys.executable, "-W", "ignore", "-m", "perdure", "generate", "cvae(3, hidden=(16,), steps=300)"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    both = [subprocess.Popen([*words, "--no-tracking", "--json", "--home", str(tmp_path)], **pipes) for _ in range(2)]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0]  # the seconds too

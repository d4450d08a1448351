"""A run that is SIGKILLed at any moment and resumed ends with the bits of one that never was."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from perdure.platform.execution.execute import execute
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.runs import plugins
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Failed, Finished, Lost, Reached, Started
from perdure.platform.runs.workspace import Site
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import results

from .killed import RUN, RUNS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Site of the runs as they are without any kill."""
    site = Site(str(tmp_path_factory.mktemp("whole")))
    for run in RUNS.values():
        deque(execute(run, site, Data(site).of(run)), maxlen=0)
    return site


@pytest.mark.parametrize(("seed", "kind"), [(0, "continual"), (1, "continual"), (2, "continual"), (3, "meta")])
def test_of_a_process(whole, tmp_path, seed, kind):
    words = [sys.executable, "-W", "ignore", "-m", "tests.platform.execution.killed", str(tmp_path), str(seed), kind]
    root = Path(__file__).parents[3]
    told = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) >= 3  # kills that struck a run at work
    assert same(results(Site(str(tmp_path)), RUNS[kind]), results(whole, RUNS[kind]))


def events_while(fleet, runs, strike, times, chance):
    """The events of `runs`; the first `times` attempts get the signal `strike` a random moment after their start."""
    events, blows = [], []
    for event in fleet.map(runs):
        events.append(event)
        if isinstance(event, Started) and len(blows) < times:
            pid = int(event.where.rpartition(":")[2])
            blows.append(threading.Timer(chance.uniform(0.05, 0.6), os.kill, (pid, strike)))
            blows[-1].start()
    return events


@pytest.mark.usefixtures("cluster")
def test_of_an_actor(tmp_path):
    run = replace(RUN, plan=Plan(epochs=50, batch_size=32))
    one, site = Site(str(tmp_path / "one")), Site(str(tmp_path / "killed"), every_steps=11)
    deque(execute(run, one, Data(one).of(run)), maxlen=0)
    with closing(Fleet(site, slots=1)) as fleet:
        events = events_while(fleet, [run], signal.SIGKILL, 3, Random(0))
    assert sum(isinstance(e, Lost) for e in events) == 3
    assert [e.resumed for e in events if isinstance(e, Started)][1:] == [True, True, True]
    assert events[-1] == Finished(run.id, False)
    assert same(results(site, run), results(one, run))


@pytest.mark.usefixtures("cluster")
def test_a_hung_actor_loses_its_run_to_another(tmp_path):
    run = replace(RUN, plan=Plan(epochs=50, batch_size=32))
    site = Site(str(tmp_path), every_steps=11)
    with closing(Fleet(site, slots=1, silence=3.0)) as fleet:
        events = events_while(fleet, [run], signal.SIGSTOP, 1, Random(1))
    assert [e.reason for e in events if isinstance(e, Lost)] == ["no step for 3 s"]
    assert events[-1] == Finished(run.id, False)


@pytest.mark.usefixtures("cluster")
def test_a_run_that_loses_every_actor_fails(tmp_path):
    run = replace(RUN, plan=Plan(epochs=400, batch_size=32))
    with closing(Fleet(Site(str(tmp_path)), slots=1, retries=1)) as fleet:
        events = events_while(fleet, [run], signal.SIGKILL, 2, Random(2))
    assert isinstance(events[-1], Failed) and events[-1].kind == "lost"
    assert "lost its actor 2 times at one place" in events[-1].message


HANGING = """
import time
from dataclasses import dataclass
from pathlib import Path

import perdure
from perdure.strategies.base import Strategy


@dataclass(frozen=True)
class Hanging(Strategy):
    mark: str = ""

    def augment(self, learner, batch, state):
        if learner.rng.key[1] == 2 and not Path(self.mark).exists():
            Path(self.mark).touch()
            time.sleep(1e6)
        return batch


perdure.register("hanging", Hanging)
"""


@pytest.mark.usefixtures("cluster")
def test_a_step_that_hangs_loses_its_run_to_another(tmp_path):
    """The process is well and answers; it is the step that does not end."""
    plugin = tmp_path / "hanging.py"
    plugin.write_text(HANGING)
    plugins.load([str(plugin)])
    site = Site(str(tmp_path), plugins=(str(plugin),))
    run = replace(RUN, strategy=f"hanging('{tmp_path}/hung') + rehearsal(20)")
    with closing(Fleet(site, slots=1, silence=3.0)) as fleet:
        events = list(fleet.map([run]))
    assert [e.reason for e in events if isinstance(e, Lost)] == ["no step for 3 s"]
    assert [e.resumed for e in events if isinstance(e, Started)] == [False, True]
    assert events[-1] == Finished(run.id, False)
    one = Site(str(tmp_path / "one"))
    deque(execute(run, one, Data(one).of(run)), maxlen=0)
    assert same(results(site, run), results(one, run))


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("remote", [False, True])
def test_a_run_that_comes_further_between_its_losses_is_no_poison(tmp_path, remote, monkeypatch):
    """It is struck more often than a fleet bears at one place, and ends; where its checkpoints lie elsewhere, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = Site(f"file://{tmp_path}/bucket" if remote else str(tmp_path))
    run = replace(RUN, plan=Plan(epochs=60, batch_size=32))
    struck, events = set(), []
    with closing(Fleet(site, slots=1, retries=1, spare_after=0)) as fleet:
        for event in fleet.map([run]):
            events.append(event)
            if isinstance(event, Started):
                pid = int(event.where.rpartition(":")[2])
            if isinstance(event, Reached) and event.seconds and event.row["experience"] not in {4, *struck}:
                struck.add(event.row["experience"])
                threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    assert sum(isinstance(e, Lost) for e in events) >= 3
    assert events[-1] == Finished(run.id, False)

"""A cluster of several machines: one dies, one freezes and wakes, the driver dies, the object store is full."""

import json
import os
import signal
import time
from collections import deque
from pathlib import Path

import numpy as np
import psutil
import pytest

from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.identity import identified
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.record import finished
from perdure.platform.runs.run import Run
from perdure.platform.runs.study import Command
from perdure.platform.runs.workspace import Site
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import results

from .nodes import Watched, buried, family, machine_of, machines, raylet

PLAN = Plan(epochs=60, batch_size=32)
GRID = Command.grid(["rehearsal(40)", "naive", "lwf"], [0], model="mlp(32, dropout=0.2)", plan=PLAN)
COMMAND = Command(tuple(identified(run, Data(Site())) for run in GRID.runs))
PERDURE = ["-c", "from perdure.jobs.main import main; main()"]
GOES_ON = "another actor goes on with it"
SAID = f"its machine died; {GOES_ON}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    site = Site(str(tmp_path_factory.mktemp("whole")))
    for run in COMMAND.runs:
        deque(execute(run, site, Data(site).of(run)), maxlen=0)
    return site


@pytest.fixture
def cluster():
    with machines(2) as made:
        yield made


def compare(cluster, home: Path, *more: str) -> Watched:
    words = [*PERDURE, "compare", "rehearsal(40)", "naive", "lwf", "--seeds", "1", "--model", "mlp(32, dropout=0.2)"]
    where = ["--address", cluster.address, "--home", str(home), "--no-tracking", "--json", "--save-every", "0.2"]
    return Watched(*words, "--epochs", "60", *where, *more)


def at_work(site: Site, since: float = 0.0) -> int:
    """A process that makes a run and is past a milestone of it; 0 where there is none."""
    for run in COMMAND.runs:
        journal = Journal(site.folder(run))
        notes = [n for n in journal.notes() if n["event"] == "start" and n["time"] > since]
        if notes and not finished(run, site) and journal.rows():
            return int(notes[-1]["where"].rpartition(":")[2])
    return 0


def assert_made_once(site: Site, whole: Site) -> None:
    for run in COMMAND.runs:
        assert same(results(site, run), results(whole, run))
        notes = Journal(site.folder(run)).notes()
        assert [n["event"] for n in notes].count("end") == 1
        own = [n["attempt"] for n in notes if n["event"] == "milestone"]
        assert own == sorted(own)  # no attempt has added to the books once another had begun


def test_a_machine_dies_then_the_driver_and_then_one_freezes_and_wakes(cluster, whole, tmp_path):
    site = Site(str(tmp_path))
    first = compare(cluster, tmp_path)
    dead = machine_of(cluster, first.waited(lambda: at_work(site)))
    os.kill(raylet(dead), signal.SIGKILL)  # its actors go on for a second, and nobody knows
    first.waited(lambda: any(GOES_ON in line for line in first.told))
    first.waited(lambda: any("1 at once from here on" in line for line in first.told))
    assert sum(GOES_ON in line for line in first.told) == 1  # whichever death Ray tells of first
    assert [line for line in first.told if "lost a machine" in line] == [
        "the cluster has lost a machine: 1 at once from here on"
    ]
    buried(cluster, dead)
    first.kill()  # and with it, in a while, its actors

    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    second, now = compare(cluster, tmp_path), time.time()
    asleep = family(machine_of(cluster, second.waited(lambda: at_work(site, now))))
    for process in asleep:
        process.suspend()
    second.waited(lambda: any(SAID in line for line in second.told))
    for process in asleep:
        if process.is_running():
            process.resume()
    assert second.ended() == 0, second.told
    told = json.loads("".join(second.out))  # nothing else is on standard output
    assert len(told["runs"]) == 3
    assert_made_once(site, whole)


WAKING = """
import sys
from contextlib import closing
from perdure.platform.fleet import actor_pool as crew
from perdure.platform.runs.study import Command
from perdure.platform.runs.events import Lost, Started
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.runs.workspace import Site
from tests.platform.fleet.test_nodes import COMMAND

crew.machine = lambda: "far away"  # from every actor: nobody but Ray can end one
site = Site(sys.argv[1], every_steps=5)
with closing(Fleet(site, address=sys.argv[2], spare_after=0)) as fleet:
    for event in fleet.map(COMMAND.runs[:1]):
        print(type(event).__name__, event.run, flush=True)
"""


def test_who_wakes_up_far_away_writes_nothing(cluster, whole, tmp_path):
    """Nobody can kill it there. It is woken while the one that took over is at work."""
    site, run = Site(str(tmp_path)), COMMAND.runs[0]
    driver = Watched("-c", WAKING, str(tmp_path), cluster.address)
    pid = driver.waited(lambda: at_work(site))
    asleep = psutil.Process(pid)
    for process in (frozen := family(machine_of(cluster, pid))):
        process.suspend()
    driver.waited(lambda: sum(line.startswith("Started") for line in driver.out) == 2)
    driver.waited(lambda: len({n["attempt"] for n in Journal(site.folder(run)).notes()}) == 2)
    kept = {p.name for p in site.folder(run).glob("*-0001.*")}
    assert asleep.is_running() and asleep.status() == psutil.STATUS_STOPPED
    asleep.resume()  # before its raylet, which would end it
    driver.waited(lambda: not asleep.is_running() or asleep.status() != psutil.STATUS_STOPPED)
    assert driver.ended() == 0, driver.told
    for process in frozen:
        if process.is_running():
            process.resume()
    psutil.wait_procs(frozen, timeout=60)
    assert {p.name for p in site.folder(run).glob("*-0001.*")} <= kept
    assert same(results(site, run), results(whole, run))
    assert [n["event"] for n in Journal(site.folder(run)).notes()].count("end") == 1


def test_a_full_object_store_is_told_of_and_got_around(cluster, tmp_path):
    """There is no room for the data in memory, nor, as Ray sees it, on the disk."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (4_000, 3, 90, 90), dtype=np.uint8), np.arange(4_000) % 4  # 97 MB
    np.savez(tmp_path / "large.npz", x=x, y=y)
    on = f"split(arrays('{tmp_path}/large.npz'), 2)"
    learned = ["run", "naive", "--on", on, "--model", "mlp(4)", "--steps", "2"]
    words = [*PERDURE, *learned, "--no-tracking", "--json"]
    told = Watched(*words, "--fleet", "--address", cluster.address, "--home", str(tmp_path / "fleet"))
    assert told.ended() == 0, told.told
    said = [line for line in told.told if "object store" in line]
    assert len(said) == 1 and "has no room for" in said[0] and "every actor loads it from its source" in said[0]
    here = Watched(*words, "--here", "--home", str(tmp_path / "here"))
    assert here.ended() == 0
    fleet, alone = Site(str(tmp_path / "fleet")), Site(str(tmp_path / "here"))
    plan = Plan(epochs=20, batch_size=32, steps=2)
    run = identified(Run("naive", on, "mlp(4)", plan=plan), Data(alone))
    assert same(results(fleet, run), results(alone, run))

"""What only a fleet can meet. Dead and hung actors are in test_killed."""

import shutil
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perdure.platform.cluster import connection
from perdure.platform.cluster.connection import TooFew
from perdure.platform.execution.execute import execute
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.fleet.worker import Worker
from perdure.platform.runs import plugins
from perdure.platform.runs.datasets import Data, packed
from perdure.platform.runs.events import Failed, Finished, Started
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.strategies.training.plan import Plan
from perdure.streams.storage.memory_map import Filed
from perdure.testing.equality import same
from perdure.testing.executors import RUN, results

from ...streams import tiny

pytestmark = pytest.mark.usefixtures("cluster")
MUTATING = """
from dataclasses import dataclass

import perdure
from perdure.strategies.base import Strategy


@dataclass(frozen=True)
class Vandal(Strategy):
    def augment(self, learner, batch, state):
        batch.x.zero_()
        return batch

    def consolidate(self, learner, experience, state):
        everything = experience.train.everything()
        for tensor in (everything.x, everything.y, experience.train.y, experience.test.y):
            tensor.zero_()
        return {}


perdure.register("vandal", Vandal)
"""


def test_the_shared_data_are_never_written_through_a_run(tmp_path):
    """Not even by a strategy that writes into everything it is handed."""
    plugin = tmp_path / "mutating.py"
    plugin.write_text(MUTATING)
    plugins.load([str(plugin)])
    one, site = Site(str(tmp_path / "one")), Site(str(tmp_path / "fleet"), plugins=(str(plugin),))
    list(execute(RUN, one, Data(one).of(RUN)))
    vandals = [Run("vandal", seed=seed, plan=Plan(1, 64)) for seed in range(3)]
    with closing(Fleet(site, slots=2)) as fleet:
        ends = [e for e in fleet.map([*vandals, RUN]) if isinstance(e, Finished | Failed)]
    assert all(isinstance(e, Finished) for e in ends)
    assert same(results(site, RUN), results(one, RUN))


def test_data_larger_than_memory_reach_an_actor_as_a_place_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for n in range(20):
        (folder := tmp_path / "photos" / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny.pictures((8, 8), n)).save(folder / f"{n}.png")
    run = Run("rehearsal(4)", f"split(images('{tmp_path}/photos'), 2)", "mlp(4)", plan=Plan(2, 4))
    one, site = Site(str(tmp_path / "one")), Site(str(tmp_path / "fleet"))
    list(execute(run, one, Data(one).of(run)))
    monkeypatch.setenv("PERDURE_ROOM", "100")  # for this process alone: the actors have room
    mapped = Data(site).of(run)
    assert mapped and all(isinstance(packed(mapped)[name], Filed) for name in ("train_x", "test_x"))
    with closing(Fleet(site, slots=1, data=Data(site))) as fleet:
        assert isinstance(list(fleet.map([run]))[-1], Finished)
    assert same(results(site, run), results(one, run))


def test_an_actor_without_the_file_makes_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.savez(tmp_path / "own.npz", x=tiny.pictures((20, 8, 8)), y=np.arange(20) % 2)
    run, site = Run("naive", f"split(arrays('{tmp_path}/own.npz'), 2)", "mlp(4)", plan=Plan(1, 4)), Site(str(tmp_path))
    monkeypatch.setenv("PERDURE_ROOM", "100")
    away = packed(Data(site).of(run))
    shutil.rmtree(tmp_path / "cache")
    assert isinstance(list(Worker(site).make([run], "own", away))[-1], Finished)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "own.npz").unlink()
    (failed,) = Worker(site).make([replace(run, seed=1)], "own", away)
    assert isinstance(failed, Failed) and failed.kind == "user" and "own.npz was not found" in failed.message


def test_runs_are_made_at_once_on_warm_actors(tmp_path):
    """Each of two on an actor of its own, once both are up: until then one may have made all that there was."""

    def places(first, count):
        runs = [replace(RUN, seed=first + n) for n in range(count)]
        return [event.where for event in fleet.map(runs) if isinstance(event, Started)]

    with closing(Fleet(Site(str(tmp_path)), slots=2)) as fleet:
        up = set()
        for first in range(0, 1000, 4):
            up |= set(places(first, 4))
            if len(up) == 2:
                break
        again = places(1000, 2)
    assert len(up) == 2 and set(again) == up


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gpus_per_run": 1.0}, r"asked for 1 at once of 1 CPU and 1 GPU each, but the cluster has \d+ CPU and 0 GPU"),
        ({"slots": 1000}, r"asked for 1000 at once of 1 CPU and 0 GPU each, but the cluster has \d+ CPU and 0 GPU"),
    ],
)
def test_more_than_the_cluster_has_is_refused_at_once(tmp_path, asked, said):
    with closing(Fleet(Site(str(tmp_path)), **asked)) as fleet, pytest.raises(TooFew, match=said):
        list(fleet.map([RUN]))


@pytest.mark.parametrize(
    ("cpus", "gpus", "threads", "share", "room"),
    [
        (8, 2, 1, 0.25, 8),
        (8, 1, 1, 0.25, 4),
        (8, 1, 1, 0.3, 3),
        (8, 4, 1, 2.0, 2),
        (8, 0, 4, 0.0, 2),
        (8, 1, 1, 0.6, 1),
    ],
)
def test_slots_are_whole_shares(monkeypatch, cpus, gpus, threads, share, room):
    machine = {"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}}
    monkeypatch.setattr("ray.nodes", lambda: [machine, machine | {"Alive": False}])
    assert connection.slots(None, threads, share) == room


def test_ray_listens_on_loopback_alone():
    """In a cluster of our own no server of Ray's can be reached from outside."""
    import psutil
    import ray
    from ray._private import worker

    assert ray.nodes()[0]["NodeManagerAddress"] == "127.0.0.1"
    node = worker._global_node  # ours: other tests, beside this one, have clusters that listen to others
    started = [psutil.Process(known.process.pid) for many in node.all_processes.values() for known in many]
    family = [*started, *(child for process in started for child in process.children(recursive=True))]
    heard = set()
    for process in set(family):
        with suppress(psutil.NoSuchProcess):  # an actor of a test before that is on its way out
            try:
                heard |= {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
            except psutil.AccessDenied:
                process.wait(30)  # an ordinary user may not look into one that is ending
    assert heard and heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


LEAVING = """
import gc
import threading
import time
from pathlib import Path
import ray
from perdure.platform.cluster import connection as cluster

def knots():
    while cycled:
        knot = [cycled.pop()]  # nobody but the garbage collector drops what it holds
        knot.append(knot)
        time.sleep(0.0005)

cluster.connect()
gc.set_threshold(10)
held, cycled = [ray.put(number) for number in range(3000)], [ray.put(number) for number in range(3000)]
threading.Thread(target=knots).start()
cluster.disconnect()
assert not ray.is_initialized()
while held and cluster._leaving.is_alive():
    held.pop()
    time.sleep(0.0005)
cycled.clear()
print("here still")
"""


def test_what_is_held_of_ray_when_it_is_left_ends_nobody():
    """An interrupt's traceback holds references, and drops them once the fleet has let go of Ray; a garbage collection
    in another thread drops them at any time."""
    words = [sys.executable, "-W", "ignore", "-c", LEAVING]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (told.returncode, told.stdout) == (0, "here still\n"), told.stderr


SPACED = """
import ray
from perdure.platform.cluster import connection as cluster
cluster.connect()
of = ray.remote(num_cpus=0, runtime_env={"env_vars": {"SAID": "there"}})(lambda: __import__("os").environ["SAID"])
print(ray.get(of.remote(), timeout=90))
"""


def test_workers_with_an_environment_of_their_own_start_where_pythons_path_has_a_space_and_an_accent(tmp_path):
    (tmp_path / "a b é").symlink_to(Path(sys.executable).parents[1])
    python = tmp_path / "a b é" / "bin" / Path(sys.executable).name
    words = [str(python), "-W", "ignore", "-c", SPACED]
    told = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert told.stdout == "there\n", told.stderr


def test_a_cluster_that_does_not_answer_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)

    def refuse(**kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(ValueError, match="no Ray cluster answers at 127.0.0.1:1"):
        connection.connect("127.0.0.1:1")

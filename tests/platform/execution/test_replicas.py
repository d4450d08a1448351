"""Runs that are made at once are S ordinary runs to everybody else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.api.compare import compare
from perdure.platform.execution.execute import execute
from perdure.platform.execution.executor import InProcess
from perdure.platform.execution.replicas import choose, execute_together, pieces
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Failed, Finished, Grouped, Kept, Reached, Started
from perdure.platform.runs.meta_run import MetaRun
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import RUN, results

RUNS = [replace(RUN, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Site of the runs as each is alone."""
    site = Site(str(tmp_path_factory.mktemp("whole")))
    for run in RUNS:
        deque(execute(run, site, Data(site).of(run)), maxlen=0)
    return site


def made(site, runs=RUNS, upto=10**6):
    """Events of runs at once, left after so many."""
    events = []
    with closing(execute_together(runs, site, Data(site).of(runs[0]))) as told:
        for event in told:
            events.append(event)
            if len(events) == upto:
                break
    return events


def assert_same(site, whole, runs=RUNS):
    for run in runs:
        assert same(results(site, run), results(whole, run))


@pytest.mark.parametrize(("device", "together", "count"), [("cpu", None, 1), ("cuda", None, 3), ("cuda", True, 1)])
def test_where_it_changes_the_rounding_it_is_asked_for(device, together, count):
    """On a GPU, that is; and a number that hangs on what else is made is nobody's wish."""
    assert len(pieces([replace(run, device=device) for run in RUNS], Site(together=together))) == count


def test_each_leaves_the_files_that_it_leaves_alone(tmp_path, whole):
    site = Site(str(tmp_path))
    events = made(site)
    assert_same(site, whole)
    for run in RUNS:
        own = [e for e in events if e.run == run.id]
        assert isinstance(own[0], Started) and [type(e) for e in own[1:]] == [Reached] * 5 + [Finished]
        names = [{p.name for p in s.folder(run).iterdir()} for s in (site, whole)]
        assert names[0] == names[1]
    assert [e.run for e in events[:3]] == [run.id for run in RUNS]  # in turns


def test_each_can_be_gone_on_with_alone_and_all_together(tmp_path, whole):
    site = Site(str(tmp_path), every_steps=2)
    kept = [e for e in made(site, upto=8) if isinstance(e, Kept)]
    assert {e.run for e in kept} == {run.id for run in RUNS}  # in turns
    assert kept[0].where.startswith("experience 1 of 5, step 2 of ") and 0 < kept[0].share < 0.2
    deque(execute(RUNS[1], site, Data(site).of(RUNS[1])), maxlen=0)
    resumed = [e.resumed for e in made(site) if isinstance(e, Started)]
    assert resumed == [True, True]
    assert_same(site, whole)


def test_those_at_another_place_go_on_in_groups(tmp_path, whole):
    site = Site(str(tmp_path))
    first = execute(RUNS[0], site, Data(site).of(RUNS[0]))
    next(e for e in first if isinstance(e, Reached) and e.row["experience"] == 2)
    first.close()
    events = made(site)
    assert [e.resumed for e in events if isinstance(e, Started)] == [True, False, False]
    assert_same(site, whole)


def test_one_that_diverges_fails_alone_and_the_others_go_on(tmp_path, whole):
    site = Site(str(tmp_path))
    wild = replace(RUNS[1], optimizer="adam(1e37)")
    runs = [RUNS[0], wild, RUNS[2]]
    events = made(site, runs)
    (failed,) = (e for e in events if isinstance(e, Failed))
    assert failed.run == wild.id and failed.kind == "diverged" and "experience 0, epoch 0" in failed.message
    assert_same(site, whole, [RUNS[0], RUNS[2]])


def test_one_whose_data_changed_fails_alone(tmp_path, whole):
    site = Site(str(tmp_path))
    made(site, upto=5)
    store = Store(site.folder(RUNS[0]))
    known = store.load()
    assert known
    store.save(known | {"data": "other"}, store.newest())
    (failed,) = (e for e in made(site) if isinstance(e, Failed))
    assert failed.run == RUNS[0].id and "have changed since this run began" in failed.message
    assert_same(site, whole, RUNS[1:])


KILLED = """
import sys
from tests.platform.execution.test_replicas import RUNS, Data, Site, execute_together
site = Site(sys.argv[1], every_steps=1)
for event in execute_together(RUNS, site, Data(site).of(RUNS[0])):
    print(event, flush=True)
"""


@pytest.mark.parametrize("after", [4, 9])
def test_of_a_kill_nothing_is_seen_afterwards(tmp_path, whole, after):
    words = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(words, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for _ in range(after):
            process.stdout.readline()
        time.sleep(0.02 * after)
        os.kill(process.pid, signal.SIGKILL)
    assert all(isinstance(e, Started | Reached | Finished) for e in made(Site(str(tmp_path))))
    assert_same(Site(str(tmp_path)), whole)


def test_pieces_are_what_differs_in_numbers_alone():
    others = [
        replace(RUN, strategy="rehearsal(30) + ewc(1, samples=32)", optimizer="adam(0.1)"),
        replace(RUN, model="mlp"),
    ]
    odd = [Run("avalanche('Naive')"), MetaRun("maml")]
    runs = [RUNS[0], *others, RUNS[1], *odd, RUNS[2]]
    assert pieces(runs, Site()) == [[RUNS[0], others[0], RUNS[1], RUNS[2]], [others[1]], [odd[0]], [odd[1]]]
    assert pieces(runs, Site(together=False)) == [[run] for run in runs]
    assert pieces(RUNS, Site(), slots=2) == [RUNS[:2], RUNS[2:]]
    assert pieces([], Site()) == []


def test_what_is_chosen_is_said(tmp_path):
    site, data = Site(str(tmp_path)), Data(Site(str(tmp_path))).of(RUN)
    short = choose(RUNS, site, data)
    assert short and not short.together and "less than 200 steps" in short.why
    many = [replace(run, strategy="naive", plan=Plan(steps=400, batch_size=8)) for run in RUNS]
    told = choose(many, site, data)
    assert told and told.together and "x as fast as one after another" in told.why and "naive, 3 runs" in told.why
    big = [replace(run, model="mlp(6000, 6000)") for run in many]
    held = choose(big, site, data)
    assert held and not held.together and "GiB" in held.why
    asked = choose(RUNS, replace(site, together=True), data)
    assert asked and asked.together and choose(RUNS[:1], site, data) is None


def test_in_this_process(tmp_path, whole):
    site = Site(str(tmp_path), together=True)
    events = list(InProcess(site).map(RUNS))
    assert isinstance(events[0], Grouped) and events[0].together
    assert_same(site, whole)


@pytest.mark.usefixtures("cluster")
def test_on_a_fleet_and_when_its_actor_dies(tmp_path, whole):
    site, where, struck, failed = Site(str(tmp_path), together=True, every_steps=1), 0, [], []
    with closing(Fleet(site, slots=1, silence=60.0)) as fleet:
        for event in fleet.map(RUNS):
            if isinstance(event, Started):
                where = int(event.where.rpartition(":")[2])
            if isinstance(event, Reached) and not struck:
                struck.append(where)
                os.kill(where, signal.SIGKILL)
            if isinstance(event, Failed):
                failed.append(event)
    assert struck and failed == []
    assert_same(site, whole)


@pytest.mark.usefixtures("cluster")
def test_a_fleet_shares_out_what_is_better_made_apart(tmp_path, whole):
    site = Site(str(tmp_path))
    with closing(Fleet(site, slots=1)) as fleet:
        events = list(fleet.map(RUNS))
    assert [e.together for e in events if isinstance(e, Grouped)] == [False]
    assert sum(isinstance(e, Finished) for e in events) == 3
    assert_same(site, whole)


def test_mlflow_has_ordinary_runs(tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    told = compare(["naive"], seeds=3, epochs=1, here=True, together=True, home=str(tmp_path / "h"), tracking_uri=uri)
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    named = {r.info.run_name: r for r in runs}
    for outcome in told.outcomes:
        one = named[f"naive seed {outcome.run.seed}"]
        assert one.info.status == "FINISHED" and one.data.metrics["accuracy"] == outcome.metrics()["accuracy"]


def test_the_command_line(tmp_path):
    base = ["compare", "naive", "--epochs", "1", "--here", "--no-tracking", "--home", str(tmp_path), "--seeds", "2"]
    told = CliRunner().invoke(main.app, [*base, "--together"])
    assert told.exit_code == 0 and "naive, 2 runs: together, as asked" in told.output
    refused = CliRunner().invoke(main.app, [*base, "avalanche('Naive')", "--together"])
    assert refused.exit_code == 2 and "cannot be learned together: it trains with a loop of its own" in refused.output
    listed = json.loads(CliRunner().invoke(main.app, ["list", "avalanche", "--json"]).output)
    assert "Seeds one after another: it trains with a loop of its own" in listed["strategies"][0]["about"]

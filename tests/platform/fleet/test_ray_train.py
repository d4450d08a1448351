"""Runs that several workers share, by Ray Train."""

import os
import signal
from contextlib import closing
from dataclasses import replace

import psutil
import pytest

from perdure.platform.api.compare import compare
from perdure.platform.execution.execute import execute
from perdure.platform.fleet.ray_train import Trainers
from perdure.platform.runs.command_line import line
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Failed, Finished, Kept, Lost, Reached, Started
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import near, same
from perdure.testing.executors import results

RUN = Run("rehearsal(30) + lwf", optimizer="sgd(0.05)", workers=2, plan=Plan(epochs=12, batch_size=32))


def workers_of_train() -> list[psutil.Process]:
    """The processes of a group, under the Ray cluster of these tests."""
    return [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]


@pytest.fixture
def made(cluster, tmp_path):
    """A run that two workers made undisturbed, and one that lost a worker within an experience."""
    sites = [Site(str(tmp_path / name), every_steps=5) for name in ("whole", "killed")]
    events: list[list] = [[], []]
    for site, told in zip(sites, events, strict=True):
        with closing(Trainers(site)) as trainers:
            for event in trainers.map([RUN]):
                told.append(event)
                second = isinstance(event, Reached) and event.row["experience"] == 1
                if site is sites[1] and second and not any(isinstance(e, Lost) for e in told):
                    os.kill(workers_of_train()[-1].pid, signal.SIGKILL)
    return sites, events


def test_a_run_that_loses_a_worker_ends_as_if_it_had_not(made, tmp_path):
    (whole, killed), (calm, stormy) = made
    assert [type(e) for e in calm if not isinstance(e, Kept)] == [Started, *[Reached] * 5, Finished]
    assert sum(isinstance(e, Lost) for e in stormy) == 1 and stormy[-1] == Finished(RUN.id, False)
    assert "worker" in next(e for e in stormy if isinstance(e, Lost)).reason
    assert [e.resumed for e in stormy if isinstance(e, Started)] == [False, True]
    assert same(results(whole, RUN), results(killed, RUN))
    assert not (tmp_path / "whole" / "train").exists()  # nothing of Train's own is left
    alone = replace(RUN, workers=1)
    list(execute(alone, whole, Data(whole).of(alone)))
    assert near(results(whole, RUN)[1]["model"], results(whole, alone)[1]["model"], 1e-4)


def test_the_number_of_workers_is_part_of_a_run_where_it_is_not_one():
    assert replace(RUN, workers=1).id == replace(RUN, workers=1, plan=replace(RUN.plan, accumulate=1)).id
    assert len({RUN.id, replace(RUN, workers=1).id, replace(RUN, workers=3).id}) == 3
    typed = line(["naive"], replace(RUN, plan=replace(RUN.plan, accumulate=2, precision="bfloat16")), [0])
    assert "--workers 2" in typed and "--accumulate 2" in typed and "--precision bfloat16" in typed
    assert "--workers" not in line(["naive"], replace(RUN, workers=1), [0])


def test_a_loop_of_ones_own_knows_no_workers(tmp_path):
    with pytest.raises(ValueError, match=r"a loop of its own, which knows no workers"):
        compare(["avalanche('Naive')"], workers=2, home=str(tmp_path), tracking=False)


def test_more_workers_than_there_are_processors(cluster, tmp_path):
    with closing(Trainers(Site(str(tmp_path)))) as trainers, pytest.raises(ValueError, match="asked for 64 at once"):
        list(trainers.map([replace(RUN, workers=64)]))


def test_data_that_are_not_there_fail_the_run(cluster, tmp_path):
    lost = replace(RUN, stream="split(arrays('nowhere.npz'))")
    with closing(Trainers(Site(str(tmp_path)))) as trainers:
        (event,) = trainers.map([lost])
    assert isinstance(event, Failed) and event.kind == "user"

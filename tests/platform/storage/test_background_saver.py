"""Checkpoints are written beside the training: it does not wait for them, and changes nothing that they hold."""

import hashlib
import io
import threading
from collections import deque
from dataclasses import replace

import pytest
import torch

from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Failed, Finished, Reached
from perdure.platform.runs.meta_run import MetaRun
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.background_saver import Saving
from perdure.platform.storage.checkpoints import Store
from perdure.platform.workloads.kinds import workload
from perdure.strategies.meta.loop import MetaPlan
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import RUN, results

from ...examples import EXAMPLES, WINNERS

META = MetaRun("meta_sgd(steps=1)", model="mlp(8)", plan=MetaPlan(6, batch=3, every=2, judged=4), tested=4)
KEPT = Run("rehearsal(20)", optimizer="adam(keep=True)", plan=Plan(steps=3, batch_size=16))


def serialised(checkpoint) -> str:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def of(strategy: str) -> Run:
    model = "mlp(16, winners=0.5)" if strategy in WINNERS else "mlp(16)"
    return Run(strategy, "split(digits, 2, protocol='task')", model, "sgd(0.01)", plan=Plan(steps=6, batch_size=16))


@pytest.mark.parametrize("run", [*map(of, EXAMPLES), KEPT, META], ids=lambda run: run.method)
def test_nothing_that_comes_later_changes_a_checkpoint(run, tmp_path):
    """Not the next steps, and not the consolidation: it may be written whenever there is time."""
    site = Site(str(tmp_path))
    work = workload(run).work(run, Data(site).of(run), lambda: None, site)
    kept, then = [], []
    for step in work.steps(None, lambda: True):
        kept.append(step.checkpoint)
        then.append(serialised(step.checkpoint))
    assert len(kept) > 2
    assert list(map(serialised, kept)) == then


def test_training_does_not_wait_for_a_save(tmp_path, monkeypatch):
    """It goes on for steps while one is under way, waits before the next, and ends to the same bits."""
    whole, site = Site(str(tmp_path / "whole")), Site(str(tmp_path / "slow"))
    deque(execute(RUN, whole, Data(whole).of(RUN)), maxlen=0)
    alone, enough, during, plain = threading.Lock(), threading.Event(), [], Store.save

    def saved(self, *what):
        assert alone.acquire(blocking=False), "two saves at once"
        enough.clear()
        during.append(0)
        enough.wait(2)
        plain(self, *what)
        alone.release()

    def alive():
        if during and alone.locked():
            during[-1] += 1  # a step while that save is under way
            if during[-1] == 3:
                enough.set()

    monkeypatch.setattr(Store, "save", saved)
    for event in execute(RUN, site, Data(site).of(RUN), alive):
        if isinstance(event, Reached) and event.row["experience"] == 4:
            enough.set()
    assert event == Finished(RUN.id, False)
    assert len(during) == 5 and max(during) >= 3
    assert same(results(site, RUN), results(whole, RUN))


def test_a_save_that_fails_ends_the_run_at_its_next_step(tmp_path, monkeypatch):
    """Not an experience later: nothing is learned that cannot be kept."""
    failed, steps = threading.Event(), []

    def full(self, *what):
        try:
            raise OSError(28, "No space left on device")
        finally:
            failed.set()

    def alive():
        if failed.wait(0.0 if not steps else 5.0):
            steps.append(1)

    monkeypatch.setattr(Store, "save", full)
    site = Site(str(tmp_path), every_steps=2)
    end = deque(execute(replace(RUN, plan=Plan(epochs=50)), site, Data(site).of(RUN), alive), maxlen=1)[0]
    assert isinstance(end, Failed) and end.kind == "disk" and "make room" in end.message
    assert len(steps) <= 3


def test_whoever_stops_listening_has_what_was_reached_on_disk(tmp_path):
    site = Site(str(tmp_path))
    attempt = execute(RUN, site, Data(site).of(RUN))
    for reached in (e for e in attempt if isinstance(e, Reached)):
        if reached.row["experience"] == 2:
            attempt.close()
    kept = Store(site.folder(RUN)).load()
    assert kept is not None and kept["experience"] == 3


def test_an_error_is_raised_once_by_whatever_comes_next():
    def broken(what):
        raise RuntimeError(what)

    with pytest.raises(RuntimeError, match="first"), Saving(broken) as saving:
        saving.give("first")
        with pytest.raises(RuntimeError, match="first"):
            saving.settle()
        saving.check()
        saving.give("first of another")
    with pytest.raises(KeyError), Saving(broken) as saving:  # what has gone wrong first is what is told
        saving.give("late")
        raise KeyError

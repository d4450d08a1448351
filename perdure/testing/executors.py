"""What every executor promises. Subclass the suite in a test file of your own:

class TestMine(ExecutorSuite):
    def executor(self, site):
        return Mine(site)
"""

from contextlib import closing
from dataclasses import replace

from ..platform.execution.execute import execute
from ..platform.execution.executor import Executor
from ..platform.runs.datasets import Data
from ..platform.runs.events import Failed, Finished, Grouped, Reached, Started
from ..platform.runs.journal import Journal
from ..platform.runs.run import Run
from ..platform.runs.workspace import Site
from ..platform.storage.checkpoints import Store
from ..strategies.training.plan import Plan
from .equality import same

RUN = Run("rehearsal(20) + ewc(10, samples=32)", plan=Plan(epochs=1, batch_size=64))


def results(site: Site, run: Run) -> tuple[bytes, dict]:
    """What a run came to: its journal's bytes, and its newest checkpoint."""
    checkpoint = Store(site.folder(run)).load()
    assert checkpoint is not None
    return (site.folder(run) / "journal.jsonl").read_bytes(), checkpoint


class ExecutorSuite:
    def executor(self, site: Site) -> Executor:
        raise NotImplementedError("say how to make the executor that is to be held to the suite")

    def events(self, site: Site, *runs: Run) -> list:
        with closing(self.executor(site)) as executor:
            return list(executor.map(runs))

    def test_every_run_is_told_of_in_order_and_ends_once(self, tmp_path):
        runs = [replace(RUN, seed=seed) for seed in range(3)]
        site = Site(str(tmp_path))
        events = self.events(site, *runs)
        for run in runs:
            own = [e for e in events if e.run == run.id and not isinstance(e, Grouped)]
            assert isinstance(own[0], Started) and not own[0].resumed and own[0].experiences == 5
            assert [e.row["experience"] for e in own[1:-1]] == [0, 1, 2, 3, 4]
            assert own[-1] == Finished(run.id, False)
            assert [e.row for e in own[1:-1]] == Journal(site.folder(run)).rows()

    def test_runs_come_to_the_same_bits_as_one_made_by_hand(self, tmp_path):
        here, there = Site(str(tmp_path / "here")), Site(str(tmp_path / "there"))
        list(execute(RUN, here, Data(here).of(RUN)))
        self.events(there, RUN)
        assert same(results(here, RUN), results(there, RUN))

    def test_a_finished_run_is_told_of_again_and_not_made_again(self, tmp_path):
        site = Site(str(tmp_path))
        first, again = self.events(site, RUN), self.events(site, RUN)
        assert [e.row for e in again[:-1]] == [e.row for e in first if isinstance(e, Reached)]
        assert again[-1] == Finished(RUN.id, True)
        assert Store(site.folder(RUN)).newest() == 1

    def test_a_run_that_was_left_is_gone_on_with_to_the_same_bits(self, tmp_path):
        whole, parts = Site(str(tmp_path / "whole")), Site(str(tmp_path / "parts"))
        run = replace(RUN, plan=Plan(epochs=30, batch_size=64))  # seconds: an actor is not done before it is left
        self.events(whole, run)
        with closing(self.executor(parts)) as executor:
            next(e for e in executor.map([run]) if isinstance(e, Reached) and e.row["experience"] == 1)
        resumed = self.events(parts, run)
        assert next(e for e in resumed if isinstance(e, Started)).resumed
        assert same(results(whole, run), results(parts, run))

    def test_a_run_that_fails_leaves_the_others_alone(self, tmp_path):
        wild, lost = replace(RUN, optimizer="sgd(1e30)"), replace(RUN, stream="split(arrays('nowhere.npz'))")
        site = Site(str(tmp_path))
        events = self.events(site, wild, lost, RUN)
        assert [e for e in events if isinstance(e, Finished)] == [Finished(RUN.id, False)]
        failed = {e.run: e for e in events if isinstance(e, Failed)}
        assert failed[wild.id].kind == "diverged" and "experience 0, epoch 0" in failed[wild.id].message
        assert failed[lost.id].kind == "user" and "nowhere.npz was not found" in failed[lost.id].message

    def test_nothing_to_do_is_done_at_once(self, tmp_path):
        assert self.events(Site(str(tmp_path))) == []

"""Two hundred small runs while actors die: all end, each once, all equal to those that nobody disturbed."""

from dataclasses import replace

import pytest

from perdure.platform.runs.events import Failed, Finished
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import results

from .soak import soaked

SMALL = Run("rehearsal(20)", "split(digits, 2)", "mlp(16, dropout=0.2)", plan=Plan(epochs=2, batch_size=32))
RUNS = [replace(SMALL, seed=seed) for seed in range(200)]


@pytest.mark.usefixtures("cluster")
def test_of_two_hundred_runs_none_is_lost_and_none_made_twice(tmp_path):
    whole, site = Site(str(tmp_path / "whole")), Site(str(tmp_path / "killed"), every_steps=20)
    undisturbed = soaked(whole, RUNS, None)
    killed = soaked(site, RUNS, every=2.0)
    assert undisturbed.kills == 0 and killed.kills >= 3
    assert not [e for e in killed.events if isinstance(e, Failed)]
    assert sorted(e.run for e in killed.events if isinstance(e, Finished)) == sorted(run.id for run in RUNS)
    for run in RUNS:
        assert same(results(site, run), results(whole, run))
        notes = Journal(site.folder(run)).notes()
        assert [n["event"] for n in notes].count("end") <= 1
        assert [p.name for p in site.folder(run).glob("*journal*")] == ["journal.jsonl"]

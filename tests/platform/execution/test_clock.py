"""A clock that jumps back: it is written down, and decides nothing."""

import itertools
import os
import time

import pytest

from perdure.platform.api import compare, resume
from perdure.platform.runs.workspace import Site
from perdure.testing.equality import same
from perdure.testing.executors import results

QUICK = {"epochs": 2, "here": True, "tracking": False}


@pytest.fixture
def backwards(monkeypatch):
    """Every look at the clock is an hour before the one that came first."""
    now, hours = time.time(), itertools.count()
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(hours))


def test_runs_come_to_the_same_bits(tmp_path, backwards, monkeypatch):
    made = compare.compare(["rehearsal(20)"], seeds=2, home=str(tmp_path / "back"), **QUICK)
    monkeypatch.undo()
    compare.compare(["rehearsal(20)"], seeds=2, home=str(tmp_path / "on"), **QUICK)
    for one in made.outcomes:
        assert one.status == "finished" and one.seconds >= 0
        assert same(*(results(Site(str(tmp_path / home)), one.run) for home in ("back", "on")))


def test_what_is_gone_on_with_is_the_command_that_was_typed_last(tmp_path):
    for strategy in ("naive", "lwf"):
        made = compare.compare([strategy], seeds=1, home=str(tmp_path), **QUICK)
    os.utime(next((tmp_path / "commands").glob(f"{made.report.split('/')[-2]}/command.json")), (0, 0))
    assert resume.resume(home=str(tmp_path), here=True).outcomes[0].run.strategy == "lwf"

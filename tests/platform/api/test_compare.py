"""The same from Python."""

from pathlib import Path

import pytest

import perdure
from perdure.platform.execution.executor import InProcess
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.reports import outcome
from perdure.platform.reports.comparison_page import again
from perdure.platform.runs.study import Command
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.lock import Busy
from perdure.platform.studies import make, settings
from perdure.platform.studies.runner import conduct
from perdure.platform.tracking.tracker import Untracked
from perdure.strategies.methods.ewc import EWC
from perdure.strategies.methods.rehearsal import Rehearsal
from perdure.strategies.training.plan import Plan
from perdure.streams.datasets.digits import Digits
from perdure.streams.scenarios.split import ClassSplit


def test_strategies_and_streams_may_be_objects(tmp_path):
    how = {"epochs": 1, "home": str(tmp_path), "here": True, "tracking": False}
    by_object = perdure.compare([Rehearsal(50) + EWC(3)], ClassSplit(Digits(), 2), seeds=[4], **how)
    by_text = perdure.compare(["rehearsal(50) + ewc(3)"], on="split(digits, 2)", seeds=[4], **how)
    assert by_object.outcomes == by_text.outcomes
    assert by_object.outcomes[0].run.seed == 4
    frame = by_object.frame()
    assert len(frame) == 1 and 0 <= frame["accuracy"][0] <= 1
    assert list(by_object.matrices) == ["rehearsal(50) + ewc(3)"] and set(by_object.figures()) > {"curves"}
    assert Path(by_object.report).read_text().startswith("<!doctype html>")


@pytest.mark.usefixtures("cluster")
def test_a_comparison_on_the_fleet_tracked_in_mlflow(tmp_path, monkeypatch):
    """The main job whole, as `perdure compare` does it."""
    monkeypatch.chdir(tmp_path)
    result = perdure.compare(["naive", "rehearsal(100)"], seeds=2, epochs=5)
    assert not result.failed and not result.stopped and not result.undelivered
    league = {s.strategy: s.accuracy.mean for s in result.league}
    assert league["rehearsal(100)"] > 0.5 > 0.3 > league["naive"]
    assert (tmp_path / "mlflow.db").exists() and (tmp_path / "perdure-runs").is_dir()


@pytest.mark.usefixtures("cluster")
def test_a_model_an_optimizer_and_data_of_ones_own_on_the_fleet(tmp_path):
    own = str(Path(__file__).parents[3] / "examples" / "own_model.py")
    asked = {"on": "split(rings, 2)", "model": "bottleneck(16)", "optimizer": "clipped(0.5)", "seeds": 1, "epochs": 5}
    how = {"plugins": (own,), "tracking": False, "slots": 1}
    there = perdure.compare(["joint", "naive"], **asked, **how, home=str(tmp_path / "there"))
    here = perdure.compare(["joint", "naive"], **asked, **how, home=str(tmp_path / "here"), here=True)
    league = {s.strategy: s.accuracy.mean for s in there.league}
    assert not there.failed and league["joint"] > 0.8 > league["naive"]
    assert [o.rows for o in there.outcomes] == [o.rows for o in here.outcomes]


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(Fleet, "__post_init__", lambda self: pytest.fail("nothing was to be started"))
    wrong = (
        {"on": "split(arrays('nowhere.npz'))"},
        {"strategies": ["nope"]},
        {"model": "nope"},
        {"on": "rotated(digits, 0)"},
    )
    for asked in wrong:
        with pytest.raises((ValueError, FileNotFoundError)):
            perdure.compare(**{"strategies": ["naive"], "home": str(tmp_path), "tracking": False, **asked})
    assert not list(tmp_path.iterdir())


def test_two_processes_do_not_share_a_command(tmp_path):
    site = Site(str(tmp_path))
    command = Command.grid(["naive"], [0], plan=Plan(1, 64))
    with command.held(site.home), pytest.raises(Busy, match=r"process \d+ is at work on this already"):
        conduct(command, site, lambda: InProcess(site), Untracked())


def test_resume_finds_a_command_or_a_run(tmp_path):
    how = {"epochs": 1, "home": str(tmp_path), "here": True, "tracking": False}
    made = perdure.compare(["naive"], seeds=2, **how)
    again = perdure.resume(home=str(tmp_path))
    assert [o.run.id for o in again.outcomes] == [o.run.id for o in made.outcomes]
    one = perdure.resume(made.outcomes[1].run.id[:10], home=str(tmp_path), here=True, tracking=False)
    assert [o.run.seed for o in one.outcomes] == [1]
    assert outcome.outcome(made.outcomes[0].run.id, str(tmp_path)).status == "finished"


def test_a_tracking_password_is_not_written_down(tmp_path):
    command = Command.grid(["naive"], [0], plan=Plan(1, 64))
    how = settings.How(
        home=str(tmp_path), here=True, tracking_uri="postgresql://me:secret@127.0.0.1:1/db", tracking=False
    )
    make.make(command, how)
    assert all(b"secret" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_unknown_names_of_the_package_are_refused():
    with pytest.raises(AttributeError, match="it has attack, compare, follow, meta, register, resume, tune"):
        perdure.train  # noqa: B018


def test_the_line_names_the_files_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text((Path(__file__).parents[3] / "examples" / "own_strategy.py").read_text())
    how = {"epochs": 1, "here": True, "tracking": False}
    made = perdure.compare(["l2(0.3)"], seeds=1, plugins=("own.py",), data="elsewhere", **how)
    for line in (made.line, again(made)["l2(0.3)"]):
        assert f"--plugin {tmp_path}/own.py --data {tmp_path}/elsewhere" in line

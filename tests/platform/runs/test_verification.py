"""What is on disk is checked before it is shown: whatever happens to a file of a run, no other number comes out."""

import json
import shutil
from collections import deque
from contextlib import suppress
from dataclasses import replace
from math import isnan
from pathlib import Path
from random import Random

import pytest

from perdure.platform.api import compare, resume
from perdure.platform.execution.execute import execute
from perdure.platform.reports import outcome
from perdure.platform.reports.outcome import Outcome
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Finished, Reached, Repaired
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.meta_run import MetaRun
from perdure.platform.runs.record import begin, ended, finished
from perdure.platform.runs.run import Run
from perdure.platform.runs.verification import damage, unseal_damaged
from perdure.platform.runs.verify_home import verified
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.platform.storage.sealed import Damaged
from perdure.strategies.meta.loop import MetaPlan
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import results

RUNS = {
    "continual": Run("rehearsal(20)", "split(digits, 5)", "mlp(8)", plan=Plan(steps=3, batch_size=16)),
    "meta": MetaRun(
        "maml",
        "few_shot(strokes(20, 8), 3, 1, 3)",
        "mlp(4)",
        plan=MetaPlan(iterations=6, batch=2, every=2, judged=2),
        tested=2,
        adapted=(1,),
    ),
}
HARMS = ("flip", "cut", "empty", "delete")


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Of every kind of run: one that is finished, and one that was stopped in the midst."""
    home = tmp_path_factory.mktemp("runs")
    made = {}
    for name, run in RUNS.items():
        whole, half = Site(str(home / f"{name}-whole")), Site(str(home / f"{name}-half"), every_steps=1)
        list(execute(run, whole, Data(whole).of(run)))
        attempt = execute(run, half, Data(half).of(run))
        for event in attempt:
            if isinstance(event, Reached) and event.place == 1:
                break
        attempt.close()
        made[name] = {"finished": whole, "stopped": half}
    return made


def harmed(path: Path, harm: str, chance: Random) -> None:
    content = path.read_bytes()
    if harm == "flip" and content:
        at = chance.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :])
    elif harm == "cut":
        path.write_bytes(content[: chance.randrange(len(content) or 1)])
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


def cases(folder: Path) -> list[tuple[str, str, int]]:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    often = {"flip": 4, "cut": 2, "empty": 1, "delete": 1}
    return [(name, harm, n) for name in names for harm in HARMS for n in range(often[harm])]


@pytest.mark.parametrize("state", ["finished", "stopped"])
@pytest.mark.parametrize("kind", RUNS)
def test_harm_to_any_file_is_noticed_or_without_effect(sites, tmp_path, kind, state):
    """Shown, it is the truth or a refusal; gone on with, it ends with the bits of a run that was never harmed."""
    run, site, whole = RUNS[kind], sites[kind][state], sites[kind]["finished"]
    truth, dataset = results(whole, run), Data(whole).of(run)
    rows = Journal(whole.folder(run)).rows()
    before = Outcome.of(run, site, state)
    kept = site.folder(run)
    for number, (name, harm, n) in enumerate(cases(kept)):
        here, case = Site(str(tmp_path / str(number))), f"{harm} {n} of {name}"
        shutil.copytree(kept, here.folder(run))
        harmed(here.folder(run) / name, harm, Random(f"{kind} {state} {case}"))
        try:
            shown = outcome.outcome(run.id, here.home)
        except (Damaged, ValueError) as e:
            assert name in str(e) or harm == "delete" or "is damaged" in str(e), (case, str(e))
        else:
            assert shown.rows == rows[: len(shown.rows)], case
            if shown.status == "finished":
                assert shown.rows == rows and shown.seconds == before.seconds, case
            elif len(shown.rows) == len(before.rows):
                assert isnan(shown.seconds) or shown.seconds == before.seconds, case
        with suppress(ValueError):
            assert same(ended(run, here), truth[1]), case
        events = list(execute(run, here, dataset))
        assert isinstance(events[-1], Finished), (case, events[-1])
        assert (here.folder(run) / "journal.jsonl").read_bytes() == truth[0], case
        unseal_damaged(here.folder(run))
        assert isinstance(list(execute(run, here, dataset))[-1], Finished), case
        assert same(results(here, run), truth), case
        problems = [p for p in damage(here.folder(run)) if "attempts.jsonl" not in p]
        assert not problems, (case, problems)
        shutil.rmtree(here.home)


def test_the_row_at_fault_is_named_and_the_run_goes_on_from_its_checkpoint(sites, tmp_path):
    run = RUNS["continual"]
    truth = results(sites["continual"]["finished"], run)
    site = Site(str(tmp_path))
    shutil.copytree(sites["continual"]["finished"].folder(run), site.folder(run))
    journal = site.folder(run) / "journal.jsonl"
    *first, last = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(first) + last.replace(b'"loss": ', b'"loss": 1'))
    assert not finished(run, site)
    with pytest.raises(Damaged, match=rf"run {run.id}: row 5 of journal\.jsonl is damaged \(rows 1 to 4 are whole\); "
                       rf"perdure resume {run.id} repairs it"):  # fmt: skip
        outcome.outcome(run.id, site.home)
    events = list(execute(run, site, Data(site).of(run)))
    told = [e.problem for e in events if isinstance(e, Repaired)]
    assert told[0].startswith("row 5 of journal.jsonl is damaged") and "goes on from what is whole" in told[0]
    assert sum(isinstance(e, Reached) and e.seconds is not None for e in events) == 1  # the last experience alone
    assert same(results(site, run), truth)
    assert finished(run, site) and damage(site.folder(run)) == []


def test_a_row_before_every_checkpoint_begins_the_run_anew(sites, tmp_path):
    run = RUNS["continual"]
    truth = results(sites["continual"]["finished"], run)
    site = Site(str(tmp_path))
    shutil.copytree(sites["continual"]["finished"].folder(run), site.folder(run))
    journal = site.folder(run) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"loss": ', b'"loss": 1', 1))
    events = list(execute(run, site, Data(site).of(run)))
    assert any(isinstance(e, Repaired) and "made anew, to the same bits" in e.problem for e in events)
    assert same(results(site, run), truth)


def test_an_older_checkpoint_is_not_taken_for_the_last(sites, tmp_path):
    """Attacks, --start and adapt ask for what a run ended with."""
    run = RUNS["continual"]
    site = Site(str(tmp_path))
    shutil.copytree(sites["continual"]["finished"].folder(run), site.folder(run))
    newest = Store(site.folder(run)).files()[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    assert finished(run, site)  # its numbers are whole
    with pytest.raises(Damaged, match=rf"its last checkpoint, .* is damaged or gone; perdure resume {run.id}"):
        ended(run, site)
    with pytest.raises(Damaged, match="is damaged or gone"):
        compare.compare(
            ["naive"], "swiss_roll(3)", 1, model="mlp(8)", start=run.id, home=site.home, here=True, tracking=False
        )
    assert f"its last checkpoint, {newest.name[:26]}, is damaged or gone" in damage(site.folder(run))
    resume.resume(run.id, site.home, tracking=False, here=True)
    assert damage(site.folder(run)) == []
    assert same(ended(run, site), results(sites["continual"]["finished"], run)[1])


def test_pictures_that_changed_are_left_out(tmp_path):
    run, site = Run("naive", "swiss_roll(2)", "mlp(4)", plan=Plan(steps=2)), Site(str(tmp_path))
    list(execute(run, site, Data(site).of(run)))
    pictures = site.pictures(run)
    assert pictures
    pictures[0].write_bytes(pictures[0].read_bytes()[:-1])
    assert site.pictures(run) == pictures[1:]
    assert damage(site.folder(run)) == [f"pictures/{pictures[0].name} is damaged or gone"]


def test_what_was_written_before_rows_had_digests_is_refused(tmp_path):
    run, site = RUNS["continual"], Site(str(tmp_path))
    begin(run, site)
    (site.folder(run) / "journal.jsonl").write_text(json.dumps({"experience": 0}) + "\n")
    (site.folder(run) / "finished").touch()
    assert not finished(run, site)
    with pytest.raises(Damaged, match="finished is empty"):
        outcome.outcome(run.id, site.home)


def test_the_truth_is_not_looked_at_twice(sites, monkeypatch):
    """A run that has been checked is not read again until one of its files changes."""
    run, site = RUNS["continual"], sites["continual"]["finished"]
    assert finished(run, site)
    read = deque()
    monkeypatch.setattr("perdure.platform.runs.verification.read_sealed", lambda path: read.append(path))
    assert all(finished(run, site) for _ in range(100)) and not read
    assert not finished(replace(run, seed=9), site)


def flipped(fs, path: str) -> None:
    content = fs.cat_file(path)
    at = len(content) // 2
    fs.pipe_file(path, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_a_home_is_looked_through_run_by_run_and_command_by_command(tmp_path):
    run = RUNS["continual"]
    how = {"home": str(tmp_path), "here": True, "tracking": False, "model": run.model, "steps": 3, "batch_size": 16}
    made = compare.compare(["naive", "rehearsal(20)"], run.stream, 1, **how)
    one, two = (o.run.id for o in made.outcomes)
    assert all(problems == [] for problems in verified("", str(tmp_path)).values())
    assert set(verified("", str(tmp_path))) == {one, two, f"command {Path(made.report).parent.name}"}
    journal = tmp_path / "runs" / one / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"loss": ', b'"loss": 1', 1))
    command = Path(made.report).with_name("command.json")
    command.write_bytes(command.read_bytes().replace(b"naive", b"joint", 1))
    told = verified("", str(tmp_path))
    assert told[one] == ["row 1 of journal.jsonl is damaged (no row before it is there)"] and told[two] == []
    assert "do not match" in told[f"command {command.parent.name}"][0]
    assert verified(one[:6], str(tmp_path)) == {one: told[one]}
    with pytest.raises(ValueError, match="fits none"):
        verified("zzz", str(tmp_path))
    with pytest.raises(Damaged, match=r"command\.json is damaged.*type the command again"):
        resume.resume(None, str(tmp_path), tracking=False, here=True)
    again = compare.compare(["naive", "rehearsal(20)"], run.stream, 1, **how)  # which repairs both
    assert [o.rows for o in again.outcomes] == [o.rows for o in made.outcomes]
    assert not any(verified("", str(tmp_path)).values())


@pytest.mark.parametrize("name", ["journal.jsonl", "finished", "run.json", "checkpoint"])
def test_what_lies_in_storage_is_looked_at_too(tmp_path, monkeypatch, name):
    from fsspec.core import url_to_fs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url, run = f"file://{tmp_path}/bucket", RUNS["continual"]
    site = Site(url)
    events = list(execute(run, site, Data(site).of(run)))
    assert isinstance(events[-1], Finished)
    assert not any(verified("", url).values())
    fs, root = url_to_fs(url)
    newest = max(path for path in fs.find(root) if f"/{name}" in path)
    flipped(fs, newest)
    (problems,) = verified("", url).values()
    assert any(f"is damaged in {root}" in problem and f"{name}" in problem for problem in problems)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine's"))
    site = Site(url)
    with suppress(ValueError):  # refused, or the truth
        assert outcome.outcome(run.id, url).rows == [e.row for e in events if isinstance(e, Reached)]
    made = list(execute(run, site, Data(site).of(run)))
    assert [e.row for e in made if isinstance(e, Reached)] == [e.row for e in events if isinstance(e, Reached)]
    assert any(isinstance(e, Repaired) and f"is damaged in {root}" in e.problem for e in made)
    assert not any(verified("", url).values())

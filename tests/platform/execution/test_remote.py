"""Runs whose results go to remote storage: the same bits, fenced and checked on the way back."""

from collections import deque
from dataclasses import replace
from uuid import uuid4

import pytest

import perdure
from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Failed, Finished, Reached, Repaired, Started
from perdure.platform.runs.record import finished
from perdure.platform.runs.sync import fetch
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.platform.storage.mirror import Mirror
from perdure.platform.storage.sealed import Damaged
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import RUN, results


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test is a machine that has seen nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    return f"file://{tmp_path}/bucket" if request.param == "file" else f"memory://{uuid4().hex}"


def made(run, site):
    return list(execute(run, site, Data(site).of(run)))


def until(attempt, experience):
    """Events up to a milestone."""
    return next(e for e in attempt if isinstance(e, Reached) and e.row["experience"] == experience)


def stored(url, ending=""):
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(url)
    return fs, sorted(path for path in fs.find(root) if ending in path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run as it is in a folder."""
    site = Site(str(tmp_path_factory.mktemp("whole")))
    made(RUN, site)
    return site


def test_a_run_in_storage_has_the_bits_of_one_in_a_folder(url, whole):
    site = Site(url)
    assert made(RUN, site)[-1] == Finished(RUN.id, False)
    fetch([RUN.id], site, checkpoints=True)
    assert same(results(site, RUN), results(whole, RUN))
    again = made(RUN, site)
    assert again[-1] == Finished(RUN.id, True) and sum(isinstance(e, Reached) for e in again) == 5


def test_another_machine_goes_on_from_what_was_carried(url, whole, tmp_path, monkeypatch):
    attempt = execute(RUN, Site(url), Data(Site(url)).of(RUN))
    until(attempt, 2)
    del attempt  # the machine is gone, and its folder with it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    site = Site(url)
    events = made(RUN, site)
    started = next(e for e in events if isinstance(e, Started))
    assert started.resumed and started.attempt == 2
    assert sum(isinstance(e, Reached) for e in events) == 5 and events[-1] == Finished(RUN.id, False)
    fetch([RUN.id], site, checkpoints=True)
    assert same(results(site, RUN), results(whole, RUN))


def test_a_checkpoint_inside_an_experience_is_carried(url, monkeypatch):
    monkeypatch.setattr("perdure.platform.execution.remote.CHECKED", 0.0)
    run, site = replace(RUN, plan=Plan(epochs=30, batch_size=32)), replace(Site(url), every_steps=5)
    steps = iter(range(40))

    def interrupted():
        if next(steps, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deque(execute(run, site, Data(site).of(run), interrupted), maxlen=0)
    fetch([run.id], site, checkpoints=True)
    kept = Store(site.folder(run)).load()
    assert kept and kept["experience"] == 0 and kept["step"] >= 30


def test_an_older_attempt_harms_nothing_of_a_newer_one(url, whole):
    site = Site(url)
    sleeping = execute(RUN, site, Data(site).of(RUN))
    until(sleeping, 1)
    assert made(RUN, site)[-1] == Finished(RUN.id, False)
    before = {path: site and stored(url)[0].cat_file(path) for path in stored(url, "attempt-0002")[1]}
    end = deque(sleeping, maxlen=1)[0]
    assert isinstance(end, Failed) and end.kind == "taken" and "taken over by attempt 2" in end.message
    assert {path: stored(url)[0].cat_file(path) for path in stored(url, "attempt-0002")[1]} == before
    fetch([RUN.id], site, checkpoints=True)
    assert same(results(site, RUN), results(whole, RUN))


def test_what_an_old_attempt_writes_past_its_fence_is_not_read(url, tmp_path):
    """Between its look at the fence and its writing anything may happen."""
    old, new = Mirror(tmp_path / "old", url), Mirror(tmp_path / "new", url)
    for mirror in (old, new):
        mirror.folder.mkdir()
        mirror.claim()
        (mirror.folder / "journal.jsonl").write_text(f"of {mirror.folder.name}")
    new.push()
    old.guard = lambda: None
    old.push()
    reader = Mirror(tmp_path / "reader", url)
    reader.pull()
    assert (reader.folder / "journal.jsonl").read_text() == "of new"


def test_attempts_claimed_at_once_differ(url, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: Mirror(tmp_path, url).claim(), range(16))) == list(range(1, 17))


def test_storage_that_makes_no_file_exclusively_settles_it_by_reading_back(url, tmp_path, monkeypatch):
    """All write a claim of their own; who comes first by name has it."""
    from concurrent.futures import ThreadPoolExecutor

    from fsspec.core import url_to_fs

    monkeypatch.setattr("perdure.platform.storage.mirror.SETTLED", 0.2)
    fs, _ = url_to_fs(url)
    opened = type(fs).open

    def plain(self, path, mode="rb", **more):
        if "x" in mode:
            raise ValueError(f"mode {mode}")
        return opened(self, path, mode, **more)

    monkeypatch.setattr(type(fs), "open", plain)
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: Mirror(tmp_path, url).claim(), range(4))) == [1, 2, 3, 4]


@pytest.mark.parametrize("harmed", ["checkpoint", "journal"])
def test_what_comes_back_is_checked(url, whole, harmed, caplog):
    site = Site(url)
    attempt = execute(RUN, site, Data(site).of(RUN))
    until(attempt, 3)
    attempt.close()
    fs, paths = stored(url, f"/{harmed}")
    for path in paths if harmed == "journal" else paths[-1:]:
        content = fs.cat_file(path)
        fs.pipe_file(path, content[:50] + bytes([content[50] ^ 1]) + content[51:])
    events = made(RUN, site)
    assert events[-1] == Finished(RUN.id, False) and "is damaged; going on from what is whole" in caplog.text
    told = [e.problem for e in events if isinstance(e, Repaired)]
    assert f"{harmed}-" in told[0] and url.rpartition("/")[2] in told[0]
    fetch([RUN.id], site, checkpoints=True)
    assert same(results(site, RUN), results(whole, RUN))


def test_a_torn_manifest_is_the_one_before_it(url, tmp_path):
    writer = Mirror(tmp_path / "here", url)
    writer.folder.mkdir()
    writer.claim()
    for n in range(3):
        (writer.folder / "journal.jsonl").write_text(f"{n}")
        writer.push()
        fs, kept = stored(url, "/manifest-")
        assert len(kept) == min(n + 1, 2)
    fs.pipe_file(kept[-1], fs.cat_file(kept[-1])[:-9])
    reader = Mirror(tmp_path / "there", url)
    reader.pull()
    assert (reader.folder / "journal.jsonl").read_text() == "1"
    assert len(stored(url, "/journal")[1]) == 2


def test_a_manifest_names_nothing_outside_of_its_folder(url, tmp_path):
    mirror = Mirror(tmp_path / "here", url)
    mirror.folder.mkdir()
    mirror.claim()
    mirror._say({"../outside": ["attempt-0001/claim", ""]})
    with pytest.raises(Damaged, match="outside of its folder"):
        Mirror(tmp_path / "there", url).pull()
    assert not (tmp_path / "outside").exists()


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_checkpoints_of_storage_that_hold_code_are_refused(url, tmp_path):
    mirror = Mirror(tmp_path / "here", url)
    store = Store(mirror.folder)
    store.save({"experience": 1, "model": Evil()}, store.claim())
    mirror.claim()
    mirror.push()
    there = Mirror(tmp_path / "there", url)
    there.pull()
    with pytest.raises(Exception, match="Weights only load failed"):
        Store(there.folder).load()
    assert not Evil.ran


def test_storage_that_fails_for_a_moment_is_asked_again(url, tmp_path, monkeypatch):
    monkeypatch.setattr("perdure.platform.storage.mirror.PAUSES", (0.01, 0.01))
    mirror = Mirror(tmp_path, url)
    (tmp_path / "journal.jsonl").write_text("a")
    mirror.claim()
    put, failures = mirror.fs.pipe_file, iter([OSError("away"), OSError("away")])

    def shaky(path, content, mode="overwrite"):
        if (failure := next(failures, None)) is not None:
            raise failure
        put(path, content)

    monkeypatch.setattr(mirror.fs, "pipe_file", shaky)
    mirror.push()
    assert len(stored(url, "/manifest-")[1]) == 1


def test_a_comparison_lives_in_storage(url, tmp_path, monkeypatch):
    """Made by one machine; reported, shown, begun from and forgotten by another."""
    quick = {"seeds": 1, "epochs": 1, "home": url, "here": True}
    first = perdure.compare(["naive"], tracking=False, **quick)
    assert not first.failed
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    from perdure.platform.reports import outcome

    known = outcome.outcome(first.outcomes[0].run.id[:6], url)
    assert known.status == "finished" and known.rows == first.outcomes[0].rows
    resumed = perdure.resume(home=url, tracking=False)
    assert resumed.outcomes[0].rows == known.rows
    begun = perdure.compare(["ewc"], start=known.run.id, tracking=False, **quick)
    assert not begun.failed
    anew = perdure.compare(["naive"], again=True, tracking=False, **quick)
    assert anew.outcomes[0].rows == known.rows
    _, paths = stored(f"{url}/commands")
    assert any("report.html" in path for path in paths) and any("command.json" in path for path in paths)


def test_attacks_and_generators_lie_in_storage_too(url, tmp_path, monkeypatch):
    from perdure.platform.evaluation.generation import Generation, generate
    from perdure.platform.evaluation.robustness import assault

    made(RUN, Site(url))
    asked = Generation("autoencoder(3, hidden=(16,), steps=20)")
    measures = generate(asked, url).measures
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assault(RUN.id, ["fgsm"], home=url, samples=20)
    assert any("report.html" in path for path in stored(f"{url}/runs/{RUN.id}/attacks")[1])
    monkeypatch.setattr("perdure.platform.evaluation.generation._make", None)  # known from before
    assert generate(asked, url).measures == measures


def test_local_copies_forget_what_was_made_anew_elsewhere(url, tmp_path, monkeypatch):
    site = Site(url)
    made(RUN, site)
    fetch([RUN.id], site)
    assert finished(RUN, site)
    other = Mirror(tmp_path / "other", f"{url}/runs/{RUN.id}")
    other.set_aside()
    fetch([RUN.id], site)
    assert not finished(RUN, site)
    other.bring_back()
    fetch([RUN.id], site)
    assert finished(RUN, site)


def test_an_address_with_a_password_is_refused(url):
    with pytest.raises(ValueError, match=r"s3://\*\*\*@bucket/runs holds a password") as told:
        Site("s3://key:hunter2@bucket/runs")
    assert "hunter2" not in str(told.value)

import json

import pytest
import torch

from perdure.platform.journal import Journal
from perdure.platform.store import Fenced, Store
from perdure.testing.equality import same


def checkpoint(experience: int, step: int | None = None) -> dict:
    place = {"experience": experience} if step is None else {"experience": experience, "step": step}
    return place | {"model": {"w": torch.full((3,), float(experience + (step or 0)))}}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def test_the_newest_checkpoint_is_loaded(store):
    attempt = store.claim()
    for kept in (checkpoint(0, 5), checkpoint(0, 10), checkpoint(1), checkpoint(1, 3)):
        store.save(kept, attempt)
        assert same(store.load(), kept)
    assert len(list(store.folder.glob("checkpoint-*"))) == 2


def test_nothing_kept_is_nothing_loaded(store):
    assert store.load() is None


@pytest.mark.parametrize("harm", ["flipped", "cut", "emptied"])
def test_a_corrupt_checkpoint_is_told_of_and_the_one_before_it_used(store, harm, caplog):
    attempt = store.claim()
    store.save(checkpoint(1), attempt)
    store.save(checkpoint(2), attempt)
    newest = max(store.folder.glob("checkpoint-*"))
    whole = newest.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    newest.write_bytes({"flipped": flipped, "cut": whole[:-7], "emptied": b""}[harm])
    assert same(store.load(), checkpoint(1))
    assert f"checkpoint {newest} is corrupt" in caplog.text


def test_a_save_that_dies_leaves_no_trace(store, monkeypatch):
    attempt = store.claim()
    store.save(checkpoint(1), attempt)
    before = sorted(p.name for p in store.folder.iterdir())
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        store.save(checkpoint(2), attempt)
    assert sorted(p.name for p in store.folder.iterdir()) == before
    assert same(store.load(), checkpoint(1))


def test_a_newer_attempt_shuts_an_older_one_out(store):
    old = store.claim()
    store.save(checkpoint(1), old)
    new = store.claim()
    assert new == old + 1
    with pytest.raises(Fenced, match=f"attempt {old} of run was taken over by attempt {new}"):
        store.save(checkpoint(2), old)
    assert same(store.load(), checkpoint(1))


def test_attempts_claimed_at_once_differ(store):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: store.claim(), range(32))) == list(range(1, 33))


def test_checkpoints_that_hold_code_are_refused(store):
    attempt = store.claim()
    store.save(checkpoint(1) | {"model": Evil()}, attempt)
    with pytest.raises(Exception, match="Weights only load failed"):
        store.load()
    assert not Evil.ran


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_a_torn_line_is_left_out_and_mended(tmp_path):
    journal = Journal(tmp_path)
    for n in range(3):
        journal.add({"experience": n})
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + b'{"experience": 3, "acc')
    assert journal.rows() == [{"experience": n} for n in range(3)]
    assert journal.cut(2) == [{"experience": 0}, {"experience": 1}]
    assert [json.loads(line) for line in journal.path.read_text().splitlines()] == journal.rows()
    journal.add({"experience": 2})
    assert journal.path.read_bytes() == whole


def test_seconds_count_an_experience_once(tmp_path):
    journal = Journal(tmp_path)
    for experience, seconds in ((0, 5.0), (1, 1.0), (0, 2.0)):
        journal.note(event="milestone", experience=experience, seconds=seconds)
    assert journal.seconds() == 3.0

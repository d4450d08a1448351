from math import isnan

import pytest
import torch

from perdure.platform.runs.journal import Journal
from perdure.platform.storage.checkpoints import Fenced, Store
from perdure.platform.storage.sealed import Damaged, read_sealed, write_sealed
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


def test_what_an_attempt_was_killed_over_is_removed(store):
    old = store.claim()
    store.save(checkpoint(1), old)
    torn = store.folder / f".checkpoint-00002-000000000-{old:04d}.pt.4711.part"
    newer = store.folder / f".checkpoint-00002-000000000-{old + 2:04d}.pt.4711.part"
    torn_journal = store.folder / f".journal-{old:04d}.jsonl.4711.part"
    torn.write_bytes(b"half")
    torn_journal.write_bytes(b"half")
    newer.write_bytes(b"half")
    store.claim()
    assert not torn.exists() and not torn_journal.exists() and newer.exists()
    assert same(store.load(), checkpoint(1))


def test_an_attempt_that_is_taken_over_while_it_writes_keeps_nothing(store, monkeypatch):
    old = store.claim()
    store.save(checkpoint(1), old)
    monkeypatch.setattr("os.fsync", lambda file: store.claim())
    with pytest.raises(Fenced):
        store.save(checkpoint(2), old)
    assert same(store.load(), checkpoint(1))
    assert not list(store.folder.glob(".*"))


def test_a_checkpoint_is_never_in_memory_a_second_time(store):
    """It is digested and written as it is serialised, a tensor at a time."""
    import tracemalloc

    attempt, large = store.claim(), {f"w{n}": torch.zeros(1 << 20) for n in range(16)}  # 16 of 4 MB
    tracemalloc.start()
    store.save({"experience": 0} | large, attempt)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
    assert same(store.load(), {"experience": 0} | large)


def test_places_are_in_the_order_in_which_they_are_come_to(store):
    attempt, places = store.claim(), [store.place()]
    for kept in (checkpoint(0, 5), checkpoint(0, 10), checkpoint(1), checkpoint(1, 3)):
        store.save(kept, attempt)
        places.append(store.place())
    assert places == sorted(set(places)) and places[0] == ""
    store.save(checkpoint(1, 3), store.claim())
    assert store.place() == places[-1]


ROWS = [{"experience": n} for n in range(3)]


def written(folder, attempt: int, rows: int = 0) -> Journal:
    journal = Journal(folder, attempt)
    journal.begin(ROWS[:rows])
    for row in ROWS[rows:]:
        journal.add(row)
    return journal


def test_a_torn_line_is_left_out_and_mended(tmp_path):
    head = written(tmp_path, 1).head
    own = tmp_path / "journal-0001.jsonl"
    whole = own.read_bytes()
    own.write_bytes(whole + b'{"experience": 3, "acc')
    assert Journal(tmp_path).rows() == ROWS and not Journal(tmp_path).damage()
    journal = Journal(tmp_path, 2)
    assert journal.prefix(3, head) == ROWS
    journal.begin(ROWS[:2])
    assert journal.rows() == ROWS[:2]
    journal.add(ROWS[2])
    assert journal.head == head
    journal.end()
    journal.clear()
    assert journal.path.read_bytes() == whole and journal.rows() == ROWS
    assert [p.name for p in tmp_path.iterdir()] == ["journal.jsonl"]


def test_an_attempt_that_wakes_up_writes_into_no_journal_but_its_own(tmp_path):
    """Before its first row, in its midst, and after the other's end."""
    waking, winner = Journal(tmp_path, 1), Journal(tmp_path, 2)
    winner.begin([])
    winner.add(ROWS[0])
    waking.begin([])
    assert winner.rows() == ROWS[:1]
    waking.add({"experience": "another"})
    winner.add(ROWS[1])
    winner.add(ROWS[2])
    assert winner.rows() == ROWS
    winner.end()
    winner.clear()
    waking.add({"experience": "another"})
    assert Journal(tmp_path).rows() == ROWS


def test_an_attempt_that_ends_late_removes_no_newer_journal(tmp_path):
    late, newer = written(tmp_path, 1), written(tmp_path, 2, rows=2)
    late.end()
    late.clear()
    newer.end()
    assert newer.rows() == ROWS


def test_an_attempt_that_ends_after_a_newer_one_has_leaves_its_journal(tmp_path):
    late, newer = written(tmp_path, 1), written(tmp_path, 2, rows=2)
    newer.end()
    newer.clear()  # late's own file with it
    late.end()
    assert Journal(tmp_path).rows() == ROWS
    newer.path.unlink()
    with pytest.raises(FileNotFoundError):  # nobody has ended it
        late.end()


@pytest.mark.parametrize("harm", ["changed", "removed", "moved", "repeated", "cut"])
def test_a_row_that_is_not_where_it_was_written_is_noticed(tmp_path, harm):
    head = written(tmp_path, 1).head
    own = tmp_path / "journal-0001.jsonl"
    one, two, three = own.read_bytes().splitlines(keepends=True)
    harmed = {
        "changed": [one, two.replace(b'"experience": 1', b'"experience": 7'), three],
        "removed": [one, three],
        "moved": [one, three, two],
        "repeated": [one, one, two, three],
        "cut": [one, two[:-9] + b"\n", three],
    }
    own.write_bytes(b"".join(harmed[harm]))
    journal = Journal(tmp_path, 2)
    assert journal.rows() == ROWS[:1]
    assert journal.damage() == ["row 2 of journal-0001.jsonl is damaged (rows 1 to 1 are whole)"]
    assert journal.prefix(3, head) is None


def test_the_journal_of_another_run_is_none(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    written(tmp_path / "a", 1).end()
    (tmp_path / "a" / "journal.jsonl").rename(tmp_path / "b" / "journal.jsonl")
    assert Journal(tmp_path / "b").rows() == []
    assert Journal(tmp_path / "b").damage() == ["row 1 of journal.jsonl is damaged (no row before it is there)"]


def test_every_byte_of_a_journal_is_vouched_for(tmp_path):
    """Whatever byte is flipped, the rows before it are the ones that were written, and nothing else comes out."""
    written(tmp_path, 1).end()
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in (1, 32, 128):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            rows = Journal(tmp_path).rows()
            assert rows == ROWS[: len(rows)] and len(rows) <= whole[:at].count(b"\n")
            with pytest.raises(Damaged):
                Journal(tmp_path).final()


def test_a_sealed_file_shows_any_change(tmp_path):
    path = tmp_path / "run.json"
    write_sealed(path, {"id": "5f2c", "run": {"seed": 0, "plan": {"epochs": 1e-05}}, "name": "é"})
    whole = path.read_bytes()
    assert read_sealed(path) == {"id": "5f2c", "run": {"seed": 0, "plan": {"epochs": 1e-05}}, "name": "é"}
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(Damaged, match=r"run\.json is damaged"):
            read_sealed(path)
    for cut, why in ((b"", "is empty"), (whole[:-1], "is damaged"), (b"null", "is damaged"), (b"[" * 9999, "damaged")):
        path.write_bytes(cut)
        with pytest.raises(Damaged, match=why):
            read_sealed(path)


def test_notes_of_attempts_at_work_at_once_are_told_apart_and_checked(tmp_path):
    one, two = Journal(tmp_path, 1), Journal(tmp_path, 2)
    for n in range(3):
        one.note(event="milestone", experience=n, seconds=1.0)
        two.note(event="milestone", experience=n, seconds=2.0)
    assert one.seconds() == 6.0 and one.damage() == []
    path = tmp_path / "attempts.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"seconds": 2.0', b'"seconds": 9.0', 1))
    assert one.damage() == ["row 2 of attempts.jsonl is damaged"]
    assert len(one.notes()) == 5


def test_seconds_of_an_experience_without_a_note_are_not_known(tmp_path):
    journal = Journal(tmp_path, 1)
    journal.note(event="milestone", experience=1, seconds=1.0)
    assert journal.seconds() == 1.0
    assert isnan(journal.seconds(2))


def test_seconds_count_an_experience_once(tmp_path):
    journal = Journal(tmp_path)
    for experience, seconds in ((0, 5.0), (1, 1.0), (0, 2.0)):
        journal.note(event="milestone", experience=experience, seconds=seconds)
    assert journal.seconds() == 3.0

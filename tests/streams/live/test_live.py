"""Sources of arrivals: a folder, a Python generator."""

import hashlib
import os
import re
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import perdure
from perdure.notation import NotationError
from perdure.platform.live import queries
from perdure.platform.live.queries import feed
from perdure.streams.live import folder as folder_of
from perdure.streams.live.folder import Folder
from perdure.streams.live.source import Arrival, Generated, LiveSource, SetAside, arrival
from perdure.streams.names import live_source
from perdure.streams.storage.folder_entries import content
from perdure.testing.sources import SourceSuite, samples

SETTLE = 0.15


class TestFolder(SourceSuite):
    def source(self, folder):
        return Folder(str(folder), settle=SETTLE)

    def arrive(self, folder, number, x, y):
        np.savez(folder / f".{number}.npz", x=x, y=y)
        (folder / f".{number}.npz").rename(folder / f"{number}.npz")


class TestGenerated(SourceSuite):
    def source(self, folder):
        def readings():
            number = 0
            while True:
                path = folder / f"{number}.npz"
                if path.exists():
                    with np.load(path) as held:
                        yield f"reading {number}", held["x"], held["y"]
                    number += 1
                else:
                    yield None

        return Generated(readings)

    def arrive(self, folder, number, x, y):
        np.savez(folder / f"{number}.npz", x=x, y=y)


def told(folder, seen=None, **how):
    return list(feed(Folder(str(folder), settle=SETTLE, **how), set() if seen is None else seen, 0.0))


def test_a_file_that_is_being_written_is_not_read(tmp_path):
    x, y = samples(0)
    np.savez(tmp_path / "whole.npz", x=x, y=y)
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "whole.npz").unlink()
    items = Folder(str(tmp_path), settle=0.3).arrivals(set())
    assert next(items) is None
    with (tmp_path / "slow.npz").open("wb") as file:
        import threading

        def write():
            for n in range(0, len(content), 50):
                file.write(content[n : n + 50])
                file.flush()
                time.sleep(0.05)

        writer = threading.Thread(target=write)
        writer.start()
        item = next(i for i in items if i is not None)
        assert not writer.is_alive()
    assert isinstance(item, Arrival) and np.array_equal(item.x, x)


@pytest.mark.parametrize("name", [".a.npz", "_a.npz", "a.npz.part", "a.tmp", "a.npz~", "a.CRDOWNLOAD"])
def test_names_of_files_under_way_are_passed_over(tmp_path, name):
    (tmp_path / name).write_bytes(b"half")
    assert told(tmp_path) == []


def test_a_copy_is_no_arrival_and_a_changed_file_is_one(tmp_path):
    seen = set()
    np.savez(tmp_path / "a.npz", x=samples(0)[0], y=samples(0)[1])
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    assert [item.name for item in told(tmp_path, seen)] == ["a.npz"]
    np.savez(tmp_path / "a.npz", x=samples(1)[0], y=samples(1)[1])
    assert [item.name for item in told(tmp_path, seen)] == ["a.npz"] and len(seen) == 2


def test_tables_and_pictures_arrive(tmp_path):
    (tmp_path / "a.csv").write_text("kind,heat,load\nup,1,2\ndown,3,4\n")
    for kind in ("cat", "dog"):
        (tmp_path / "b" / kind).mkdir(parents=True)
        Image.new("L", (5, 4), 7).save(tmp_path / "b" / kind / "1.png")
    table, pictures = told(tmp_path, label="kind", size=3)
    assert table.x.tolist() == [[1, 2], [3, 4]] and table.y.tolist() == ["up", "down"]
    assert pictures.x.shape == (2, 1, 3, 3) and pictures.x.dtype == np.uint8 and pictures.y.tolist() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", b"hello", "expected .npz, .csv, .parquet or a folder"),
        ("a.npz", b"PK\x03\x04 torn", "cannot be read as a .npz"),
        ("a.csv", b"heat,load\n1,2\n", "has no column 'label'"),
        ("a.csv", b"", "cannot be read as csv"),
        ("a.csv", b"label,heat\n", "is empty"),
        ("a.csv", b"label,heat\n1,\n", "NaN or an infinity"),
        ("a.csv", b"label,heat\n,1\n", "row 0 .* has no label"),
        ("a.csv", b"label,heat\n1.5,1\n", "must be whole numbers or texts"),
    ],
)
def test_what_cannot_be_read_is_set_aside_and_what_follows_arrives(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "z.csv").write_text("label,heat\nup,1\n")
    bad, good = told(tmp_path)
    assert isinstance(bad, SetAside) and bad.name == name and re.search(why, bad.reason), bad
    assert isinstance(good, Arrival)


def test_a_folder_of_pictures_under_way_is_not_complete(tmp_path):
    (tmp_path / "b" / "cat").mkdir(parents=True)
    Image.new("L", (5, 4)).save(tmp_path / "b" / "cat" / "1.png")
    (tmp_path / "b" / "cat" / "2.png.part").write_bytes(b"half")
    assert told(tmp_path) == []
    (tmp_path / "b" / "cat" / "2.png.part").unlink()
    assert len(told(tmp_path)) == 1


def test_no_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere to follow"):
        next(Folder(str(tmp_path / "nowhere")).arrivals(set()))


def test_a_generator_without_ids_is_known_by_its_content():
    first, again, other = samples(0), samples(0), samples(1)
    items = list(feed(Generated(lambda: iter([first, again, other])), set(), None))
    assert [item.name for item in items] == ["arrival 1", "arrival 3"]


def test_what_a_generator_yields_is_checked():
    (aside,) = feed(Generated(lambda: iter([("a", np.zeros((3, 2)), [0, 1])])), set(), None)
    assert isinstance(aside, SetAside) and "got (3, 2) and (2,)" in aside.reason
    wrong, ragged = feed(Generated(lambda: iter([3, ([[1.0], [1.0, 2.0]], [0, 1])])), set(), None)
    assert wrong.reason == "expected (x, y), (id, x, y) or None from the source, got a int"
    assert "x and y cannot be read as arrays" in ragged.reason
    with pytest.raises(TypeError, match="expected <lambda> to yield arrivals, got NoneType"):
        next(Generated(lambda: None).arrivals(set()))


def test_a_generator_is_read_no_further_than_it_is_asked():
    read = []

    def readings():
        for n in range(5):
            read.append(n)
            yield samples(n)

    items = feed(Generated(readings), set(), None)
    next(items), next(items)
    assert read == [0, 1]


def test_sources_have_names(tmp_path):
    perdure.register("of_a_test", lambda: iter(()))
    assert isinstance(live_source("of_a_test"), Generated)
    assert live_source(f"folder('{tmp_path}', size=3)") == Folder(str(tmp_path), size=3)
    with pytest.raises(NotationError, match="unknown name 'fodler'.*did you mean 'folder'"):
        live_source("fodler('x')")


def kept_open(folder, name="a.npz"):
    x, y = samples(0)
    np.savez(folder / name, x=x, y=y)


def test_a_folder_that_goes_and_returns_is_waited_for(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    kept_open(inbox)
    items = Folder(str(inbox), settle=0.0).arrivals(set())
    assert next(items).name == "a.npz"  # type: ignore[union-attr]
    inbox.rename(tmp_path / "away")
    assert next(items) is None and next(items) is None
    (tmp_path / "away").rename(inbox)
    np.savez(inbox / "b.npz", x=samples(1)[0], y=samples(1)[1])
    assert next(i for i in items if i is not None).name == "b.npz"


def test_a_file_that_grows_for_ever_holds_up_neither_the_others_nor_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_of, "PATIENCE", 0.5)
    monkeypatch.setattr(folder_of, "LOOKS", 0.001)
    kept_open(tmp_path, "z.npz")
    grown, looks = tmp_path / "a.csv", folder_of.entries

    def growing(root):  # between any two looks
        with grown.open("a") as file:
            file.write("1,2\n")
        return looks(root)

    monkeypatch.setattr(folder_of, "entries", growing)
    assert [item.name for item in told(tmp_path)] == ["z.npz"]


def test_a_folder_of_many_files_is_looked_through_once_for_many_of_them(tmp_path, monkeypatch):
    for number in range(300):
        (tmp_path / f"{number:03d}.txt").write_text(f"{number}")
    looked, looks, read = [], folder_of.entries, Folder._read
    monkeypatch.setattr(Folder, "_read", lambda self, entry, seen: read(self, entry, {*seen, entry.unread}))

    def slow(root):
        looked.append(time.monotonic())
        time.sleep(0.05)  # as for 100,000 files
        return looks(root)

    monkeypatch.setattr(folder_of, "entries", slow)
    assert told(tmp_path) == [] and len(looked) < 30


def test_reading_takes_no_longer_than_it_may(tmp_path):
    (tmp_path / "a.csv").write_text("label,heat\n" + "up,1\n" * 2_000_000)
    kept_open(tmp_path, "z.npz")
    late, good = told(tmp_path, seconds=0.2)
    assert "took longer than 0.2 s; divide it, or allow more with folder" in late.reason and good.name == "z.npz"


def test_a_reader_that_dies_is_told_and_the_next_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("label,heat\nup,1\n")
    kept_open(tmp_path, "z.npz")
    monkeypatch.setattr(folder_of.table, "samples", lambda *of: os.kill(os.getpid(), signal.SIGSEGV))
    dead, good = told(tmp_path)
    assert "ended by SIGSEGV" in dead.reason and isinstance(good, Arrival)


def test_what_may_not_be_read_is_set_aside_and_read_once_it_may(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder)
        inbox.chmod(0o755)
        kept_open(inbox)
        (inbox / "a.npz").chmod(0)
        if os.geteuid() == 0:  # who may read everything
            os.seteuid(65534)
        try:
            items = Folder(folder, settle=0.0).arrivals(set())
            aside = next(i for i in items if i is not None)
        finally:
            os.seteuid(os.getuid())
        assert isinstance(aside, SetAside) and "Permission denied" in aside.reason
        (inbox / "a.npz").chmod(0o644)
        assert isinstance(next(i for i in items if i is not None), Arrival)


def test_contents_are_known_by_the_same_ids_for_ever(tmp_path):
    (tmp_path / "b" / "cat").mkdir(parents=True)
    (tmp_path / "b" / "cat" / "1.png").write_bytes(b"one")
    (tmp_path / "b" / "cat.txt").write_bytes(b"two")
    file = hashlib.sha256(b"one").hexdigest()
    assert content(tmp_path / "b" / "cat" / "1.png") == file
    parts = [("cat/1.png", file), ("cat.txt", hashlib.sha256(b"two").hexdigest())]
    assert content(tmp_path / "b") == hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Sensor(LiveSource):
    """Tells of one more arrival each time it is asked, and then raises."""

    error: type[Exception]

    def arrivals(self, seen):
        yield arrival(f"{len(seen)}", f"{len(seen)}", *samples(len(seen)))
        raise self.error("the line is dead")


def waits(monkeypatch):
    made = []
    monkeypatch.setattr(queries.time, "sleep", made.append)
    return made


def test_a_source_whose_connection_breaks_is_asked_again_for_as_long_as_it_takes(monkeypatch):
    made = waits(monkeypatch)
    items = feed(Sensor(ConnectionError), set(), None)
    told = [next(items) for _ in range(8)]
    assert [type(item) for item in told] == [Arrival, SetAside] * 4 and made == [1.0] * 3
    where = r"the source raised ConnectionError: the line is dead \(test_live.py, line \d+, in arrivals\)"
    assert re.search(where + "; it is asked again", told[1].reason)  # type: ignore[union-attr]


@dataclass(frozen=True)
class Dead(LiveSource):
    error: type[Exception]

    def arrivals(self, seen):
        yield arrival("0", "0", *samples(0))
        raise self.error("the line is dead")


def test_a_source_that_always_fails_in_one_way_of_its_own_ends(monkeypatch):
    made = waits(monkeypatch)
    items = feed(Dead(KeyError), set(), None)
    assert [type(next(items)) for _ in range(2)] == [Arrival, SetAside]
    with pytest.raises(KeyError, match="the line is dead"):
        next(items)
    assert made == [1.0, 2.0]


def test_where_a_connection_stays_away_the_waits_grow_to_a_minute(monkeypatch):
    made = waits(monkeypatch)

    def bored(seconds):
        made.append(seconds)
        if len(made) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(queries.time, "sleep", bored)
    items = feed(Dead(OSError), set(), None)
    assert [type(next(items)) for _ in range(2)] == [Arrival, SetAside]
    with pytest.raises(KeyboardInterrupt):
        next(items)
    assert made == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_source_that_fails_where_nothing_is_waited_for_or_before_anything_came_raises():
    with pytest.raises(ConnectionError):
        list(feed(Dead(ConnectionError), set(), 0.0))

    def unborn():
        raise ConnectionError("no such host")
        yield

    with pytest.raises(ConnectionError, match="no such host"):
        next(feed(Generated(unborn), set(), None))


@dataclass(frozen=True)
class Careless(LiveSource):
    """Makes its arrivals itself."""

    def arrivals(self, seen):
        x, y = samples(0)
        yield Arrival("good", "good", x, y)
        yield Arrival("nan", "nan", x * np.nan, y)
        yield Arrival("whole", "whole", x.astype(int), y)
        yield Arrival("short", "short", x, y[:2])
        yield Arrival("lists", "lists", x.tolist(), y.tolist())  # type: ignore[arg-type]
        yield (x, y)  # type: ignore[misc]


def test_what_a_source_of_ones_own_makes_is_looked_at():
    good, nan, whole, short, lists, pair = feed(Careless(), set(), None)
    assert isinstance(good, Arrival) and isinstance(lists, Arrival) and lists.x.dtype == np.float32
    whys = [
        "NaN or an infinity",
        "uint8 or floating point",
        "expected x",
        "expected Arrival, SetAside or None .* tuple",
    ]
    for aside, why in zip((nan, whole, short, pair), whys, strict=True):
        assert isinstance(aside, SetAside) and re.search(why, aside.reason), aside

"""Sources of arrivals: a folder, a Python generator."""

import time

import numpy as np
import pytest
from PIL import Image

import perdure
from perdure.notation import NotationError
from perdure.platform.live.asking import feed
from perdure.streams.folder import Folder
from perdure.streams.live import Arrival, Generated, SetAside
from perdure.streams.names import live_source
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
    import re

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

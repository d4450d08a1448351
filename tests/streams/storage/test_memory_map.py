"""Data larger than memory: the same data set, bit for bit, of which no more is in memory than is looked at."""

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from perdure.strategies.learner import Learner
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Bookmark, Plan
from perdure.streams.datasets import images
from perdure.streams.datasets.arrays import Arrays
from perdure.streams.datasets.dataset import DataError, Part
from perdure.streams.datasets.images import Images
from perdure.streams.experience import Split
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places
from perdure.streams.storage.memory_map import Filed, Mapped
from perdure.streams.storage.prefetch import DEPTH, ahead
from perdure.testing.equality import same

from .. import tiny


@pytest.fixture
def photos(tmp_path):
    """Two classes of twelve pictures, and a list of their experiences."""
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(12):
            Image.fromarray(tiny.pictures((8, 6, 3), 12 * k + n)).save(tmp_path / "photos" / name / f"{n}.png")
    names = [f"{name}/{n}.png,{n % 2}\n" for name in ("cat", "dog") for n in range(12)]
    (tmp_path / "when.csv").write_text("".join(names))
    return tmp_path / "photos"


@pytest.fixture
def cramped(monkeypatch):
    monkeypatch.setenv("PERDURE_ROOM", "100")


def both(source, nowhere, monkeypatch):
    """The data set in memory, and mapped."""
    monkeypatch.setenv("PERDURE_ROOM", "1G")
    whole = source.load(nowhere)
    monkeypatch.setenv("PERDURE_ROOM", "100")
    mapped = source.load(nowhere)
    assert not isinstance(whole.train.x, Mapped)
    assert isinstance(mapped.train.x, Mapped) and isinstance(mapped.test.x, Mapped)
    return whole, mapped


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("ahead")]


# --- one data set, held in two ways


@pytest.mark.parametrize("options", [{}, {"size": 4}, {"experience": "when.csv", "test_share": 0.4, "seed": 3}])
def test_mapped_pictures_are_the_same_data_set(options, photos, nowhere, monkeypatch):
    whole, mapped = both(Images(str(photos), **options), replace(nowhere, folder=str(photos.parent)), monkeypatch)
    assert mapped.fingerprint == mapped.sha256() == whole.fingerprint
    for a, b in ((whole.train, mapped.train), (whole.test, mapped.test)):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)


def test_pictures_divided_by_folders(photos, nowhere, monkeypatch):
    root = photos.parent / "divided"
    root.mkdir()
    photos.rename(root / "train")
    (root / "test").symlink_to(root / "train")
    whole, mapped = both(Images(str(root)), nowhere, monkeypatch)
    assert mapped.fingerprint == whole.fingerprint and len(mapped.test.y) == 24


def learned(text, on, dataset):
    stream = stream_recipe(on).arrange(dataset)
    torch.manual_seed(0)
    learner = Learner(model("convnet(4)").build(stream.shape, stream.classes.shape[1]), SGD(0.1), Rng(0))
    return list(learn(stream, learner, strategy(text), Plan(epochs=2, batch_size=5)))[-1]


@pytest.mark.parametrize(
    "text, on",
    [
        ("rehearsal(6) + ewc(10)", "split(images('photos'), 2)"),
        ("mas", "permuted(images('photos'), 2)"),
        ("joint", "rotated(images('photos'), 2)"),
        ("la_maml(6, inner=2)", "online(split(images('photos'), 2), 5)"),
        ("rehearsal(6, selection='herding')", "blurry(split(images('photos'), 2), 0.3)"),
    ],
)
def test_runs_over_mapped_data_have_the_bits_of_runs_in_memory(text, on, photos, nowhere, monkeypatch):
    ends = [learned(text, on, d) for d in both(Images(str(photos)), nowhere, monkeypatch)]
    assert ends[0].accuracy == ends[1].accuracy and ends[0].loss == ends[1].loss
    assert same(ends[0].checkpoint, ends[1].checkpoint)
    assert not threads()


@pytest.mark.parametrize("own_tests", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_arrays_in_a_folder_are_those_of_an_archive(kind, own_tests, tmp_path, nowhere, monkeypatch):
    found = {"x": tiny.pictures((20, 5, 4)).astype(kind), "y": np.arange(20) % 2, "experience": np.arange(20) // 10}
    if own_tests:
        found |= {"x_test": found["x"][::3], "y_test": found["y"][::3], "experience_test": found["experience"][::3]}
    np.savez(tmp_path / "own.npz", **found)
    (tmp_path / "own").mkdir()
    for name, array in found.items():
        np.save(tmp_path / "own" / f"{name}.npy", array)
    whole, mapped = both(Arrays(str(tmp_path / "own")), nowhere, monkeypatch)
    monkeypatch.setenv("PERDURE_ROOM", "1G")
    assert mapped.fingerprint == whole.fingerprint == Arrays(str(tmp_path / "own.npz")).load(nowhere).fingerprint
    assert mapped.sha256() == whole.sha256()


@pytest.mark.parametrize(
    "x, message",
    [
        (np.ones((20, 30)), "larger than the memory for it, as uint8 or float32 in C order, got float64; save np.asc"),
        (np.asfortranarray(np.ones((20, 30), np.float32)), "in C order, got float32"),
        (np.where(np.arange(600).reshape(20, 30) == 99, np.nan, 1).astype(np.float32), "sample . holds NaN"),
    ],
)
def test_arrays_that_cannot_be_mapped(x, message, tmp_path, nowhere, cramped):
    np.save(tmp_path / "x.npy", x), np.save(tmp_path / "y.npy", np.arange(20) % 2)
    with pytest.raises(DataError, match=message):
        Arrays(str(tmp_path)).load(nowhere)
    (tmp_path / "y.npy").write_bytes(b"?")
    with pytest.raises(DataError, match=r"y.npy cannot be read as a .npy file of a plain array"):
        Arrays(str(tmp_path)).load(nowhere)


# --- the file


def test_pictures_are_decoded_once(photos, nowhere, cramped, monkeypatch):
    first = Images(str(photos)).load(nowhere)
    with monkeypatch.context() as patch:
        patch.setattr(images, "opened", None)
        assert Images(str(photos)).load(nowhere).fingerprint == first.fingerprint
    path = photos / "cat" / "0.png"
    known, other = path.stat(), photos / "dog" / "other.png"
    Image.fromarray(tiny.pictures((8, 6, 3), 99)).save(other)
    path.write_bytes(other.read_bytes())
    other.unlink()
    assert path.stat().st_size == known.st_size
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))  # neither size nor time tells, and yet it is noticed
    assert Images(str(photos)).load(nowhere).fingerprint != first.fingerprint


def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_left_behind(photos, nowhere, cramped):
    path = photos / "dog" / "7.png"
    path.write_bytes(path.read_bytes()[:-60])  # its head is whole
    with pytest.raises(DataError, match="dog/7.png is not a readable picture"):
        Images(str(photos)).load(nowhere)
    assert [p.suffix for p in nowhere.maps.iterdir()] == [".lock"]
    Image.fromarray(tiny.pictures((8, 6, 3))).save(path)
    (half := nowhere.maps / "of a process that died").mkdir()
    made = Images(str(photos)).load(nowhere)
    (folder,) = (p for p in nowhere.maps.iterdir() if p.name.startswith("photos-") and p.is_dir())
    half.replace(folder.with_suffix(".half"))
    (folder / "test.npy").unlink(), (folder / "train.npy").unlink(), (folder / "sha256").unlink(), folder.rmdir()
    assert Images(str(photos)).load(nowhere).fingerprint == made.fingerprint


def test_a_damaged_file_and_a_full_disk_are_told(photos, nowhere, cramped, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1}))
        with pytest.raises(
            DataError, match=r"GB of room in .*mapped for data larger than memory, found 0.0; make room"
        ):
            Images(str(photos)).load(nowhere)
    Images(str(photos)).load(nowhere)
    (path,) = nowhere.maps.glob("photos-*/train.npy")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train.npy is damaged .*; delete .*photos-.*, it is made anew"):
        Images(str(photos)).load(nowhere)


def test_what_a_split_hands_out_is_a_plain_copy(photos, nowhere, cramped):
    data = Images(str(photos)).load(nowhere)
    split = Split(data.train.x, data.train.y, torch.zeros_like(data.train.y), torch.arange(len(data.train.y)))
    for x in (split.samples(torch.arange(3)).x, split.everything().x, split.batch(torch.arange(3)).x, data.train.x + 0):
        assert type(x) is torch.Tensor
        x.zero_()
    assert Images(str(photos)).load(nowhere).sha256() == data.fingerprint


@pytest.mark.parametrize("text, bytes_", [("12", 12), ("500M", 500_000_000), ("2.5g", 2_500_000_000)])
def test_room(text, bytes_, monkeypatch):
    monkeypatch.setenv("PERDURE_ROOM", text)
    assert Places().room == bytes_
    monkeypatch.setenv("PERDURE_ROOM", "much")
    with pytest.raises(ValueError, match="PERDURE_ROOM must be a number of bytes such as 500M or 2.5G, got 'much'"):
        assert Places().room
    monkeypatch.delenv("PERDURE_ROOM")
    assert 0 < Places().room <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4


# --- ahead


def test_things_are_made_ahead_and_in_order():
    taken, made = [], []

    def items():
        for n in range(9):
            taken.append((n, threading.current_thread()))
            yield n

    def make(n):
        made.append(threading.current_thread().name)
        return 2 * n

    told = ahead(make, items())
    assert next(told) == 0 and len(taken) == DEPTH  # no more than that lies waiting
    assert list(told) == [2 * n for n in range(1, 9)]
    assert {t for _, t in taken} == {threading.main_thread()} and all(name.startswith("ahead") for name in made)
    assert not threads() and list(ahead(make, [])) == []


def test_the_thread_ends_with_whoever_takes():
    def fails(n):
        if n == 2:
            raise ValueError("two")
        return n

    told = ahead(fails, range(9))
    assert [next(told), next(told)] == [0, 1] and threads()
    with pytest.raises(ValueError, match="two"):
        next(told)
    assert not threads()
    told = ahead(str, range(9))
    next(told)
    told.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not threads()
    next(kept := ahead(str, range(9)))
    del kept
    assert not threads()


def test_a_run_that_is_left_or_fails_leaves_no_thread(photos, nowhere, cramped):
    stream = stream_recipe("split(images('photos'), 2)").arrange(Images(str(photos)).load(nowhere))

    def run(strategy_, due=lambda: True):
        one = Learner(model("convnet(4)").build(stream.shape, 2), SGD(0.1), Rng(0))
        return learn(stream, one, strategy_, Plan(epochs=50, batch_size=2), due=due)

    going = run(strategy("naive"))
    assert isinstance(next(going), Bookmark) and threads()
    going.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not threads()

    calls = []

    def due():
        calls.append(len(threads()))
        if len(calls) == 3:
            raise RuntimeError("lights out")
        return False

    try:
        list(run(strategy("naive"), due))
    except RuntimeError as e:
        assert str(e) == "lights out"
    assert calls == [1, 1, 1] and not threads()


def test_batches_of_data_in_memory_take_no_thread():
    part = Part(torch.rand(6, 3), torch.arange(6))
    split = Split(*part, torch.zeros(6).long(), torch.arange(6))
    batches = split.batches([torch.tensor([1, 2]), torch.tensor([0])])
    assert torch.equal(next(batches).y, torch.tensor([1, 2])) and not threads()


# --- memory

LIMITED = """
import resource, sys, torch
from pathlib import Path
from perdure.platform.runs.run import Run, build
from perdure.strategies.training.plan import Plan
from perdure.strategies.training.loop import learn
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places
import PIL.PpmImagePlugin
torch.set_num_threads(1)
run = Run("rehearsal(4)", "split(images('photos'), 2)", "mlp(2)", plan=Plan(batch_size=8, steps=20))
layer = torch.nn.Linear(3, 3)
layer(torch.rand(8, 3)).sum().backward()
torch.optim.Adam(layer.parameters())  # brings torch's compiler in
(now,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")]
resource.setrlimit(resource.RLIMIT_DATA, (int(now) * 1024 + int(sys.argv[1]),) * 2)
dataset = stream_recipe(run.stream).source().load(Places(download=False))
stream, learner, strategy = build(run, dataset)
for milestone in learn(stream, learner, strategy, run.plan):
    pass
print(dataset.fingerprint, dataset.train.x.numel() + dataset.test.x.numel(), milestone.accuracy)
"""


def test_a_run_over_more_than_it_may_hold_in_memory(tmp_path):
    """The system itself refuses this process more memory; the pages of a map are not counted."""
    limit, size, each = 280_000_000, 256, 900
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        first = tmp_path / "photos" / name / "0.ppm"
        Image.fromarray(np.full((size, size, 3), 40 + 99 * k, np.uint8)).save(first)
        for n in range(1, each):
            os.link(first, first.with_name(f"{n}.ppm"))
    assert 2 * each * size * size * 3 > limit

    def run(room):
        environment = os.environ | {"PERDURE_ROOM": room, "XDG_CACHE_HOME": str(tmp_path / room)}
        line = [sys.executable, "-W", "ignore", "-c", LIMITED, str(limit)]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    told = run("50M")
    assert told.returncode == 0, told.stderr
    assert int(told.stdout.split()[1]) == 2 * each * size * size * 3
    failed = run("1G")
    assert failed.returncode and "memory" in failed.stderr.lower()


def test_a_map_knows_whether_its_file_is_as_it_was(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.uint8))
    filed = Filed.of(tmp_path / "x.npy")
    assert filed.present and torch.equal(Mapped(filed), torch.arange(6, dtype=torch.uint8))
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.uint8)[::-1].copy())
    assert not filed.present
    (tmp_path / "x.npy").unlink()
    assert not filed.present

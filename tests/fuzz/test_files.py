"""Every file of a user's own: tables, arrays, pictures, tasks to adapt to, plugins and recipes."""

import io
import struct
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from typer import BadParameter

from perdure.jobs import recipe
from perdure.platform.evaluation.adaptation import _read as task
from perdure.platform.runs import plugins
from perdure.platform.submission.parcel import runtime_environment
from perdure.streams.datasets import arrays, images, table
from perdure.streams.datasets.arrays import Arrays
from perdure.streams.datasets.images import Images
from perdure.streams.datasets.table import Table
from perdure.streams.storage.directories import Places
from tests.streams.tiny import idx

from .bounds import refused_or_read
from .malformed import data, texts

ROWS = 12
X = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
Y = np.arange(ROWS) % 3
HEADER = b"a,b,label\n"


def npz(**held) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **held)
    return buffer.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    """An archive whose array is said to be of a shape, and has nothing in it."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", head.getvalue())
        archive.writestr("y.npy", head.getvalue())
    return buffer.getvalue()


def packed(count: int) -> bytes:
    """An archive of so many zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, 1)})
        for _ in range(count >> 20):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def png(width: int = 4, height: int = 4) -> bytes:
    """Larger ones are heads alone."""
    if width * height < 1000:
        buffer = io.BytesIO()
        Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width)).save(buffer, "PNG")
        return buffer.getvalue()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")


def csv() -> bytes:
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "label": Y}).to_csv(index=False).encode()


def parquet() -> bytes:
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "label": Y}).to_parquet(index=False)


ARCHIVE, CSV, PARQUET, PNG = npz(x=X, y=Y), csv(), parquet(), png()


@given(data(ARCHIVE))
@example(claiming((10**13, 1)))
@example(claiming((2**62, 2**62)))
@example(packed(500 << 20))
@example(npz())
@example(npz(x=np.zeros((0, 4)), y=np.zeros(0)))
@example(npz(x=X, y=np.array([10**400] * ROWS, dtype=object).astype(str)))
@example(npz(x=X.astype(complex), y=Y))
@example(npz(x=X, y=Y.astype("datetime64[D]")))
@example(npz(x=np.array("x"), y=np.array(1)))
def test_an_archive_is_read_or_refused(tmp_path, content):
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with refused_or_read():
        Arrays(str(path)).loaded(Places())
    with refused_or_read():
        arrays.samples(path)


@given(data(CSV))
@example(HEADER)
@example(b"")
@example(b"label\n1\n2\n")
@example(HEADER + b"9" * 400 + b",1,0\n1,2,1\n")
@example(HEADER + b"9" * 5000 + b",1,0\n1,2,1\n")
@example(HEADER + b"1,2," + b"9" * 400 + b"\n1,2,1\n")
@example(b"a,a,label,label\n1,2,0,1\n2,3,1,0\n")
@example(b"a,b,label\n" + b'"' * 1001)
@example(("a,b,label\n" + ",".join("1" * 3000) + "\n").encode())
def test_a_csv_table_is_read_or_refused(tmp_path, content):
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with refused_or_read():
        Table(str(path)).loaded(Places())
    with refused_or_read():
        table.samples(path, "label")


@given(data(PARQUET))
@example(pd.DataFrame({"a": [[1], [2]], "label": [0, 1]}).to_parquet())
@example(pd.DataFrame({"a": pd.to_datetime(["2024-01-01"] * 4), "label": [0, 0, 1, 1]}).to_parquet())
@example(pd.DataFrame({"a": pd.to_timedelta([1, 2, 3, 4]), "label": [0, 0, 1, 1]}).to_parquet())
@example(pd.DataFrame({"a": [1.0] * 4, "label": [b"x", b"y"] * 2}).to_parquet())
@example(pd.DataFrame({"a": [], "label": []}).to_parquet())
def test_a_parquet_table_is_read_or_refused(tmp_path, content):
    path = tmp_path / "own.parquet"
    path.write_bytes(content)
    with refused_or_read():
        Table(str(path)).loaded(Places())


@given(data(PNG), st.sampled_from(["png", "jpg", "bmp", "tif", "webp", "ppm"]))
@example(png(12_000, 12_000), "png")
@example(png(100_000, 100_000), "png")
@example(b"P6\n999999999 999999999\n255\n", "ppm")
@example(b"BM" + b"\xff" * 60, "bmp")
def test_a_picture_is_read_or_refused(tmp_path, content, suffix):
    for label in ("cat", "dog"):
        folder = tmp_path / label
        folder.mkdir(exist_ok=True)
        (folder / "right.png").write_bytes(PNG)
        (folder / "other.png").write_bytes(PNG)
    path = tmp_path / "cat" / f"own.{suffix}"
    path.write_bytes(content)
    try:
        for size in (None, 8):
            with refused_or_read():
                Images(str(tmp_path), size=size).loaded(Places())
        with refused_or_read():
            images.samples(tmp_path, 8)
    finally:
        path.unlink()


@given(data(CSV))
def test_a_list_of_experiences_is_read_or_refused(tmp_path, content):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(exist_ok=True, parents=True)
        for n in range(3):
            (tmp_path / "photos" / label / f"{n}.png").write_bytes(PNG)
    (tmp_path / "months.csv").write_bytes(content)
    with refused_or_read():
        Images(str(tmp_path / "photos"), experience=str(tmp_path / "months.csv")).loaded(Places())


@given(data(ARCHIVE), data(ARCHIVE))
def test_a_folder_of_arrays_is_read_or_refused(tmp_path, x, y):
    for name, content in (("x", x), ("y", y)):
        (tmp_path / f"{name}.npy").write_bytes(content)
    with refused_or_read():
        Arrays(str(tmp_path)).loaded(Places())


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@given(content=data(idx(np.zeros((20, 28, 28), np.uint8))))
@example(content=struct.pack(">IIII", 0x803, 2**31 - 1, 2**31 - 1, 28))
def test_a_file_of_mnist_is_read_or_refused(tmp_path, name, content):
    labels = np.arange(20, dtype=np.uint8) % 10
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(np.zeros((20, 28, 28), np.uint8)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    (folder / name).write_bytes(content)
    from perdure.streams.datasets.mnist import MNIST

    with refused_or_read():
        MNIST().loaded(Places(str(tmp_path), download=False, system=()))


TASK = {
    "csv": b"1,2,3,4,0\n2,3,4,5,1\n5,6,7,8,\n",
    "npz": npz(x=X, y=Y, queries=X),
}


@pytest.mark.parametrize("kind", TASK)
@pytest.mark.parametrize("classes", [5, None])
@given(draw=st.data())
def test_a_task_is_read_or_refused(tmp_path, kind, classes, draw):
    path = tmp_path / f"task.{kind}"
    special = [b"", b"9" * 400 + b",1\n", b"PK\x03\x04", b'"', npz(x=X, y=Y), npz(x=np.array(1), y=Y, queries=X)]
    path.write_bytes(draw.draw(st.one_of(data(TASK[kind]), st.sampled_from(special))))
    with refused_or_read():
        task(Path(path), (4,), classes)


RECIPES = [
    "strategies: [naive, 'ewc(100)']\nseeds: 5\n",
    "seeds: 2024-99-99\n",
    "seeds: !!int abc\n",
    "seeds: !!timestamp x\n",
    "seeds: !!python/object/apply:os.system [ls]\n",
    "[" * 5000,
    "a: &a [1,1]\n" + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in pairwise("abcdefghi")),
    "&a [*a]",
    "seeds: 9\nseeds: 8\n? [a]\n: b\n",
]


@given(st.one_of(texts(RECIPES).map(lambda t: t.encode("utf-8", "surrogatepass")), data(RECIPES[0].encode())))
@example(RECIPES[6].encode())
@example(b"\xff\xfe\x00")
def test_a_recipe_is_read_or_refused(tmp_path, content):
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with refused_or_read():
        runtime_environment(str(path))
    with refused_or_read():
        try:
            recipe._read(str(path))
        except BadParameter as e:
            raise ValueError(str(e)) from None


PLUGIN = "import perdure\n\n\ndef own(shape, classes):\n    return None\n\n\nX = 1\n"


@given(st.one_of(texts([PLUGIN]).map(lambda t: t.encode("utf-8", "surrogatepass")), data(PLUGIN.encode())))
@example(b"raise SystemExit(3)")
@example(b"1 / 0")
@example(b"class")
@example(b"\0")
@example(b"import nowhere_at_all")
@example(b"def f():\n    f()\nf()")
def test_a_plugin_is_run_or_refused(tmp_path, content):
    path = tmp_path / "own.py"
    path.write_bytes(content)
    with refused_or_read():
        plugins.load([str(path)])

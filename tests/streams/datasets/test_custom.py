"""Data of one's own: what is read, and the error that names the sample where it is not fit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from perdure.streams.datasets.arrays import Arrays
from perdure.streams.datasets.dataset import DataError
from perdure.streams.datasets.images import Images
from perdure.streams.datasets.table import Table
from perdure.streams.scenarios.assigned import Assigned
from perdure.streams.storage.directories import DataNotFound

from .. import tiny

Y = np.arange(20) % 2
X = np.random.default_rng(0).random((20, 3), dtype=np.float32)


# --- arrays


def arrays(tmp_path, nowhere, **content):
    np.savez(tmp_path / "own.npz", **content)
    return Arrays(str(tmp_path / "own.npz")).load(nowhere)


def test_arrays_of_floats(tmp_path, nowhere):
    data = arrays(tmp_path, nowhere, x=X.astype(np.float64), y=Y)
    assert data.train.x.dtype == torch.float32 and data.train.x.shape == (16, 3) and data.test.x.shape == (4, 3)
    met = torch.cat([data.train.x, data.test.x])
    assert np.array_equal(met[met[:, 0].argsort()], X[X[:, 0].argsort()])
    assert data.classes == ("0", "1")


def test_arrays_of_images_and_texts(tmp_path, nowhere):
    data = arrays(tmp_path, nowhere, x=tiny.pictures((20, 5, 4)), y=np.array(["dog", "cat"])[Y])
    assert data.train.x.shape == (16, 1, 5, 4) and data.train.x.dtype == torch.uint8
    assert data.classes == ("cat", "dog")


def test_arrays_with_tests_and_experiences_of_their_own(tmp_path, nowhere):
    when = {"experience": np.array([2021, 2020]).repeat(10), "experience_test": np.array([2020, 2020, 2021, 2021])}
    data = arrays(tmp_path, nowhere, x=X, y=Y, x_test=X[:4], y_test=Y[:4], **when)
    assert np.array_equal(data.train.x, X) and np.array_equal(data.test.x, X[:4])
    stream = Assigned(Arrays("own.npz")).arrange(data)
    assert np.array_equal(stream[0].train.everything().x, X[10:])  # 2020 comes first
    assert np.array_equal(stream[0].test.everything().x, X[:2])


def test_a_share_of_every_class_in_every_experience_is_kept_to_test_on(tmp_path, nowhere):
    data = arrays(tmp_path, nowhere, x=X, y=Y, experience=np.arange(20) // 10)
    for e in Assigned(Arrays("own.npz")).arrange(data):
        assert e.test.y.tolist() == [0, 1] or e.test.y.tolist() == [1, 0]


def spoiled(at: int, value) -> np.ndarray:
    x = X.copy()
    x[at, 1] = value
    return x


@pytest.mark.parametrize(
    "content, message",
    [
        (
            {"x": spoiled(7, np.nan), "y": Y},
            "sample 7 of x in .*own.npz holds NaN or an infinity; repair it or leave it",
        ),
        ({"x": X.astype(float) * 1e300, "y": Y}, "sample 0 of x in .* holds NaN or an infinity"),
        (
            {"x": X, "y": np.where(np.arange(20) > 11, 3, Y)},
            "sample 12 of x in .* has label 3, but class 2 has no sample",
        ),
        ({"x": X, "y": Y + 1}, "sample 0 of x in .* has label 1, but class 0 has no sample; .* from 0 without a gap"),
        ({"x": X, "y": Y - 1}, "sample 0 of x in .* has label -1; labels must count from 0"),
        ({"x": X, "y": Y + 0.5}, "labels must be whole numbers or texts, got float64; sample 0 .* has label 0.5"),
        ({"x": X, "y": Y[:, None]}, r"expected x \(N, ...\) and y \(N,\) in .*, got \(20, 3\) and \(20, 1\)"),
        ({"x": X, "y": Y[:-1]}, r"got \(20, 3\) and \(19,\)"),
        ({"x": X[0], "y": Y[0]}, r"got \(3,\) and \(\)"),
        ({"x": X}, "expected an array 'y' in .*own.npz, found x"),
        ({"x": X, "y": Y, "x_test": X}, "expected an array 'y_test' in"),
        ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, r"of one shape and type, got \(3,\) .* and \(2,\)"),
        (
            {"x": X, "y": Y, "x_test": X, "y_test": Y * 2},
            "sample 1 of x_test in .* has label 2, which no training sample",
        ),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y * 0}, r"class 1 \(1\) has no test sample"),
        (
            {"x": X.astype(np.int64), "y": Y},
            r"as uint8 or floating point, got int64; for images .* x.astype\('uint8'\)",
        ),
        (
            {"x": tiny.pictures((20, 8, 8, 3)), "y": Y},
            r"expected images \(N, C, H, W\) .* save x.transpose\(0, 3, 1, 2\)",
        ),
        (
            {"x": np.array([X[0], X[1, :2]], object), "y": Y[:2]},
            "Python objects, as arrays of samples of unequal shapes do",
        ),
        ({"x": X, "y": np.arange(20) // 19}, "sample 19 of x in .* is the only one of its kind"),
        ({"x": X, "y": Y, "experience": Y[:3]}, r"expected one experience for each of 20 samples, got shape \(3,\)"),
        ({"x": X, "y": Y, "experience": np.where(Y, np.nan, 1)}, "sample 1 has no experience"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y, "experience": Y}, "expected an array 'experience_test' in"),
        (
            {"x": X, "y": Y, "x_test": X, "y_test": Y, "experience": Y, "experience_test": Y * 2},
            "test sample 1 is of experience 2, which no training sample is of",
        ),
    ],
)
def test_unfit_arrays(content, message, tmp_path, nowhere):
    with pytest.raises(DataError, match=message):
        arrays(tmp_path, nowhere, **content)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04N.", b"text"])
def test_a_file_that_is_no_archive(content, tmp_path, nowhere):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"own.npz cannot be read as a .npz file of plain arrays"):
        Arrays(str(tmp_path / "own.npz")).load(nowhere)


def test_a_single_array_is_no_archive(tmp_path, nowhere):
    np.save(tmp_path / "own.npy", X)
    with pytest.raises(DataError, match=r"it is a single array; save several by name with np.savez"):
        Arrays(str(tmp_path / "own.npy")).load(nowhere)


def test_own_files_are_found_below_the_data_folder_too(tmp_path, nowhere, monkeypatch):
    np.savez(tmp_path / "own.npz", x=X, y=Y)
    assert len(Arrays("own.npz").load(replace(nowhere, folder=str(tmp_path))).train.y) == 16
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataNotFound) as caught:
        Arrays("none.npz").load(replace(nowhere, folder="/data"))
    assert str(caught.value) == (
        f"none.npz was not found; looked at {tmp_path}/none.npz, /data/none.npz. "
        "Give an absolute path, or its folder as --data DIR"
    )


# --- table


def frame(**changes) -> pd.DataFrame:
    return pd.DataFrame({"a": X[:, 0], "b": Y * 10, "kind": np.array(["dog", "cat"])[Y], "year": 2020 + Y} | changes)


def table(tmp_path, nowhere, data: pd.DataFrame, suffix: str = "csv", **arguments):
    path = tmp_path / f"own.{suffix}"
    data.to_csv(path, index=False) if suffix == "csv" else data.to_parquet(path)
    return Table(str(path), **{"label": "kind"} | arguments).load(nowhere)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables(suffix, tmp_path, nowhere):
    data = table(tmp_path, nowhere, frame(), suffix, ignore=("year",))
    assert data.train.x.dtype == torch.float32 and data.train.x.shape == (16, 2)
    assert data.classes == ("cat", "dog")
    assert torch.equal(data.train.x[:, 1], (data.train.y == 0) * 10.0)


def test_numbers_with_pandas_own_types_are_numbers(tmp_path, nowhere):
    kinds = pd.array(list(range(12)) * 2, dtype="Int64")
    data = table(tmp_path, nowhere, pd.DataFrame({"a": pd.array(range(24), dtype="Int64"), "kind": kinds}), "parquet")
    assert data.classes == tuple(map(str, range(12)))  # 10 after 9, not after 1
    assert torch.equal(data.train.x[:, 0].long() % 12, data.train.y)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_says_which_experience(suffix, tmp_path, nowhere):
    where = np.array(["mill", "farm"]).repeat(10)
    data = table(tmp_path, nowhere, frame(where=where), suffix, experience="where", ignore=("year",))
    stream = Assigned(Table("own")).arrange(data)
    assert [len(e) for e in stream] == [8, 8]
    assert set(stream[0].train.everything().x[:, 0].tolist()) <= set(X[10:, 0].tolist())  # the farm, in sorted order


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    "changes, arguments, message",
    [
        (
            {"a": spoiled(7, np.nan)[:, 1]},
            {},
            r"row 7 of .* \(counted from 0, below the header\) has NaN .* in 'a'; repair",
        ),
        ({"a": [*X[:19, 0], np.inf]}, {}, "row 19 of .* has NaN or an infinity in 'a'"),
        ({"b": ["low", *["1"] * 19]}, {}, r"column 'b' is not numeric: row 0 of .* has 'low'; .* ignore=\('b',\)"),
        ({"kind": ["dog", None] + ["dog", "cat"] * 9}, {}, "row 1 of .* has no kind"),
        ({"kind": [0, 2] * 10}, {}, "row 1 of .* has label 2, but class 1 has no sample"),
        ({}, {"label": "kinds"}, "has no column 'kinds', did you mean 'kind'; it has a, b, kind, year"),
        ({}, {"ignore": ("c",)}, "has no column 'c'"),
        ({}, {"experience": "when"}, "has no column 'when'"),
        ({}, {"ignore": ("a", "b", "year")}, "expected columns of numbers beside the label, found none"),
        ({"kind": ["dog"] * 19 + ["cat"]}, {}, "row 19 of .* is the only one of its kind"),
    ],
)
def test_unfit_tables(changes, arguments, message, suffix, tmp_path, nowhere):
    with pytest.raises(DataError, match=message.replace("mean 'kind'", r"mean 'kind'\?")):
        table(tmp_path, nowhere, frame(**changes), suffix, **arguments)


@pytest.mark.parametrize(
    "name, content", [("own.csv", b""), ("own.parquet", b"PAR?"), ("own.csv", b"\xff\xfe\x00"), ("own.xls", b"")]
)
def test_files_that_are_no_tables(name, content, tmp_path, nowhere):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as|expected a .csv or a .parquet file"):
        Table(str(tmp_path / name)).load(nowhere)


# --- images


def picture(path, shape=(6, 5), seed: int = 0, mode: str | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = tiny.pictures(shape, seed)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return pixels


def folder(root, each: int = 5, shape=(6, 5)) -> dict[str, np.ndarray]:
    return {
        f"{name}/{n}.png": picture(root / name / f"{n}.png", shape, seed=10 * k + n)
        for k, name in enumerate(("cat", "dog"))
        for n in range(each)
    }


def test_a_folder_per_class(tmp_path, nowhere):
    made = folder(tmp_path / "own")
    (tmp_path / "own/cat/notes.txt").write_text("no picture")
    (tmp_path / "own/.thumbnails").mkdir()
    data = Images(str(tmp_path / "own")).load(nowhere)
    assert data.classes == ("cat", "dog") and data.train.x.shape == (8, 1, 6, 5) and data.test.x.shape == (2, 1, 6, 5)
    met = {x.numpy().tobytes(): int(y) for part in (data.train, data.test) for x, y in zip(part.x, part.y, strict=True)}
    assert met == {pixels.tobytes(): int(name.startswith("dog")) for name, pixels in made.items()}


def test_folders_to_train_and_to_test_on(tmp_path, nowhere):
    train, test = folder(tmp_path / "train"), folder(tmp_path / "test", each=2, shape=(6, 5))
    data = Images(str(tmp_path)).load(nowhere)
    assert np.array_equal(data.train.x[:, 0], [*train.values()]) and np.array_equal(data.test.x[:, 0], [*test.values()])


def test_grey_pictures_among_colour_become_colour(tmp_path, nowhere):
    folder(tmp_path, shape=(6, 5, 3))
    grey = picture(tmp_path / "cat/0.png", (6, 5))
    picture(tmp_path / "cat/1.png", (6, 5, 4))  # with transparency
    data = Images(str(tmp_path)).load(nowhere)
    everything = torch.cat([data.train.x, data.test.x])
    assert everything.shape == (10, 3, 6, 5)
    assert any(np.array_equal(x, np.stack([grey] * 3)) for x in everything)


def test_size_scales_pictures_of_any_size(tmp_path, nowhere):
    folder(tmp_path)
    picture(tmp_path / "dog/wide.png", (6, 9))
    assert Images(str(tmp_path), size=4).load(nowhere).train.x.shape[1:] == (1, 4, 4)
    message = "expected pictures of one size: .*cat/0.png has 5 x 6 pixels, .*dog/wide.png has 9 x 6; size=5 scales"
    with pytest.raises(DataError, match=message):
        Images(str(tmp_path)).load(nowhere)


def test_a_list_says_which_experience(tmp_path, nowhere):
    made = folder(tmp_path / "own", each=8)
    when = {name: 10 if int(name[4]) < 4 else 9 for name in made}
    (tmp_path / "when.csv").write_text("".join(f"{name},{e}\n" for name, e in when.items()))
    recipe = Images(str(tmp_path / "own"), experience=str(tmp_path / "when.csv"))
    stream = Assigned(recipe).arrange(recipe.load(nowhere))
    first = {x.numpy().tobytes() for x in stream[0].train.everything().x}  # 9 comes before 10
    assert len(stream) == 2 and first <= {pixels.tobytes() for name, pixels in made.items() if when[name] == 9}


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda root: (root / "own/bird").mkdir(), "class 'bird' has no picture: expected files .* in .*own/bird"),
        (lambda root: (root / "own/cat/3.png").write_bytes(b"?"), "own/cat/3.png is not a readable picture"),
        (lambda root: cut(root / "own/dog/2.png"), "own/dog/2.png is not a readable picture"),
        (lambda root: deep(root / "own/dog/2.png"), "own/dog/2.png has more than 8 bits a channel; convert it to 8"),
        (
            lambda root: [p.unlink() for p in (root / "own/cat").iterdir() if p.stem != "1"],
            "cat/1.png is the only one of",
        ),
        (lambda root: [(root / "own/cat").rename(root / "elsewhere")], "expected a folder per class in .*own, found 1"),
        (lambda root: (root / "when.csv").write_text("cat/0.png,1\n"), "when.csv does not say .* cat/1.png belongs to"),
        (
            lambda root: (root / "when.csv").write_text("x,1\ncat/0.png\n"),
            "line 2 of .* must be `path,experience`, got",
        ),
    ],
)
def test_unfit_pictures(spoil, message, tmp_path, nowhere):
    made = folder(tmp_path / "own")
    (tmp_path / "when.csv").write_text("".join(f"{name},{n % 2}\n" for n, name in enumerate(made)))
    spoil(tmp_path)
    listed = str(tmp_path / "when.csv") if "when" in message or "line" in message else None
    with pytest.raises(DataError, match=message):
        Images(str(tmp_path / "own"), experience=listed).load(nowhere)


def test_a_class_to_test_on_that_is_not_trained_on(tmp_path, nowhere):
    folder(tmp_path / "train"), folder(tmp_path / "test")
    picture(tmp_path / "test/cow/0.png")
    with pytest.raises(DataError, match="test/cow is not one of the classes to train on: cat, dog"):
        Images(str(tmp_path)).load(nowhere)
    with pytest.raises(ValueError, match="size must be at least 1 pixel, got 0"):
        Images(str(tmp_path), size=0)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def deep(path) -> None:
    Image.fromarray(np.zeros((6, 5), np.uint16)).save(path)

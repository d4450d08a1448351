"""torchvision's formats, wherever they lie; and what is said where they do not."""

import gzip
import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets as readers

from perdure.streams.datasets.cifar import CIFAR10, CIFAR100
from perdure.streams.datasets.dataset import DataError
from perdure.streams.datasets.mnist import EMNIST, KMNIST, MNIST, FashionMNIST
from perdure.streams.datasets.omniglot import Omniglot
from perdure.streams.datasets.svhn import SVHN
from perdure.streams.storage.directories import DataNotFound, Places

from .. import tiny


def test_debian_fashion_mnist_is_read_whole():
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.fail("Debian's Fashion-MNIST is not on this machine: apt install dataset-fashion-mnist", pytrace=False)
    data = FashionMNIST().load(Places(download=False))
    assert data.train.x.shape == (60000, 1, 28, 28) and data.test.x.shape == (10000, 1, 28, 28)
    assert data.train.x.dtype == torch.uint8
    assert data.train.y.bincount().tolist() == [6000] * 10 and data.test.y.bincount().tolist() == [1000] * 10
    assert data.train.y[:5].tolist() == [9, 0, 0, 3, 0]  # an ankle boot comes first
    assert abs(data.train.x.float().mean().item() / 255 - 0.2860) < 1e-4  # the mean that everybody normalises with
    assert data.classes[9] == "Ankle boot"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("recipe", [MNIST(), FashionMNIST(), KMNIST()])
@pytest.mark.parametrize("where", ["torchvision", "name", "dashed", "bare"])
def test_idx_files_are_found_in_every_layout(recipe, where, packed, tmp_path, nowhere):
    folder = {"torchvision": recipe.home, "name": recipe.name, "dashed": recipe.name.replace("_", "-"), "bare": "."}
    made = tiny.mnist(tmp_path / "data" / folder[where], packed)
    data = recipe.load(replace(nowhere, folder=str(tmp_path / "data")))
    assert np.array_equal(data.train.x[:, 0], made["train"]) and np.array_equal(data.test.x[:, 0], made["test"])
    assert np.array_equal(data.train.y, tiny.LABELS["train"]) and data.train.y.dtype == torch.int64
    assert len(data.classes) == 10


@pytest.mark.parametrize("place", ["folder", "environment", "cache", "system"])
def test_every_place_is_looked_at_in_order(place, tmp_path, nowhere, monkeypatch):
    places = replace(nowhere, folder=str(tmp_path / "folder"), system=(str(tmp_path / "system"),))
    monkeypatch.setenv("PERDURE_DATA", str(tmp_path / "environment"))
    at = {n: tmp_path / n / "mnist" for n in ("folder", "environment", "system")} | {"cache": places.cache / "mnist"}
    order = ["folder", "environment", "cache", "system"]
    for name in order[order.index(place) :]:
        tiny.mnist(at[name])
        if name != place:  # what lies in a later place is not even read
            (at[name] / "train-images-idx3-ubyte").write_bytes(b"damaged")
    assert len(MNIST().load(places).train.y) == 20


def test_a_folder_named_after_a_data_set_is_not_taken_for_another(tmp_path, nowhere):
    tiny.mnist(tmp_path / "fashion-mnist", packed=True)
    places = replace(nowhere, folder=str(tmp_path / "fashion-mnist"))
    assert len(FashionMNIST().load(places).train.y) == 20
    with pytest.raises(DataNotFound, match="mnist was not found"):
        MNIST().load(places)


@pytest.mark.parametrize("split, classes, first", [("digits", 10, 0), ("letters", 26, 1), ("balanced", 47, 0)])
def test_emnist_is_upright_and_counts_from_zero(split, classes, first, tmp_path, nowhere, monkeypatch):
    labels = {"train": np.arange(classes).repeat(2), "test": np.arange(classes)}
    monkeypatch.setattr(tiny, "LABELS", labels)
    made = tiny.mnist(tmp_path / "EMNIST/raw", packed=True, stem=f"emnist-{split}-", test="test", first=first)
    data = EMNIST(split).load(replace(nowhere, folder=str(tmp_path)))
    assert np.array_equal(data.train.x[:, 0], made["train"].transpose(0, 2, 1))
    assert np.array_equal(data.train.y, labels["train"]) and len(data.classes) == classes
    assert split != "letters" or data.classes[0] == "a"


@pytest.mark.parametrize("recipe, reader, classes", [(CIFAR10(), "CIFAR10", 10), (CIFAR100(), "CIFAR100", 100)])
def test_cifar_batches(recipe, reader, classes, tmp_path, nowhere, monkeypatch):
    made = tiny.cifar(tmp_path, getattr(readers, reader), monkeypatch)
    data = recipe.load(replace(nowhere, folder=str(tmp_path)))
    assert np.array_equal(data.train.x, made["train"]) and np.array_equal(data.test.x, made["test"])
    assert data.classes == tuple(f"thing {k}" for k in range(classes))


def test_a_cifar_batch_that_is_not_the_original_is_never_unpickled(tmp_path, nowhere, monkeypatch):
    tiny.cifar(tmp_path, readers.CIFAR10, monkeypatch)
    trap = tmp_path / "sprung"
    payload = f"cos\nmkdir\n(V{trap}\ntR.".encode()
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(payload)
    with pytest.raises(DataError, match=r"cifar10 .* damaged .*fetch them anew"):
        CIFAR10().load(replace(nowhere, folder=str(tmp_path)))
    assert not trap.exists()


def test_svhn(tmp_path, nowhere, monkeypatch):
    made = tiny.svhn(tmp_path / "svhn", monkeypatch)
    data = SVHN().load(replace(nowhere, folder=str(tmp_path)))
    assert np.array_equal(data.train.x, made["train"])
    assert np.array_equal(data.train.y, tiny.LABELS["train"])  # the files say 10 where they mean 0


@pytest.mark.parametrize("where", ["omniglot-py", "omniglot", "."])
def test_omniglot_has_the_characters_of_both_parts(where, tmp_path, nowhere, monkeypatch):
    made = tiny.omniglot(tmp_path / where, monkeypatch)
    data = Omniglot(size=105).load(replace(nowhere, folder=str(tmp_path)))
    assert data.classes == tuple(f"{a}/character{c:02d}" for a in ("Elvish", "Greek") for c in (1, 2, 3))
    assert len(data.train.y) == 6 * 15 and data.test.x.shape == (6 * 5, 1, 105, 105)
    for part, people in ((data.train, range(1, 16)), (data.test, range(16, 21))):
        for n, (c, person) in enumerate((c, p) for c in range(6) for p in people):
            assert part.y[n] == c and np.array_equal(part.x[n, 0] == 255, made[data.classes[c], person])
    small = Omniglot().load(replace(nowhere, folder=str(tmp_path)))
    assert small.train.x.shape == (90, 1, 28, 28)
    assert abs(small.train.x.float().mean() - data.train.x.float().mean()) < 2


def test_an_omniglot_that_is_not_the_original_is_damaged(tmp_path, nowhere, monkeypatch):
    tiny.omniglot(tmp_path, monkeypatch)
    path = tmp_path / "images_evaluation.zip"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"omniglot .* damaged"):
        Omniglot().load(replace(nowhere, folder=str(tmp_path)))


def test_an_omniglot_that_was_downloaded_is_kept(mirror, tmp_path, nowhere, monkeypatch):
    tiny.omniglot(tmp_path / "mirror", monkeypatch)
    monkeypatch.setattr(readers.Omniglot, "download_url_prefix", mirror.rstrip("/"))
    places = replace(nowhere, download=True)
    assert len(Omniglot().load(places).classes) == 6
    assert sorted(p.name for p in (places.cache / "omniglot").iterdir()) == Omniglot().files()
    assert len(Omniglot().load(nowhere).classes) == 6  # without a network now


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"not gzip",
        lambda raw: raw[:40] + b"?" * 9 + raw[49:],
    ],
)
def test_damaged_files_are_named(damage, tmp_path, nowhere):
    tiny.mnist(tmp_path / "mnist", packed=True)
    path = tmp_path / "mnist/train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"the files of mnist in {tmp_path}/mnist are damaged"):
        MNIST().load(replace(nowhere, folder=str(tmp_path)))


def test_a_short_idx_file_is_damaged(tmp_path, nowhere):
    tiny.mnist(tmp_path / "mnist")
    path = tmp_path / "mnist/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        MNIST().load(replace(nowhere, folder=str(tmp_path)))


def test_not_found_names_every_place_and_each_remedy(tmp_path, nowhere, monkeypatch):
    monkeypatch.setenv("PERDURE_DATA", str(tmp_path / "environment"))
    tiny.mnist(tmp_path / "environment/fashion_mnist")
    (tmp_path / "environment/fashion_mnist/t10k-labels-idx1-ubyte").unlink()
    (tmp_path / "data").mkdir()
    with pytest.raises(DataNotFound) as caught:
        FashionMNIST().load(replace(nowhere, folder=str(tmp_path / "data")))
    assert str(caught.value).splitlines() == [
        "fashion_mnist was not found. Looked at:",
        f"  --data: {tmp_path}/data: not there",
        f"  $PERDURE_DATA: {tmp_path}/environment: incomplete, "
        f"{tmp_path}/environment/fashion_mnist/t10k-labels-idx1-ubyte is missing",
        f"  per-user cache: {tmp_path}/cache/perdure/datasets: no such folder",
        f"  system folder: {tmp_path}/system: no such folder",
        "  download: switched off",
        "What helps, any one of:",
        "  - put the files into a folder and name it with --data DIR or PERDURE_DATA=DIR "
        "(train-images-idx3-ubyte and 3 more, gzipped or not)",
        "  - apt install dataset-fashion-mnist",
        f"  - run once where there is a network: they are kept in {tmp_path}/cache/perdure/datasets",
    ]


def test_no_network_fails_at_once_and_says_so(nowhere, monkeypatch):
    monkeypatch.setattr(readers.KMNIST, "mirrors", ["http://127.0.0.1:9/"])  # the discard port: nobody listens
    with pytest.raises(DataNotFound, match=r"download: no network \(.*refused"):
        KMNIST().load(replace(nowhere, download=True))


@pytest.fixture
def mirror(tmp_path):
    """A server of what lies in tmp_path/mirror, on loopback."""
    handler = type("Silent", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    (tmp_path / "mirror").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=tmp_path / "mirror")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_download_is_kept_in_the_cache(mirror, tmp_path, nowhere, monkeypatch):
    made = tiny.mnist(tmp_path / "mirror", packed=True)
    checks = [(p.name, hashlib.md5(p.read_bytes()).hexdigest()) for p in sorted((tmp_path / "mirror").iterdir())]
    monkeypatch.setattr(readers.MNIST, "mirrors", [mirror])
    monkeypatch.setattr(readers.MNIST, "resources", checks)
    places = replace(nowhere, download=True)
    assert np.array_equal(MNIST().load(places).train.x[:, 0], made["train"])
    assert sorted(p.name for p in (places.cache / "mnist").iterdir()) == sorted(MNIST().files())
    assert [p.name for p in places.cache.iterdir()] == ["mnist"]  # nothing half-done is left
    assert len(MNIST().load(nowhere).train.y) == 20  # without a network now


def test_a_download_that_breaks_leaves_nothing(mirror, tmp_path, nowhere, monkeypatch):
    tiny.mnist(tmp_path / "mirror", packed=True)
    monkeypatch.setattr(readers.MNIST, "mirrors", [mirror])  # with the checksums of the true files
    places = replace(nowhere, download=True)
    with pytest.raises(DataNotFound, match="download: failed, Error downloading train-images"):
        MNIST().load(places)
    assert not list((places.cache / "mnist").iterdir())


def test_a_full_disk_is_not_called_damage(tmp_path, nowhere, monkeypatch):
    tiny.mnist(tmp_path / "mnist", packed=True)
    monkeypatch.setattr(gzip, "open", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        MNIST().load(replace(nowhere, folder=str(tmp_path)))

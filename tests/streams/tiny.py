"""Real file formats, a few samples each: what the readers meet, without what it weighs."""

import gzip
import hashlib
import io
import pickle
import struct
import zipfile
from itertools import product
from pathlib import Path

import numpy as np

LABELS = {"train": np.arange(20) % 10, "test": np.arange(10)}
CIFAR100_NAMES = [f"thing {k}" for k in range(100)]


def pictures(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def mnist(
    folder: Path, packed: bool = False, stem: str = "", test: str = "t10k", first: int = 0
) -> dict[str, np.ndarray]:
    """Four IDX files; returns the images."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for part, name in (("train", "train"), ("test", test)):
        made[part] = pictures((len(LABELS[part]), 28, 28), seed=len(part))
        for kind, array in (("images-idx3-ubyte", made[part]), ("labels-idx1-ubyte", LABELS[part] + first)):
            path, data = folder / f"{stem}{name}-{kind}", idx(array)
            path.with_name(path.name + ".gz" * packed).write_bytes(gzip.compress(data, 1) if packed else data)
    return made


def cifar(root: Path, reader, monkeypatch) -> dict[str, np.ndarray]:
    """Python batches as torchvision's `reader` expects them, with the checksums it is made to expect."""
    folder, made = root / reader.base_folder, {"train": [], "test": []}
    folder.mkdir(parents=True)
    fine = reader.base_folder == "cifar-100-python"

    def write(name: str, content: dict) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    for part, files in (("train", reader.train_list), ("test", reader.test_list)):
        listed = []
        for n, (name, _) in enumerate(files):
            labels = list(range(100 if fine else 10))
            data = pictures((len(labels), 3072), seed=n)
            made[part].append(data.reshape(-1, 3, 32, 32))
            listed.append([name, write(name, {"data": data, "fine_labels" if fine else "labels": labels})])
        monkeypatch.setattr(reader, f"{part}_list", listed)
    names = {reader.meta["key"]: CIFAR100_NAMES if fine else [f"thing {k}" for k in range(10)]}
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": write(reader.meta["filename"], names)})
    return {part: np.concatenate(arrays) for part, arrays in made.items()}


def svhn(folder: Path, monkeypatch) -> dict[str, np.ndarray]:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    folder.mkdir(parents=True, exist_ok=True)
    made, listed = {}, dict(SVHN.split_list)
    for part, labels in LABELS.items():
        made[part] = pictures((len(labels), 3, 32, 32))
        path = folder / f"{part}_32x32.mat"
        savemat(path, {"X": made[part].transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        listed[part] = [listed[part][0], path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", listed)
    return made


def omniglot(folder: Path, monkeypatch, characters: int = 3, people: int = 20) -> dict[str, np.ndarray]:
    """Two archives of drawings, 105 x 105 with one bit a pixel; returns them by name."""
    from PIL import Image
    from torchvision.datasets import Omniglot

    folder.mkdir(parents=True, exist_ok=True)
    made, sums = {}, {}
    for part, alphabet in (("images_background", "Greek"), ("images_evaluation", "Elvish")):
        path = folder / f"{part}.zip"
        with zipfile.ZipFile(path, "w") as packed:
            for character, person in product(range(1, characters + 1), range(people, 0, -1)):
                inked = pictures((105, 105), seed=len(made)) > 200
                made[f"{alphabet}/character{character:02d}", person] = inked
                Image.fromarray(~inked).save(image := io.BytesIO(), "png")
                name = f"{part}/{alphabet}/character{character:02d}/{len(made):04d}_{person:02d}.png"
                packed.writestr(name, image.getvalue())
        sums[part] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(Omniglot, "zips_md5", sums)
    return made

"""Handwritten characters of 50 alphabets (Lake et al. 2015)."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch

from .dataset import Dataset, Part
from .vision import Vision

TAUGHT = 15  # of the 20 people who drew every character; the others' drawings are for tests


@dataclass(frozen=True)
class Omniglot(Vision):
    """32,460 drawings of 1,623 characters by 20 people each, as grey images with bright strokes (Lake et al. 2015,
    doi:10.1126/science.aab3050).

    Characters of both of its parts, background and evaluation, are classes, as few-shot learning has them since
    Vinyals et al. 2016 (arXiv:1606.04080); training samples are those of the first 15 people. size: pixels on a side,
    of 105.
    """

    size: int = 28
    name, home = "omniglot", "omniglot-py"

    def __post_init__(self):
        if not 1 <= self.size <= 105:
            raise ValueError(f"size must be in [1, 105], got {self.size}")

    def files(self):
        return ["images_background.zip", "images_evaluation.zip"]

    def read(self, root, train, download=False):
        from torchvision.datasets import Omniglot as Reader
        from torchvision.datasets.utils import check_integrity

        part = "images_background" if train else "images_evaluation"
        archive = Path(root) / self.home / f"{part}.zip"
        if check_integrity(archive, Reader.zips_md5[part]):  # or else the reader says what it lacks
            with ZipFile(archive) as packed:
                packed.extractall(archive.parent)
        return Reader(root, background=train, download=download)

    def urls(self):
        from torchvision.datasets import Omniglot as Reader

        return [f"{Reader.download_url_prefix}/{file}" for file in self.files()]

    def dataset(self, first, second):
        drawings = sorted(  # folders are listed in whatever order the disk has them
            (reader._characters[c], int(name.removesuffix(".png").split("_")[1]), part, n)
            for part, reader in enumerate((first, second))
            for n, (name, c) in enumerate(reader._flat_character_images)
        )
        classes = sorted({character for character, *_ in drawings})
        number = {character: c for c, character in enumerate(classes)}
        x = torch.from_numpy(np.stack([self._pixels((first, second)[part][n][0]) for *_, part, n in drawings]))
        y = torch.tensor([number[character] for character, *_ in drawings])
        person = torch.tensor([person for _, person, *_ in drawings])
        taught = person <= TAUGHT
        return Dataset(Part(x[taught], y[taught]), Part(x[~taught], y[~taught]), tuple(classes))

    def _pixels(self, image) -> np.ndarray:
        from PIL import Image

        return 255 - np.asarray(image.resize((self.size, self.size), Image.Resampling.LANCZOS))[None]

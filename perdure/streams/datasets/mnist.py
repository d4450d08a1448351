"""Handwritten digits, clothes, characters and letters in the format of MNIST."""

from dataclasses import dataclass
from typing import Literal

from .vision import Vision


@dataclass(frozen=True)
class MNIST(Vision):
    """70,000 handwritten digits, 28 x 28 grey (LeCun et al. 1998, doi:10.1109/5.726791)."""

    name, home, reader = "mnist", "MNIST/raw", "MNIST"
    twins = ("fashion_mnist", "kmnist")

    def files(self):
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        return [f"{split}-{kind}" for split in ("train", "t10k") for kind in kinds]

    def read(self, root, train, download=False):
        from torchvision import datasets

        return getattr(datasets, self.reader)(root, train, download=download)

    def urls(self):
        from torchvision import datasets

        reader = getattr(datasets, self.reader)
        return [mirror + reader.resources[0][0] for mirror in reader.mirrors]


@dataclass(frozen=True)
class FashionMNIST(MNIST):
    """70,000 pictures of clothes in 10 classes, 28 x 28 grey (Xiao et al. 2017, arXiv:1708.07747)."""

    name, home, reader, package = "fashion_mnist", "FashionMNIST/raw", "FashionMNIST", "dataset-fashion-mnist"
    twins = ("mnist", "kmnist")


@dataclass(frozen=True)
class KMNIST(MNIST):
    """70,000 cursive Japanese characters in 10 classes, 28 x 28 grey (Clanuwat et al. 2018, arXiv:1812.01718)."""

    name, home, reader = "kmnist", "KMNIST/raw", "KMNIST"
    twins = ("mnist", "fashion_mnist")


@dataclass(frozen=True)
class EMNIST(Vision):
    """Handwritten letters and digits, 28 x 28 grey, upright (Cohen et al. 2017, arXiv:1702.05373)."""

    split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = "balanced"
    name, home = "emnist", "EMNIST/raw"

    def files(self):
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        return [f"emnist-{self.split}-{part}-{kind}" for part in ("train", "test") for kind in kinds]

    def read(self, root, train, download=False):
        from torchvision.datasets import EMNIST as Reader

        return Reader(root, self.split, train=train, download=download)

    def urls(self):
        from torchvision.datasets import EMNIST as Reader

        return [Reader.url]

    def part(self, read):
        x, y, classes = super().part(read)
        if self.split == "letters":  # the files count letters from 1
            y, classes = y - 1, classes[1:]
        return x.transpose(2, 3), y, classes  # the files hold columns where MNIST's hold rows

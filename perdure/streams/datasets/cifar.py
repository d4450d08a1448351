"""Small colour photographs of 10 and of 100 classes of things (Krizhevsky 2009)."""

from dataclasses import dataclass

import torch

from .vision import Vision


@dataclass(frozen=True)
class CIFAR10(Vision):
    """60,000 photographs in 10 classes, 32 x 32 colour (Krizhevsky 2009)."""

    name, home, reader = "cifar10", "cifar-10-batches-py", "CIFAR10"

    def files(self):
        from torchvision import datasets

        reader = getattr(datasets, self.reader)
        return [name for name, _ in reader.train_list + reader.test_list] + [reader.meta["filename"]]

    def read(self, root, train, download=False):
        from torchvision import datasets

        return getattr(datasets, self.reader)(root, train, download=download)

    def urls(self):
        from torchvision import datasets

        return [getattr(datasets, self.reader).url]

    def part(self, read):
        return torch.from_numpy(read.data).permute(0, 3, 1, 2), torch.tensor(read.targets), read.classes


@dataclass(frozen=True)
class CIFAR100(CIFAR10):
    """60,000 photographs in 100 classes, 32 x 32 colour (Krizhevsky 2009)."""

    name, home, reader = "cifar100", "cifar-100-python", "CIFAR100"

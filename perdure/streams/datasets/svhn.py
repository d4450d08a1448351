"""House-number digits from street photographs (Netzer et al. 2011)."""

from dataclasses import dataclass

import torch

from .vision import Vision


@dataclass(frozen=True)
class SVHN(Vision):
    """99,289 house-number digits from photographs, 32 x 32 colour (Netzer et al. 2011)."""

    name, home = "svhn", "."

    def files(self):
        return ["train_32x32.mat", "test_32x32.mat"]

    def read(self, root, train, download=False):
        from torchvision.datasets import SVHN as Reader

        return Reader(root, "train" if train else "test", download=download)

    def urls(self):
        from torchvision.datasets import SVHN as Reader

        return [Reader.split_list["train"][0]]

    def part(self, read):
        return torch.from_numpy(read.data), torch.from_numpy(read.labels), tuple(map(str, range(10)))

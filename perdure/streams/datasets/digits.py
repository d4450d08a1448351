"""Handwritten digits that scikit-learn brings along (Alpaydin & Kaynak 1998): needs no file and no network."""

from dataclasses import dataclass

import torch

from .dataset import Dataset, Part, Source, stratified

TEST_SHARE, SEED = 0.25, 0  # part of the data set: everybody gets the same split


@dataclass(frozen=True)
class Digits(Source):
    """1,797 handwritten digits of 8 x 8 pixels, a quarter to test on (Alpaydin & Kaynak 1998, UCI)."""

    def load(self, places) -> Dataset:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)  # from [0, 16]
        y = torch.from_numpy(labels).long()
        train, test = (Part(x[rows], y[rows]) for rows in stratified(y, TEST_SHARE, SEED))
        return Dataset(train, test, tuple(map(str, range(10))))

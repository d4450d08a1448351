"""A small convolutional network that knows its digits, and test samples of them."""

import pytest
import torch
import torch.nn.functional as F

from perdure.notation import read
from perdure.strategies.names import model
from perdure.streams.experience import pixels
from perdure.streams.names import DATASETS
from perdure.streams.storage.directories import Places


@pytest.fixture(scope="session")
def digits():
    """Training and test samples (x, y), x (N, 1, 8, 8) in [0, 1]."""
    dataset = read("digits", DATASETS).load(Places())
    return [(pixels(part.x), part.y) for part in (dataset.train, dataset.test)]


@pytest.fixture(scope="session")
def net(digits):
    return trained(digits[0], seed=0)


def trained(data, seed, text="convnet(16, hidden=32)", epochs=8):
    x, y = data
    torch.manual_seed(seed)
    one = model(text).build(tuple(x.shape[1:]), 10)
    optimizer = torch.optim.Adam(one.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(one(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return one.eval()

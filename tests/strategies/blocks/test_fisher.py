"""Exact per-sample Fisher, held to the slow loop: one sample, one backward pass."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.blocks.fisher import diagonal_fisher, square_scores
from perdure.strategies.learner import Learner
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import SGD
from perdure.streams.experience import Samples


class Shared(nn.Module):
    """One layer used twice: its gradients add up before they are squared."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.first(x.flatten(1)).tanh()
        return self.last(self.twice(self.twice(x).tanh()).tanh())


class Rows(nn.Module):
    """A linear layer over the rows of an image, (B, H, W) to (B, H, 5)."""

    def __init__(self):
        super().__init__()
        self.rows, self.last = nn.Linear(6, 5), nn.Linear(30, 4)

    def forward(self, x):
        return self.last(self.rows(x[:, 0]).tanh().flatten(1))


def conv(*args, **kwargs):
    return nn.Conv2d(1, 3, *args, **kwargs)


def behind(layer):
    with torch.no_grad():
        wide = layer(torch.zeros(1, 1, 6, 6)).numel()
    return nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(wide, 4))


MODELS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 4, bias=False)),
    "conv": lambda: behind(conv(3, padding=1)),
    "conv strided": lambda: behind(conv((2, 3), stride=2, bias=False)),
    "conv dilated": lambda: behind(conv(2, dilation=2, padding="same")),
    "conv reflected": lambda: behind(conv(3, padding=1, padding_mode="reflect")),
    "norm": lambda: nn.Sequential(conv(3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 4)),
    "shared": Shared,
    "rows": Rows,
}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_sum_of_every_samples_squared_gradient(name):
    torch.manual_seed(0)
    heads = torch.tensor([[True, True, False, True]])
    one = Learner(MODELS[name]().double().eval(), SGD(), Rng(0), heads)
    x, y, task = torch.rand(10, 1, 6, 6, dtype=torch.double), torch.arange(10) % 2, torch.zeros(10, dtype=torch.int64)
    fast = square_scores(one, x, task, lambda outputs: F.cross_entropy(one.masked(outputs, task), y, reduction="none"))
    slow = {k: torch.zeros_like(p) for k, p in one.params.items()}
    for i in range(10):
        one.model.zero_grad()
        F.cross_entropy(one.logits(x[i : i + 1], task[i : i + 1]), y[i : i + 1]).backward()
        for k, p in one.params.items():
            slow[k] += p.grad.square()
    assert fast.keys() == slow.keys()
    for k in slow:
        torch.testing.assert_close(fast[k], slow[k])
        assert slow[k].abs().sum() > 0


def test_labels_are_drawn_from_the_model():
    """For softmax(b) the Fisher of b_c is p_c (1 - p_c), whatever the labels in the data are."""
    layer = nn.Linear(1, 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    n = 20_000
    samples = Samples(torch.rand(n, 1), torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.int64))
    fisher = diagonal_fisher(Learner(layer, SGD(), Rng(0)), samples, Rng(0)["fisher"])
    p = layer.bias.detach().softmax(0)
    torch.testing.assert_close(fisher["bias"], p * (1 - p), atol=0.005, rtol=0)


def test_the_empirical_fisher_takes_the_labels_of_the_data():
    torch.manual_seed(0)
    one = Learner(nn.Linear(3, 4), SGD(), Rng(0))
    x, y = torch.rand(7, 3), torch.arange(7) % 4
    fisher = diagonal_fisher(one, Samples(x, y, torch.zeros_like(y)), Rng(0)["fisher"], labels="data")
    errors = one.model(x).softmax(1) - F.one_hot(y, 4)  # of a linear layer the gradient is error times input
    torch.testing.assert_close(fisher["weight"], (errors[:, :, None] * x[:, None]).square().mean(0).detach())


def test_a_model_in_training_goes_on_training():
    one = Learner(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train(), SGD(), Rng(0))
    samples = Samples(torch.rand(4, 2), torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    diagonal_fisher(one, samples, Rng(0)["fisher"])
    assert one.model.training and one.model[1].training

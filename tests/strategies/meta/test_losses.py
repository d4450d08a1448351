"""Answers that would be broadcast against the outputs are refused, wherever a loss is taken."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.meta.base import TaskLoss, task_loss, weights_of
from perdure.strategies.meta.loop import judge
from perdure.strategies.meta.losses import Loss
from perdure.strategies.meta.maml import MAML, Reptile
from perdure.strategies.meta.names import loss as loss_of
from perdure.strategies.numerics.rng import Rng
from perdure.streams.episodes import Episodes, Sinusoid
from perdure.streams.storage.directories import Places


@dataclass(frozen=True)
class Own(Loss):
    def __call__(self, outputs, y):
        return (outputs - y).square().mean()


@dataclass(frozen=True)
class Quantiles(Own):
    of_classes = None


LOSSES = {text: loss_of(text) for text in ("squared_error", "absolute_error", "huber(0.5)")}
LOSSES |= {"one's own": Own(), "a function": lambda outputs, y: (outputs - y).abs().mean()}


def flat():
    """Tasks whose answers lack the outputs' last dimension."""
    drawn = Sinusoid(5, 7).tasks(Places()).draw(3, torch.Generator().manual_seed(0))
    return drawn, Episodes(drawn.support_x, drawn.support_y[..., 0], drawn.query_x, drawn.query_y[..., 0])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("layers", ["a chain of linear layers", "others"])
def test_values_of_another_shape(name, layers):
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh() if layers.startswith("a chain") else nn.Softmax(-1), nn.Linear(4, 1))
    loss, (right, wrong) = task_loss(net, LOSSES[name]), flat()
    learned, why = {"weights": weights_of(net)}, r"got y \((5|7|12),\) beside outputs \((5|7|12), 1\)"
    for way in (loss, replace(loss, batched=None), replace(loss, together=False)):
        for learner in (MAML(0.1), Reptile(0.1, 2)):
            assert learner.gradient(way, learned, right).finite.all()
            with pytest.raises(ValueError, match=why):
                learner.gradient(way, learned, wrong)
        with pytest.raises(ValueError, match=why):
            judge(MAML(0.1), way, learned, wrong, [0], Rng(0))
    with pytest.raises(ValueError, match=why):
        TaskLoss(lambda weights, x: x, LOSSES[name])({}, right.support_x[0], wrong.support_y[0])


@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "huber(0.5)"])
def test_a_loss_by_itself(name):
    with pytest.raises(ValueError, match=r"values of the shape of the outputs, got y \(6,\) beside outputs \(6, 1\)"):
        LOSSES[name](torch.zeros(6, 1), torch.zeros(6))
    with pytest.raises(ValueError, match=r"got y \(6, 1\) beside outputs \(6,\)"):
        LOSSES[name](torch.zeros(6), torch.zeros(6, 1))


@pytest.mark.parametrize(
    "y", [torch.zeros(6, 1).long(), torch.zeros(5).long(), torch.zeros(6), torch.zeros(6, 3).long()]
)
def test_classes_of_another_shape(y):
    for of in (loss_of("cross_entropy"), task_loss(nn.Linear(1, 3), F.cross_entropy, 3).of):
        with pytest.raises(ValueError, match="beside outputs \\(6, 3\\)"):
            of(torch.zeros(6, 3), y)


def test_what_is_right_is_taken():
    outputs, y = torch.randn(6, 3), torch.randint(3, (6,))
    plain = F.cross_entropy(outputs, y)
    for of in (loss_of("cross_entropy"), task_loss(nn.Linear(1, 3), F.cross_entropy).of):
        assert torch.equal(of(outputs, y), plain)
    soft = F.one_hot(y, 3).float()
    torch.testing.assert_close(loss_of("cross_entropy")(outputs, soft), plain)
    wide = TaskLoss(lambda weights, x: x, Quantiles())  # looks at shapes itself
    assert wide({}, torch.ones(6, 3), torch.zeros(6, 1)) == 1

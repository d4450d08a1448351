"""La-MAML in the loop against algorithm 1 of its paper written down plainly."""

import pytest
import torch
import torch.nn.functional as F

from perdure.strategies.base import Naive
from perdure.strategies.blocks.memory import drawn
from perdure.strategies.methods.la_maml import LaMAML
from perdure.strategies.names import strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.strategies.training.plan import Milestone, Plan
from perdure.testing.streams import blobs

from ..learners import around, batch_of, learner


def clipped(g, most):
    return g if g.norm() <= most else g * most / g.norm()


def plainly(weights, rates, x, y, past, inner, rate, clip):
    """One step of algorithm 1 for logits x W^T, all gradients written by autograd: weights and rates after it."""
    ahead, summed = weights.clone(), torch.zeros_like(weights)
    for xs, ys in zip(x.tensor_split(inner), y.tensor_split(inner), strict=True):
        at = ahead.clone().requires_grad_()
        g = clipped(*torch.autograd.grad(F.cross_entropy(xs @ at.T, ys), at), clip)
        ahead, summed = ahead - rates * g, summed + g
    at = ahead.clone().requires_grad_()
    loss = F.cross_entropy(torch.cat([x, past.x]) @ at.T, torch.cat([y, past.y]))
    g = clipped(*torch.autograd.grad(loss, at), clip)
    rates = rates - rate * (-(g * summed))
    return weights - rates.clamp(min=0) * g, rates


@pytest.mark.parametrize(("rate", "clip"), [(3.0, 100.0), (20.0, 0.5)])
def test_a_step_is_that_of_the_papers_algorithm(rate, clip):
    stream = blobs(tasks=2, protocol="class", dim=5)
    layer = torch.nn.Linear(5, stream.classes.shape[1], bias=False)
    one, method = around(layer, optimizer=SGD(1.0)), LaMAML(20, 0.2, rate, inner=4, replay=9, clip=clip)
    state = method.consolidate(one, stream[0], method.init(one))
    weights, rates = layer.weight.detach().clone(), torch.full_like(layer.weight, 0.2)
    optimizer = one.optimizer(layer.parameters())
    for step in range(6):
        one.rng = Rng(step)
        batch = batch_of(stream[1])
        past, _ = drawn(state, 9, Rng(step)["la_maml"])
        weights, rates = plainly(weights, rates, batch.x, batch.y, past, 4, rate, clip)
        joined = method.augment(one, batch, state)
        one.loss(one.outputs(joined.x, joined.task), joined).backward()
        for name, g in method.steer(one, {"weight": layer.weight.grad}, state).items():
            one.params[name].grad = g
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(layer.weight.detach(), weights, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer.get_buffer("la_maml_weight"), rates, atol=1e-5, rtol=1e-5)
    told = method.describe(one, state)
    assert told["rate/mean"] == pytest.approx(rates.mean().item(), abs=1e-5)
    assert told["rate/resting"] == (rates <= 0).double().mean().item()


def test_it_keeps_what_naive_forgets():
    def end(strategy):
        stream = blobs(tasks=3, protocol="class")
        one = learner(stream)
        one.optimizer = SGD(0.1 if isinstance(strategy, Naive) else 1.0)
        *_, last = (s for s in learn(stream, one, strategy, Plan(5, 10)) if isinstance(s, Milestone))
        return last.accuracy

    assert min(end(LaMAML(60))[:2]) > 0.9 > 0.1 > max(end(Naive())[:2])


def test_what_it_cannot_be_is_refused():
    with pytest.raises(ValueError, match="lr and clip > 0"):
        LaMAML(10, lr=0.0)
    with pytest.raises(ValueError, match="inner and replay"):
        LaMAML(10, inner=0)
    stream = blobs(tasks=2)
    one = learner(stream)
    one.optimizer = Adam(0.01)
    with pytest.raises(ValueError, match=r"use sgd\(1\)"):
        LaMAML(10).init(one)


class Alike(torch.nn.Module):
    """Two weights whose names differ in a dot alone."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(5, 4, bias=False)
        self.head_weight = torch.nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return self.head(x) + self.head_weight


@pytest.mark.parametrize("text", ["la_maml(20)", "si"])
def test_weights_whose_names_differ_in_a_dot_alone_have_buffers_of_their_own(text):
    stream = blobs(tasks=2, protocol="class", dim=5)
    torch.manual_seed(0)
    one = around(Alike(), optimizer=SGD(1.0 if "maml" in text else 0.1))
    stones = list(learn(stream, one, strategy(text), Plan(steps=3)))
    assert len(stones) == 2
    shapes = sorted(tuple(b.shape) for b in one.model.buffers())
    assert shapes.count((4, 5)) == shapes.count((4,)) == len(shapes) / 2

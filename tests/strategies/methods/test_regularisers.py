"""Pulls on weights and on answers: each against the plain form of its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.methods.ewc import EWC
from perdure.strategies.methods.functional_regularization import Functional, curvature
from perdure.strategies.methods.lwf import Distillation
from perdure.strategies.methods.mas import MAS
from perdure.strategies.methods.si import SynapticIntelligence
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Samples
from perdure.testing.streams import blobs

from ..learners import around, batch_of, experience, learner, moved


def pull(strategy, one, state):
    """What is added to the gradients."""
    closed = strategy.steer(one, {k: torch.ones_like(p) for k, p in one.params.items()}, state)
    return {k: g - 1 for k, g in closed.items()}


def test_ewc_steers_along_the_gradient_of_one_penalty_per_experience():
    stream = blobs(tasks=3)
    one, ewc, state, past = learner(stream), EWC(3.0), {}, []
    for whole in stream:
        moved(one)
        one.rng, before = Rng(whole.index), state
        state = ewc.consolidate(one, whole, state)
        fisher = {k: f - (before["importance"][k] if before else 0) for k, f in state["importance"].items()}
        past.append((fisher, one.snapshot()))
    moved(one)
    value = sum((f[k] * (p - w[k]).square()).sum() for f, w in past for k, p in one.params.items()) * 3.0 / 2
    plain = dict(zip(one.params, torch.autograd.grad(value, list(one.params.values())), strict=True))
    closed = pull(ewc, one, state)
    for k in plain:
        torch.testing.assert_close(closed[k], plain[k], atol=1e-5, rtol=1e-3)


def test_online_ewc_lets_the_older_fade():
    stream = blobs(tasks=2)
    one, online = learner(stream), EWC(1.0, labels="data", decay=0.25)
    first = online.consolidate(one, stream[0], {})
    moved(one)
    second, both = online.consolidate(one, stream[1], {}), online.consolidate(one, stream[1], first)
    for k, f in second["importance"].items():
        torch.testing.assert_close(both["importance"][k], 0.25 * first["importance"][k] + f)
    moved(one)
    plain = {
        k: sum(c * s["importance"][k] * (p - s["anchor"][k]) for c, s in ((0.25, first), (1.0, second)))
        for k, p in one.params.items()
    }
    for k, got in pull(online, one, both).items():
        torch.testing.assert_close(got, plain[k].detach(), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("protocol", ["task", "class", "domain"])
def test_distillation_is_the_divergence_on_the_heads_of_before(protocol):
    stream = blobs(tasks=3, protocol=protocol)
    one, lwf = learner(stream), Distillation(strength=0.7, temperature=3.0)
    one.protocol, state = protocol, {}
    for i in range(2):
        one.heads = stream.heads(i)
        state = lwf.consolidate(one, stream[i], state)
    old = one.model(x := torch.rand(9, 16)).detach()
    moved(one)
    new = one.model(x)
    weight = torch.rand(9)
    batch = stream[2].train.batch(torch.arange(9))._replace(x=x, weight=weight)
    heads = {"task": [[0, 1], [2, 3]], "class": [[0, 1, 2, 3]], "domain": [[0, 1]]}[protocol]
    each = torch.stack(
        [F.kl_div((new[:, h] / 3).log_softmax(1), (old[:, h] / 3).softmax(1), reduction="none").sum(1) for h in heads]
    ).sum(0)
    plain = 0.7 * 9 * (weight * each).sum() / weight.sum()
    torch.testing.assert_close(lwf.penalty(one, batch, new, state), plain)


X = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))


def linear(n=50):
    """A linear model and some of its inputs."""
    torch.manual_seed(0)
    return around(nn.Linear(3, 4)), Samples(X[:n], torch.arange(n) % 4, torch.zeros(n, dtype=torch.int64))


def second_derivative(distance, one, name, at, step=1e-3):
    """Of distance(outputs, outputs now) by one weight, which moves alone; double precision."""
    model, x = one.model.double(), X.double()
    with torch.no_grad():
        now, values = model(x), []
        weight = dict(model.named_parameters())[name]
        for shift in (-step, 0.0, step):
            weight[at] += shift
            values.append(distance(model(x), now))
            weight[at] -= shift
    model.float()
    return (values[0] - 2 * values[1] + values[2]) / step**2


def squared(new, old):
    return (new - old).square().sum(1).mean()


def discrepancy(new, old):
    """Squared maximum mean discrepancy with a Gaussian kernel, all pairs."""
    width = (2 * old.var(0).sum()).sqrt()

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / (2 * width**2)).mean()

    return kernel(new, new) - 2 * kernel(new, old) + kernel(old, old)


@pytest.mark.parametrize(("name", "at"), [("weight", (0, 0)), ("weight", (3, 2)), ("bias", (1,))])
def test_the_pull_of_other_distances_is_their_curvature_on_a_linear_model(name, at):
    one, some = linear()
    plain = second_derivative(squared, one, name, at)
    closed = 2 * (X[:, at[1]] if len(at) > 1 else torch.ones(50)).square().mean()
    got = curvature(one, some, "wasserstein", 1, Rng(0)["a"])[name][at]
    torch.testing.assert_close(got.double(), plain, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got, closed)

    got = curvature(one, some, "mmd", 3000, Rng(0)["c"])[name][at]
    torch.testing.assert_close(got.double(), second_derivative(discrepancy, one, name, at), rtol=0.1, atol=1e-5)


def test_the_pull_of_kl_is_ewcs():
    """But for its labels, which kl weighs by their probabilities, and EWC draws."""
    one, some = linear()
    stream = experience(some.x, some.y)
    kl, drawn = curvature(one, some, "kl", 64, Rng(0)["x"]), []
    for n in range(300):
        one.rng = Rng(n)
        drawn.append(EWC(1.0).consolidate(one, stream, {})["importance"])
    p = one.model(X).softmax(1).detach()
    torch.testing.assert_close(kl["bias"], (p * (1 - p)).mean(0))
    for k, v in kl.items():
        torch.testing.assert_close(torch.stack([each[k] for each in drawn]).mean(0), v, atol=0.01, rtol=0.05)


@pytest.mark.parametrize("distance", ["kl", "wasserstein", "sliced_cramer", "mmd"])
def test_every_distance_keeps_the_answers_on_the_past_nearer(distance):
    stream, moves = blobs(tasks=2, protocol="domain", dim=64), {}
    x = batch_of(stream[0]).x
    for strength in (0.0, 1e4):
        one, answers = learner(stream), []
        one.optimizer = Adam(0.01)
        for _ in learn(stream, one, Functional(strength, distance), Plan(epochs=2, batch_size=20)):
            answers.append(one.model(x).detach())
        moves[strength] = (answers[1] - answers[0]).square().mean().item()
    assert moves[1e4] < 0.1 * moves[0.0]


def test_si_is_the_path_integral_of_a_plain_loop():
    stream, si, plan = blobs(tasks=2), SynapticIntelligence(0.7, damping=0.2), Plan(epochs=2, batch_size=30)
    one, plain = learner(stream), learner(stream)
    weights, anchor = {k: torch.zeros_like(p) for k, p in plain.params.items()}, {}
    told = list(learn(stream, one, si, plan))
    for i, whole in enumerate(stream):
        start, path = plain.snapshot(), {k: torch.zeros_like(p) for k, p in plain.params.items()}
        plain.heads = stream.heads(i)
        for epoch in range(2):
            order = torch.randperm(len(whole), generator=Rng(0).fold(i, "epoch", epoch)["order"])
            for index in order.split(30):
                batch = whole.train.batch(index)
                loss = plain.loss(plain.outputs(batch.x, batch.task), batch)
                slopes = dict(zip(plain.params, torch.autograd.grad(loss, list(plain.params.values())), strict=True))
                with torch.no_grad():
                    for k, p in plain.params.items():
                        step = slopes[k] + (2 * 0.7 * weights[k] * (p - anchor[k]) if anchor else 0)
                        path[k] += slopes[k] * 0.1 * step  # minus the gradient times the movement -0.1 * step
                        p -= 0.1 * step
        for k, p in plain.params.items():
            weights[k] += (path[k] / ((p - start[k]).square() + 0.2)).clamp(min=0).detach()
        anchor = {k: p.detach().clone() for k, p in plain.params.items()}
    for k, w in told[-1].checkpoint["strategy"]["importance"].items():
        assert w.sum() > 0
        torch.testing.assert_close(w, weights[k], atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(one.params[k], plain.params[k], atol=1e-5, rtol=1e-3)


def test_mas_is_the_mean_absolute_slope_of_the_answers_length():
    stream = blobs(tasks=2)
    one, mas = learner(stream), MAS(0.5)
    state, plain = {}, {k: torch.zeros_like(p) for k, p in one.params.items()}
    for whole in stream:
        moved(one)
        state = mas.consolidate(one, whole, state)
        x = batch_of(whole).x
        for row in x:
            length = one.model(row[None]).square().sum()
            for k, g in zip(plain, torch.autograd.grad(length, list(one.params.values())), strict=True):
                plain[k] += g.abs() / len(x)
    anchor = one.snapshot()
    moved(one)
    for k, got in pull(mas, one, state).items():
        torch.testing.assert_close(got, plain[k] * (one.params[k] - anchor[k]).detach(), atol=1e-4, rtol=1e-3)

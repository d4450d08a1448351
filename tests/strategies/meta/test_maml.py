"""Meta-gradients against finite differences in float64, plain loops and each other."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchopt
from torch import nn

from perdure.strategies.meta.base import exact_together, goes_together, task_loss, weights_of
from perdure.strategies.meta.batched_mlp import batched
from perdure.strategies.meta.loop import MetaPlan, meta_learn
from perdure.strategies.meta.maml import ANIL, MAML, MetaSGD, Reptile, ScheduledMAML
from perdure.strategies.models.mlp import MLP
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import Adam
from perdure.streams.datasets.strokes import Strokes
from perdure.streams.episodes import Episodes, FewShot, Sinusoid
from perdure.streams.storage.directories import Places


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def double(episodes):
    return Episodes(*(part.double() if part.is_floating_point() else part for part in episodes))


@pytest.fixture
def waves():
    """A network of two hidden layers, its loss, its weights, and four tasks; all in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    return task_loss(net, F.mse_loss), weights_of(net), double(Sinusoid(5, 7).tasks(Places()).draw(4, chance()))


def network(kind):
    torch.manual_seed(1)
    norms = {
        "batch": lambda: nn.BatchNorm2d(4, track_running_stats=False),
        "batch without weights": lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        "instance": lambda: nn.InstanceNorm2d(4, affine=True),
        "layer": lambda: nn.LayerNorm([4, 7, 7]),
        "group": lambda: nn.GroupNorm(2, 4),
        "none": nn.Identity,
    }
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, 4, 1), norms[kind](), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    return net.double()


def mean_loss(learner, loss, learned, tasks):
    """What the meta-gradient is the gradient of, task by task and step by step, with autograd alone."""
    total = 0.0
    for sx, sy, qx, qy in zip(*tasks, strict=True):
        weights = dict(learned["weights"])
        for step in range(learner.steps):
            names = learner.moves(weights)
            slopes = torch.autograd.grad(loss(weights, sx, sy), [weights[k] for k in names], create_graph=True)
            for k, g in zip(names, slopes, strict=True):
                rates = learned.get("rates", {})
                rate = rates[k] if k in rates else rates[k.rpartition(".")[0]][step] if rates else learner.lr
                weights[k] = weights[k] - rate * g
        total = total + loss(weights, qx, qy)
    return total / len(tasks.support_x)


def differences(function, learned, per_part=6, step=1e-4):
    """Central differences of fourth order in a few places of each part: (part, name, place, slope)."""
    for part, weights in learned.items():
        for name, value in weights.items():
            for place in torch.randperm(value.numel(), generator=chance())[:per_part].tolist():
                ends = []
                for times in (1, -1, 2, -2):
                    moved = value.detach().clone()
                    moved.view(-1)[place] += times * step
                    at = {p: {n: v.detach().requires_grad_() for n, v in w.items()} for p, w in learned.items()}
                    at[part][name] = moved.requires_grad_()
                    ends.append(function(at).item())
                yield part, name, place, (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * step)


@pytest.mark.parametrize(
    "learner", [MAML(0.1), MAML(0.05, 4), ANIL(0.1, 3), MetaSGD(0.05, 2), ScheduledMAML(0.05, 3)], ids=repr
)
def test_the_gradient_is_that_of_finite_differences(learner, waves):
    loss, weights, tasks = waves
    learned = learner.init(weights, chance())
    told = learner.gradient(loss, learned, tasks)
    for part, name, place, slope in differences(lambda at: mean_loss(learner, loss, at, tasks), learned):
        assert told.gradient[part][name].view(-1)[place].item() == pytest.approx(slope, abs=1e-7, rel=1e-6)
    assert told.losses.mean().item() == pytest.approx(mean_loss(learner, loss, _open(learned), tasks).item())


@pytest.mark.parametrize("kind", ["none", "group", "batch without weights", "batch", "instance", "layer"])
def test_normalisation_is_exact_where_it_is_said_to_be(kind):
    net = network(kind)
    loss, learner = task_loss(net, F.cross_entropy), MAML(0.5, 2)
    tasks = double(FewShot(Strokes(12, 8), 3, 2, 2, shares=(0.5, 0.2, 0.3)).tasks(Places()).draw(3, chance()))
    learned, together = learner.init(weights_of(net), chance()), exact_together(net)
    assert together == (kind in ("none", "group", "batch without weights")) and not goes_together(net)
    told = learner.gradient(replace(loss, together=together), learned, tasks)
    for part, name, place, slope in differences(lambda at: mean_loss(learner, loss, at, tasks), learned, 3):
        assert told.gradient[part][name].view(-1)[place].item() == pytest.approx(slope, abs=1e-8, rel=1e-6)


def test_together_is_one_after_the_other(waves):
    """By batched products, by vmap and in a loop."""
    loss, weights, tasks = waves
    ways = loss, replace(loss, batched=None), replace(loss, together=False)
    assert loss.batched
    methods = MAML(0.05, 3), MAML(0.05, 3, 1), ANIL(0.1, 2), MetaSGD(0.05, 2), ScheduledMAML(0.05, 2), Reptile(0.05, 4)
    for learner in methods:
        learned = learner.init(weights, chance())
        *others, plain = (learner.gradient(way, learned, tasks) for way in ways)
        for one in others:
            assert torch.allclose(one.losses, plain.losses, rtol=1e-10)
            for part, own in one.gradient.items():
                assert all(torch.allclose(g, plain.gradient[part][k], rtol=1e-9, atol=1e-13) for k, g in own.items())


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Flatten(), nn.Linear(6, 4, bias=False), nn.LeakyReLU(), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.Flatten(), nn.GELU(), nn.Linear(8, 3), nn.Softplus()],
    ],
)
def test_a_perceptron_is_batched_and_nothing_else_is(layers):
    net, x = nn.Sequential(*layers).double(), torch.randn(5, 7, 2, 3, dtype=torch.float64)
    weights = {k: torch.randn(5, *v.shape, dtype=torch.float64) for k, v in net.named_parameters()}
    expected = torch.stack(
        [torch.func.functional_call(net, {k: v[t] for k, v in weights.items()}, (x[t],)) for t in range(5)]
    )
    known = batched(net)
    assert known is not None
    torch.testing.assert_close(known(weights, x), expected)
    for other in (nn.Dropout(0.5), nn.LayerNorm(3), nn.Softmax(-1), nn.Flatten(0)):
        assert batched(nn.Sequential(*layers, other)) is None


@pytest.mark.parametrize("together", [True, False])
def test_a_task_whose_gradient_alone_is_not_finite_is_left_out(together):
    """The root of a mean square of 0 is 0, and has no slope."""
    net = nn.Linear(1, 1, bias=False).double()
    loss = replace(task_loss(net, lambda out, y: F.mse_loss(out, y).sqrt()), together=together)
    tasks = double(Sinusoid(3, 3).tasks(Places()).draw(3, chance()))
    tasks.query_x[1], tasks.query_y[1] = 0, 0
    learned, learner = {"weights": weights_of(net)}, MAML(0.1)
    told = learner.gradient(loss, learned, tasks)
    assert told.losses.isfinite().all() and told.finite.tolist() == [True, False, True]
    others = learner.gradient(loss, learned, Episodes(*(part[[0, 2]] for part in tasks)))
    torch.testing.assert_close(told.gradient["weights"]["weight"], others.gradient["weights"]["weight"])


def test_three_updates_are_torchopts():
    tasks, net = Sinusoid(10).tasks(Places()), MLP((40, 40)).build((1,), 1)
    peer = deepcopy(net)
    inner, outer = torchopt.MetaSGD(peer, lr=0.01), torch.optim.Adam(peer.parameters(), 1e-3)
    plan, rng = MetaPlan(3, 25, 3, 5), Rng(0)
    for i in range(3):
        outer.zero_grad()
        start, still = torchopt.extract_state_dict(peer), torchopt.extract_state_dict(inner)
        for x, y, queries, answers in zip(*tasks.draw(25, rng.fold("meta", i)["tasks"]), strict=True):
            inner.step(F.mse_loss(peer(x), y))
            (F.mse_loss(peer(queries), answers) / 25).backward()
            torchopt.recover_state_dict(peer, start)
            torchopt.recover_state_dict(inner, still)
        outer.step()
    (last,) = meta_learn(tasks, net, task_loss(net, F.mse_loss), MAML(0.01, 1), Adam(1e-3), plan, rng)
    for name, value in peer.named_parameters():
        assert torch.allclose(last.checkpoint["learned"]["weights"][name], value, rtol=0, atol=1e-6), name


def test_first_order_is_the_gradient_at_the_adapted_weights(waves):
    loss, weights, tasks = waves
    learner = MAML(0.05, 3, 1)
    told, expected = learner.gradient(loss, {"weights": weights}, tasks).gradient["weights"], {}
    for sx, sy, qx, qy in zip(*tasks, strict=True):
        there = {k: v.detach().requires_grad_() for k, v in learner.adapted(loss, {"weights": weights}, sx, sy).items()}
        for k, g in zip(there, torch.autograd.grad(loss(there, qx, qy), list(there.values())), strict=True):
            expected[k] = expected.get(k, 0) + g / 4
    assert all(torch.allclose(told[k], expected[k]) for k in expected)
    second = MAML(0.05, 3).gradient(loss, {"weights": weights}, tasks).gradient["weights"]
    assert not torch.allclose(second["0.weight"], told["0.weight"], rtol=1e-3)


def test_anil_moves_the_head_alone_and_learns_the_body(waves):
    loss, weights, tasks = waves
    learner = ANIL(0.1, 2)
    there = learner.adapted(loss, {"weights": weights}, tasks.support_x[0], tasks.support_y[0])
    assert [k for k in weights if not torch.equal(there[k], weights[k])] == ["4.weight", "4.bias"]
    assert learner.gradient(loss, {"weights": weights}, tasks).gradient["weights"]["0.weight"].abs().max() > 0


def test_meta_sgd_at_equal_rates_is_maml(waves):
    loss, weights, tasks = waves
    one, two = (L(0.05, 2).gradient(loss, L(0.05, 2).init(weights, chance()), tasks) for L in (MAML, MetaSGD))
    assert all(torch.allclose(g, two.gradient["weights"][k]) for k, g in one.gradient["weights"].items())
    assert set(two.gradient) == {"weights", "rates"}


def test_reptile_of_one_step_is_joint_descent(waves):
    loss, weights, tasks = waves
    told = Reptile(0.1, 1).gradient(loss, {"weights": weights}, tasks).gradient["weights"]
    own = {k: v.requires_grad_() for k, v in weights.items()}
    every = [torch.cat([a, b], 1) for a, b in ((tasks[0], tasks[2]), (tasks[1], tasks[3]))]
    joint = sum(loss(own, x, y) for x, y in zip(*every, strict=True)) / 4
    for k, g in zip(own, torch.autograd.grad(joint, list(own.values())), strict=True):
        assert torch.allclose(told[k], 0.1 * g)


def test_a_task_that_diverges_is_left_out_and_told_of(waves):
    loss, weights, tasks = waves
    bad = tasks._replace(support_y=tasks.support_y.clone())
    bad.support_y[2] = 1e200
    learned, rest = {"weights": weights}, Episodes(*(part[[0, 1, 3]] for part in tasks))
    for learner in (MAML(0.05, 3), Reptile(0.05, 3)):
        told, without = learner.gradient(loss, learned, bad), learner.gradient(loss, learned, rest)
        assert told.finite.tolist() == [True, True, False, True] and without.finite.all()
        for k, g in told.gradient["weights"].items():
            assert torch.allclose(g, without.gradient["weights"][k])
    none = MAML(0.05).gradient(loss, learned, bad._replace(support_y=torch.full_like(bad.support_y, torch.nan)))
    assert not none.finite.any() and all((g == 0).all() for g in none.gradient["weights"].values())


def test_running_statistics_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="0 \\(BatchNorm1d\\) keeps running statistics.*track_running_stats=False"):
        weights_of(nn.Sequential(nn.BatchNorm1d(3)))
    for make in (lambda: MAML(0.0), lambda: MAML(0.1, 0), lambda: MAML(order=3), lambda: Reptile(steps=0)):
        with pytest.raises(ValueError, match="expected lr > 0|order must be"):
            make()


def _open(learned):
    return {p: {n: v.detach().requires_grad_() for n, v in w.items()} for p, w in learned.items()}

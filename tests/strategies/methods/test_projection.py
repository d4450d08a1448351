"""Gradients bent so that the past is not harmed: each promise held on the past itself."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from perdure.strategies.blocks.gradients import flat, loss_gradient
from perdure.strategies.methods.agem import AGEM
from perdure.strategies.methods.gem import GEM, weights
from perdure.strategies.methods.gpm import GradientProjection, grown_basis, layer_inputs
from perdure.strategies.methods.ogd import OGD
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.streams.experience import Samples
from perdure.testing.streams import blobs

from ..learners import around, batch_of, experience, learner


def slopes(one, batch):
    loss = one.loss(one.outputs(batch.x, batch.task), batch)
    return dict(zip(one.params, torch.autograd.grad(loss, list(one.params.values())), strict=True))


@pytest.mark.parametrize("sign", [1, -1])
def test_agem_takes_out_what_is_uphill_for_the_memory_and_nothing_else(sign):
    stream = blobs(tasks=2, protocol="class")
    one, method = learner(stream), AGEM(50, replay=40)
    state = method.consolidate(one, stream[0], {})
    one.rng = Rng(3)
    draw = torch.randint(50, (40,), generator=Rng(3)["agem"])
    past = loss_gradient(one, Samples(state["x"], state["y"], state["task"]).batch(draw), list(one.params))
    other = torch.randn_like(past)
    g = other - (other @ past - sign * past @ past) / (past @ past) * past  # g . past = sign |past|^2
    given, at = {}, 0
    for k, p in one.params.items():
        given[k], at = g[at : at + p.numel()].view_as(p), at + p.numel()
    steered = flat(method.steer(one, given, state))
    if sign > 0:
        torch.testing.assert_close(steered, g)
    else:
        torch.testing.assert_close(steered @ past, torch.zeros(()), atol=1e-4, rtol=0)
        torch.testing.assert_close(steered, g + past, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_gems_weights_solve_the_quadratic_programme(seed, margin):
    generator = torch.Generator().manual_seed(seed)
    past, g = torch.randn(5, 20, generator=generator), torch.randn(20, generator=generator)
    if not (past @ g < 0).any():
        g = -g
    gram, inner = (past @ past.T).double().numpy(), (past @ g).double().numpy()
    solved = minimize(
        lambda v: v @ gram @ v / 2 + inner @ v,
        np.full(5, margin + 1.0),
        jac=lambda v: gram @ v + inner,
        bounds=[(margin, None)] * 5,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12},
    )
    v = weights(past, g, margin)
    np.testing.assert_allclose(v.double().numpy(), solved.x, atol=1e-4)
    assert (past @ (g + past.T @ v) > -1e-4).all()  # no past loss rises


def test_gem_leaves_a_gradient_that_harms_nobody_and_shares_its_memory_out():
    past = torch.eye(3, 6)
    assert torch.equal(weights(past, torch.ones(6), 0.5), torch.zeros(3))
    stream, state, method = blobs(tasks=4, protocol="class"), {}, GEM(30)
    one = learner(stream)
    for whole in stream:
        state = method.consolidate(one, whole, state)
    assert sorted(len(p["y"]) for p in state) == [7, 7, 8, 8]


def test_ogd_moves_no_remembered_answer_of_a_linear_model():
    stream = blobs(tasks=2, protocol="domain", dim=60)
    one, method = around(nn.Sequential(nn.Flatten(), nn.Linear(60, 2))), OGD(20)
    state = method.consolidate(one, stream[0], {})
    draw = torch.randperm(120, generator=Rng(0)["ogd"])[:20]
    stored = stream[0].train.batch(draw)
    before = one.model(stored.x).gather(1, stored.y[:, None]).detach()
    free = one.model(batch_of(stream[0]).x).detach()
    for _ in range(30):
        grads = method.steer(one, slopes(one, batch_of(stream[1])), state)
        with torch.no_grad():
            for k, p in one.params.items():
                p -= 0.5 * grads[k]
    torch.testing.assert_close(one.model(stored.x).gather(1, stored.y[:, None]), before, atol=1e-4, rtol=0)
    assert (one.model(batch_of(stream[0]).x) - free).abs().max() > 0.1  # the others do move


def test_ogds_basis_stays_orthonormal():
    stream, state, method = blobs(tasks=4, protocol="class", classes=2), {}, OGD(15)
    one = learner(stream)
    for whole in stream:
        state = method.consolidate(one, whole, state)
    basis = state["basis"]
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5, rtol=0)
    assert 15 < basis.shape[1] <= 60


def images(n, index=0, seed=0):
    """Images of 2 x 6 x 6 out of a space of few dimensions, so that there is room beside the past."""
    generator = torch.Generator().manual_seed(100 * seed + index)
    x = torch.rand(n, 3, generator=generator) @ torch.rand(3, 72, generator=generator)
    return experience(x.view(n, 2, 6, 6), torch.arange(n) % 4, index)


NETS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 30), nn.ReLU(), nn.Linear(30, 4)),
    "without bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 30, bias=False), nn.ReLU(), nn.Linear(30, 4)),
    "conv": lambda: nn.Sequential(
        nn.Conv2d(2, 8, 5, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4)
    ),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("threshold", [1.0, 0.9])
def test_projected_steps_move_past_answers_by_no_more_than_the_energy_dropped(net, threshold):
    torch.manual_seed(0)
    one, method = around(NETS[net]()), GradientProjection(threshold, samples=40)
    one.optimizer = SGD(0.1)
    first, second = images(40), images(40, 1)
    state = method.consolidate(one, first, {})
    seen = layer_inputs(one, Samples(batch_of(first).x, batch_of(first).y, batch_of(first).task))
    before, weight = one.model(batch_of(first).x).detach(), one.snapshot()
    for _ in range(10):
        grads = method.steer(one, slopes(one, batch_of(second)), state)
        with torch.no_grad():
            for k, p in one.params.items():
                p -= 0.05 * grads[k]
    moved = {k: p.detach() - weight[k] for k, p in one.params.items()}
    assert sum(m.abs().sum() for m in moved.values()) > 1e-3
    for name, x in seen.items():
        change = moved[f"{name}.weight"].flatten(1)
        if f"{name}.bias" in moved:
            change = torch.cat([change, moved[f"{name}.bias"][:, None]], 1)
        dropped = (1 - threshold) * x.square().sum()
        assert (change @ x).square().sum() <= change.square().sum() * dropped * 1.01 + 1e-6
    if threshold == 1.0:
        torch.testing.assert_close(one.model(batch_of(first).x), before, atol=1e-4, rtol=1e-3)
    else:
        assert (one.model(batch_of(first).x) - before).abs().max() > 1e-4


def test_a_basis_grows_by_as_little_as_holds_the_energy():
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -2, 12)[:, None]
    first, second = (torch.randn(12, 200, generator=generator) * scale.roll(n, 0) for n in (0, 5))
    basis = grown_basis(None, first, 0.95)
    roots = torch.linalg.svdvals(first).square()
    assert basis.shape[1] == int((roots.cumsum(0) / roots.sum() < 0.95).sum()) + 1
    both = grown_basis(basis, second, 0.95)
    torch.testing.assert_close(both.T @ both, torch.eye(both.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(both @ (both.T @ basis), basis, atol=1e-5, rtol=0)  # the old span is inside

    def held(b):
        return ((b.T @ second).square().sum() / second.square().sum()).item()

    assert held(both) >= 0.95 - 1e-6 > held(both[:, :-1])
    torch.testing.assert_close(grown_basis(both, second, 0.95), both, atol=1e-5, rtol=0)  # nothing lacks
    assert grown_basis(None, first[:, :3], 1.0).shape[1] == 3  # fewer inputs than dimensions


def test_thresholds_rise_over_tasks_and_heads_of_a_task_stream_stay_free():
    stream = blobs(tasks=3, protocol="task")
    one = learner(stream)
    one.protocol = "task"
    flat_, rising = GradientProjection(0.8), GradientProjection(0.8, increase=0.09)
    states = [{}, {}]
    for i, whole in enumerate(stream):
        one.rng = Rng(i)
        states[0] = flat_.consolidate(one, whole, states[0])
        one.rng = Rng(i)
        states[1] = rising.consolidate(one, whole, states[1])
    ranks = [sum(method.describe(one, state).values()) for method, state in zip((flat_, rising), states, strict=True)]
    assert ranks[1] > ranks[0]
    assert set(states[0]["bases"]) == {"1"} and flat_.describe(one, states[0]).keys() == {"rank/1"}  # the hidden layer
    one.protocol = "class"
    assert set(flat_.consolidate(one, stream[0], {})["bases"]) == {"1", "3"}


def test_every_layer_may_have_a_threshold_of_its_own():
    stream = blobs(tasks=1, protocol="class")
    one = learner(stream)
    one.protocol = "class"
    single, pair = (
        method.consolidate(one, stream[0], {})["bases"]
        for method in (GradientProjection(0.7), GradientProjection((0.7, 0.99)))
    )
    assert torch.equal(single["1"], pair["1"]) and single["3"].shape[1] < pair["3"].shape[1]
    with pytest.raises(ValueError, match=r"a threshold for each of 2 layers \(1, 3\), got \(0.9,\)"):
        GradientProjection((0.9,)).init(one)


class TestRefusals:
    def test_projection_wants_plain_steps(self):
        one = learner(blobs())
        one.optimizer = Adam()
        for method in (GradientProjection(), OGD()):
            with pytest.raises(ValueError, match=r"projects the gradient, which Adam would rescale .* use sgd\(0.01\)"):
                method.init(one)
        one.optimizer = SGD(0.1, weight_decay=1e-4)
        with pytest.raises(ValueError, match="weight decay moves along; use sgd without weight_decay"):
            GradientProjection().init(one)

    def test_projection_wants_no_statistics(self):
        one = around(nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)))
        with pytest.raises(ValueError, match="1 is a BatchNorm1d.*use mlp or convnet"):
            GradientProjection().init(one)

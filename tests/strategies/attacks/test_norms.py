"""Balls: projections against plain forms, steps that gain most."""

import pytest
import torch
from scipy.optimize import minimize

from perdure.strategies.attacks.norms import NORMS

every = pytest.mark.parametrize("name", NORMS)


@every
def test_a_projection_is_the_nearest_point_of_the_ball(name):
    torch.manual_seed(0)
    norm, deltas = NORMS[name], torch.randn(6, 4).double()
    got = norm.project(deltas, 0.8)
    assert (norm.size(got) <= 0.8 + 1e-9).all()
    for delta, one in zip(deltas, got, strict=True):
        room = {"type": "ineq", "fun": lambda z: 0.8 - norm.size(torch.tensor(z)[None]).item()}
        starts = (one.numpy() * 0.9, delta.numpy() * 0.1)
        plain = min(
            (
                minimize(lambda z, d=delta: ((z - d.numpy()) ** 2).sum(), s, constraints=room, method="SLSQP")
                for s in starts
            ),
            key=lambda r: r.fun if r.success else 1e9,
        )
        assert (one - delta).square().sum().item() <= plain.fun + 1e-5


@every
def test_what_is_inside_stays(name):
    inside = NORMS[name].project(torch.randn(5, 3, 2), 0.5) * 0.9
    torch.testing.assert_close(NORMS[name].project(inside, 0.5), inside)
    assert (NORMS[name].project(torch.randn(5, 3), 0.0) == 0).all()


@every
def test_a_step_has_size_one_and_no_other_gains_more(name):
    torch.manual_seed(0)
    norm, grad = NORMS[name], torch.randn(3, 40)
    step = norm.steepest(grad, torch.ones_like(grad, dtype=torch.bool))
    torch.testing.assert_close(norm.size(step), torch.ones(3))
    gain = (step * grad).sum(1)
    others = torch.randn(2000, 40)
    others /= norm.size(others)[:, None]
    assert (gain > (others @ grad.T).amax(0)).all()
    assert (norm.steepest(torch.zeros(2, 40), torch.ones(2, 40, dtype=torch.bool)) == 0).all()


def test_an_l1_step_goes_where_there_is_room():
    grad = torch.tensor([[5.0, 1.0, -3.0]])
    step = NORMS["l1"].steepest(grad, torch.tensor([[False, True, True]]))
    assert step.tolist() == [[0.0, 0.0, -1.0]]

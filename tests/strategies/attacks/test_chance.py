"""Random numbers by sample: good ones, and nobody's depend on who else is there."""

import torch
from scipy import stats

from perdure.strategies.attacks.norms import NORMS
from perdure.strategies.attacks.sample_rng import Chance

MANY = Chance.of(3, torch.arange(2000))


def test_numbers_are_uniform_normal_and_unrelated():
    drawn = MANY.uniform((50,), "a")
    counts = torch.histc(drawn, 100, 0, 1)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    assert stats.kstest(MANY.normal((50,), "b").flatten().numpy(), "norm").pvalue > 1e-4
    other = MANY.uniform((50,), "other")
    for one, two in ((drawn, other), (drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1])):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]) < 0.015
    assert (MANY.signs((50,), "c").unique() == torch.tensor([-1.0, 1.0])).all()
    assert abs(MANY.signs((50,), "c").mean()) < 0.015
    assert MANY.whole(7, (50,), "d").unique().tolist() == list(range(7))


def test_a_samples_numbers_are_its_own():
    rows = torch.tensor([5, 1999, 3])
    assert torch.equal(MANY.at(rows).normal((4, 2), "x", 1), MANY.normal((4, 2), "x", 1)[rows])
    assert torch.equal(Chance.of(3, rows).keys, MANY.keys[rows])
    assert not torch.equal(Chance.of(4, rows).keys, MANY.keys[rows])
    assert len(MANY.keys.unique()) == 2000


def test_starts_fill_the_ball():
    """The radius of a uniform draw from the ball, to the power of the dimension, is uniform."""
    for norm in NORMS.values():
        drawn = norm.random((3,), MANY, "start")
        assert norm.size(drawn).max() <= 1 + 1e-6
        assert stats.kstest(norm.size(drawn).pow(3).numpy(), "uniform").pvalue > 1e-4
        assert stats.kstest(drawn[:, 0].sign().clamp(min=0).numpy(), stats.bernoulli(0.5).cdf).statistic < 0.55

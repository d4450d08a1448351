"""Distances between distributions, held to closed forms and to independent implementations."""

from math import log

import pytest
import torch
from scipy import stats
from scipy.linalg import sqrtm

from perdure.strategies.generators import divergences as d


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_kl_of_categoricals_is_scipys_and_infinite_where_q_lacks_what_p_has():
    p, q = rows(5, 7).softmax(1), rows(5, 7, seed=1).softmax(1)
    torch.testing.assert_close(d.kl(p, q), torch.from_numpy(stats.entropy(p.numpy(), q.numpy(), axis=1)))
    assert not torch.allclose(d.kl(p, q), d.kl(q, p))
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    assert d.kl(one, other) == pytest.approx(log(2)) and d.kl(other, one) == torch.inf


def test_kl_to_the_standard_normal_is_that_of_a_monte_carlo_mean():
    mean, log_var = torch.tensor([0.5, -1.0]).double(), torch.tensor([0.3, -1.2]).double()
    z = mean + (log_var / 2).exp() * rows(400_000, 2)
    sampled = (d.log_normal(z, mean, log_var) - d.log_normal(z)).mean()
    torch.testing.assert_close(d.gaussian_kl(mean, log_var), sampled, atol=0.01, rtol=0)
    assert d.gaussian_kl(torch.zeros(3), torch.zeros(3)) == 0


def test_jsd_is_symmetric_and_log_2_for_what_shares_nothing():
    p, q = rows(4, 6).softmax(1), rows(4, 6, seed=1).softmax(1)
    torch.testing.assert_close(d.jsd(p, q), d.jsd(q, p))
    assert (d.jsd(p, q) < log(2)).all() and (d.jsd(p, p) == 0).all()
    torch.testing.assert_close(d.jsd(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])), torch.tensor(log(2)))


def test_a_discriminator_that_cannot_tell_reads_zero_and_the_best_one_the_jsd_itself():
    assert d.adversarial_jsd(torch.zeros(9), torch.zeros(9)).item() == pytest.approx(0, abs=1e-6)
    assert d.adversarial_value(torch.zeros(9), torch.zeros(9)).item() == pytest.approx(-2 * log(2))
    x, y = rows(200_000), 1.5 + rows(200_000, seed=1)

    def best(points):  # log q / p of N(0, 1) and N(1.5, 1)
        return -(points.square() - (points - 1.5).square()) / 2

    grid = torch.linspace(-8, 10, 20_001).double()
    p, q = (torch.exp(d.log_normal(grid[:, None] - m)) for m in (0.0, 1.5))
    exact = d.jsd(p / p.sum(), q / q.sum())
    torch.testing.assert_close(d.adversarial_jsd(best(x), best(y)), exact, atol=3e-3, rtol=0)


@pytest.mark.parametrize("sizes", [(50, 50), (50, 80), (7, 3), (1, 9)])
@pytest.mark.parametrize("p", [1, 2])
def test_wasserstein_on_a_line_is_exact(sizes, p):
    x, y = rows(sizes[0]), 0.7 + 2 * rows(sizes[1], seed=1)
    if p == 1:
        exact = stats.wasserstein_distance(x.numpy(), y.numpy())
    else:  # quantiles of both at all places where either steps
        many = (torch.arange(sizes[0] * sizes[1]) + 0.5) / (sizes[0] * sizes[1])
        a, b = (v.sort().values[(many * len(v)).long()] for v in (x, y))
        exact = (a - b).square().mean().item()
    assert d.wasserstein_1d(x, y, p).item() == pytest.approx(exact)
    assert d.wasserstein_1d(x, x + 3, p).item() == pytest.approx(3**p)


def test_cramer_on_a_line_is_half_scipys_energy_distance_squared():
    x, y = rows(40), 0.5 + rows(63, seed=1)
    exact = stats.energy_distance(x.numpy(), y.numpy()) ** 2 / 2
    assert d.cramer_1d(x, y).item() == pytest.approx(exact)
    assert d.cramer_1d(x, x).item() == 0


def test_sliced_distances_are_those_of_the_line_where_there_is_but_one_direction():
    x, y, g = rows(30, 1), 1 + rows(40, 1, seed=1), torch.Generator().manual_seed(0)
    torch.testing.assert_close(d.sliced_wasserstein(x, y, generator=g), d.wasserstein_1d(x[:, 0], y[:, 0], 2))
    torch.testing.assert_close(d.sliced_cramer(x, y, generator=g), d.cramer_1d(x[:, 0], y[:, 0]))
    assert d.sliced_wasserstein(x, x) == 0 and d.sliced_cramer(x, x) == 0


def test_sliced_wasserstein_of_a_shift_is_its_square_over_the_dimension():
    x = rows(20, 5)
    told = d.sliced_wasserstein(
        x, x + torch.tensor([3.0, 0, 0, 0, 0]), 50_000, generator=torch.Generator().manual_seed(1)
    )
    assert told.item() == pytest.approx(9 / 5, rel=0.02)


@pytest.mark.parametrize("imq", [True, False])
def test_mmd_is_its_double_sum_and_unbiased(imq):
    x, y, widths = rows(12, 3), 0.5 + rows(9, 3, seed=1), (0.5, 2.0)

    def kernel(a, b):
        square = ((a - b) ** 2).sum()
        scales = [w * 2 * 3 for w in widths]
        return sum(c / (c + square) if imq else torch.exp(-square / c) for c in scales)

    within = [
        sum(kernel(v[i], v[j]) for i in range(len(v)) for j in range(len(v)) if i != j) / (len(v) * (len(v) - 1))
        for v in (x, y)
    ]
    across = sum(kernel(a, b) for a in x for b in y) / (12 * 9)
    torch.testing.assert_close(d.mmd(x, y, widths, imq), sum(within) - 2 * across)
    same = [d.mmd(rows(50, 3, seed=2 * s), rows(50, 3, seed=2 * s + 1)).item() for s in range(40)]
    assert min(same) < 0 < max(same) and abs(sum(same) / 40) < 0.01


def test_frechet_is_that_of_a_matrix_root():
    x, y = rows(300, 4) @ rows(4, 4, seed=5), 0.3 + rows(200, 4, seed=1)
    a, b = torch.cov(x.T), torch.cov(y.T)
    root = torch.from_numpy(sqrtm((a @ b).numpy()).real)
    exact = (x.mean(0) - y.mean(0)).square().sum() + (a + b - 2 * root).trace()
    torch.testing.assert_close(d.frechet(x, y), exact)
    assert d.frechet(x, x).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["kl", "jsd", "wasserstein_1d", "cramer_1d", "frechet"])
def test_shapes_that_would_be_broadcast_are_refused(name):
    one, other = (torch.rand(6, 1), torch.rand(6, 4)) if name == "frechet" else (torch.rand(6), torch.rand(6, 1))
    for pair in ((one, other), (other, one)):
        with pytest.raises(ValueError, match="expected the same .* of both, got .* which do not go together"):
            getattr(d, name)(*pair)

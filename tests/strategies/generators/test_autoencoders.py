"""Autoencoders and their kin, held to what is known in closed form."""

from math import log, pi

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import subspace_angles
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from perdure.strategies.generators import principal
from perdure.strategies.generators.autoencoder import square_error
from perdure.strategies.generators.base import Data
from perdure.strategies.generators.critics import critic, flatness, gradient_penalty
from perdure.strategies.generators.denoising import langevin
from perdure.strategies.generators.divergences import gaussian_kls
from perdure.strategies.generators.names import generator
from perdure.strategies.methods.generative_replay import GenerativeReplay
from perdure.strategies.numerics.rng import Rng
from perdure.streams.datasets import mnist
from perdure.streams.experience import pixels
from perdure.streams.storage.directories import Places
from perdure.testing.streams import blobs

from ..learners import learner


def digits():
    x, y = load_digits(return_X_y=True)
    return torch.from_numpy(x / 16).float(), torch.from_numpy(y).long()


def check_is_pca(nets, x, count, rel=1e-4):
    """Principal angles to scikit-learn's PCA of x (N, D), and the error, which is the sum of the variances dropped."""
    x = x.double()
    pca = PCA(count, svd_solver="covariance_eigh").fit(x.numpy())
    decoder = nets["decoder"].weight.double()  # (D, count)
    assert np.rad2deg(subspace_angles(decoder.numpy(), pca.components_.T)).max() < 0.01
    np.testing.assert_allclose(nets["centre"].mean.numpy(), pca.mean_, atol=1e-6)
    dropped = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[:-count].sum()
    centred = x - nets["centre"].mean.double()
    error = square_error(centred @ nets["encoder"].weight.double().T @ decoder.T, centred).item()
    assert error == pytest.approx(dropped, rel=rel)


@pytest.mark.parametrize(
    "text", ["linear_autoencoder", "linear_autoencoder(1)", "linear_autoencoder(5, steps=2500, lr=0.02)"]
)
def test_a_linear_autoencoder_is_pca(text):
    x, y = digits()
    one, heard = generator(text), []
    nets = one.restored(one.fit(Data(x, y), Rng(0), hear=heard.append))
    check_is_pca(nets, x, one.latent)
    told = square_error(one.decoded(nets, one.encoded(nets, x, y), y), x).item()
    assert heard[-1].values["loss"] == pytest.approx(told, rel=1e-4)


@pytest.mark.data
def test_a_linear_autoencoder_is_pca_on_fashion_mnist():
    train = mnist.FashionMNIST().load(Places(download=False)).train
    x = pixels(train.x).flatten(1)
    one = generator("linear_autoencoder")
    check_is_pca(one.restored(one.fit(Data(train.x, train.y), Rng(0))), x, 16)


def test_a_linear_autoencoder_is_pca_of_what_it_goes_on_with():
    """From whatever start, of few samples, and of fewer dimensions than it has codes."""
    x, y = digits()
    one = generator("linear_autoencoder(4)")
    first = one.fit(Data(x[y < 5], y[y < 5]), Rng(0), conditions=10)
    check_is_pca(one.restored(one.fit(Data(x, y), Rng(1), first)), x, 4)
    check_is_pca(one.restored(one.fit(Data(x[:9], y[:9]), Rng(0))), x[:9], 4)
    nets = one.restored(one.fit(Data(x[:, 20:23], y), Rng(0)))
    torch.testing.assert_close(one.decoded(nets, one.encoded(nets, x[:, 20:23], y), y), x[:, 20:23])


def test_codes_stay_where_they_were_where_the_data_do():
    x, y = digits()
    one = generator("linear_autoencoder(6)")
    first = one.fit(Data(x, y), Rng(0))
    again = one.fit(Data(x.flip(0), y), Rng(1), first)
    torch.testing.assert_close(first["nets"]["encoder.weight"], again["nets"]["encoder.weight"])


@pytest.mark.parametrize("layer", [0, 1])
def test_in_generative_replay_it_is_pca_of_the_new_and_the_dreamt(layer, monkeypatch):
    stream, given = blobs(tasks=3, protocol="class", dim=20), []
    one, state = learner(stream), {}
    method = GenerativeReplay(generator("linear_autoencoder(5, bounds=None)"), pool=200, layer=layer)
    own = GenerativeReplay._data
    monkeypatch.setattr(GenerativeReplay, "_data", lambda *args: given.append(own(*args)) or given[-1])
    for whole in stream:
        one.heads, one.rng = stream.heads(whole.index), Rng(whole.index)
        state = method.consolidate(one, whole, state)
        check_is_pca(method.generator.restored(state["generator"]), given[-1].x, 5, rel=1e-3)
    assert len(given) == 3 and given[-1].dreamt.any()


def test_many_dimensions_are_followed_to_the_same_axes(monkeypatch):
    """Beyond the size at which a covariance is decomposed as a whole; axes that did not settle are refused."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 400, generator=g, dtype=torch.float64) * 0.98 ** torch.arange(400) + 3
    whole = principal.principal(lambda: x.split(128), 7, g)
    monkeypatch.setattr(principal, "WHOLE", 10)
    found = principal.principal(lambda: x.split(128), 7, g)
    assert np.rad2deg(subspace_angles(found.axes.numpy(), whole.axes.numpy())).max() < 0.01
    torch.testing.assert_close((found.mean, found.dropped), (whole.mean, whole.dropped))
    monkeypatch.setattr(principal, "MOST", 3)
    with pytest.raises(ValueError, match="no 7 principal axes of 400 dimensions were found in 3 turns"):
        principal.principal(lambda: x.split(128), 7, g)


def test_a_deep_autoencoder_beats_pca_of_as_many_numbers():
    x, y = digits()
    one, pca = generator("autoencoder(5, hidden=(128,), steps=2000)"), PCA(5).fit(x[:1300].numpy())
    nets = one.restored(one.fit(Data(x[:1300], y[:1300]), Rng(0)))
    told = one.decoded(nets, one.encoded(nets, x[1300:], y), y)
    by_pca = torch.from_numpy(pca.inverse_transform(pca.transform(x[1300:].numpy())))
    assert square_error(told, x[1300:]) < 0.8 * square_error(by_pca, x[1300:])


def gaussian(n=2000):
    """Data of two factors in five dimensions, and noise."""
    g = torch.Generator().manual_seed(0)
    weight, shift = torch.randn(5, 2, generator=g), torch.randn(5, generator=g)
    x = torch.randn(n, 2, generator=g) @ weight.T + shift + 0.5 * torch.randn(n, 5, generator=g)
    return Data(x, torch.zeros(n, dtype=torch.int64))


def test_the_log_likelihood_of_a_linear_gaussian_vae_is_the_exact_one():
    """p(x) = N(b, W W' + σ²): with a linear decoder nothing is left to guess."""
    one = generator("vae(2, hidden=(), likelihood='gaussian', noise=0.5, bounds=None, steps=3000, lr=0.003)")
    x, y, _ = gaussian()
    state = one.fit(Data(x, y), Rng(0))
    weight, shift = state["nets"]["decoder.body.0.weight"], state["nets"]["decoder.body.0.bias"]
    exact = stats.multivariate_normal(shift.numpy(), (weight @ weight.T + 0.25 * torch.eye(5)).numpy()).logpdf(
        x.numpy()
    )
    told = one.log_likelihood(state, x, y, Rng(1), samples=200).mean().item()
    elbo = one.elbo(state, x, y, Rng(2), samples=20).mean().item()
    assert told == pytest.approx(exact.mean(), rel=0.01)
    assert elbo < told + 0.01
    best = stats.multivariate_normal(x.mean(0).numpy(), np.cov(x.numpy().T)).logpdf(x.numpy()).mean()
    assert told == pytest.approx(best, abs=0.1)  # and it has found the data


def test_the_elbo_is_below_the_log_likelihood_on_binary_digits():
    x, y = digits()
    x = (x > 0.5).float()
    one = generator("vae(8, hidden=(64,), steps=800)")
    state, heard = one.fit(Data(x, y), Rng(0)), []
    one.fit(Data(x, y), Rng(1), state, hear=heard.append)
    told, elbo = (f(state, x, y, Rng(1), samples=100).mean().item() for f in (one.log_likelihood, one.elbo))
    assert elbo < told - 0.1 and told > -64 * log(2) / 1.5
    assert heard[0].values["loss"] == pytest.approx(heard[0].values["misfit"] + heard[0].values["kl"], rel=1e-4)


def test_free_bits_keep_latents_in_use():
    x, y = digits()
    kls = {}
    for bits in (0.0, 1.0):
        heard = []
        generator(f"vae(6, hidden=(64,), beta=8, free_bits={bits}, steps=600)").fit(
            Data(x, y), Rng(0), hear=heard.append
        )
        kls[bits] = heard[-1].values["kl"]
    assert kls[0.0] < 3 and kls[1.0] > 5


def mixture(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    left = torch.rand(n, 1, generator=g) < 0.3
    return torch.where(left, -1.0, 1.0) + 0.2 * torch.randn(n, 1, generator=g)


def log_mixture(x, sigma):
    s = (0.04 + sigma**2) ** 0.5
    parts = [log(w) - ((x - m) / s) ** 2 / 2 - log(s * (2 * pi) ** 0.5) for w, m in ((0.3, -1.0), (0.7, 1.0))]
    return torch.logaddexp(*parts)


def test_a_denoising_autoencoder_learns_the_score():
    one = generator("dae((2, 1, 0.5, 0.25), hidden=(64, 64), langevin=40, bounds=None, steps=4000)")
    x = mixture(20_000)
    state = one.fit(Data(x, torch.zeros(len(x), dtype=torch.int64)), Rng(0))
    for sigma in (0.5, 0.25):
        at = torch.linspace(-1.5, 1.5, 61)[:, None].requires_grad_()
        (exact,) = torch.autograd.grad(log_mixture(at, sigma).sum(), at)
        told = one.score(state, at.detach(), sigma)
        seen = log_mixture(at, sigma).exp().detach()
        gap = (seen * (told - exact).square()).sum() / (seen * exact.square()).sum()
        assert gap < 0.02
    drawn = one.sample(state, 4000, Rng(1))
    assert drawn[drawn > 0].mean().item() == pytest.approx(1, abs=0.06)
    assert (drawn < 0).float().mean().item() == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("step", [0.05, 0.3])
def test_langevin_dynamics_has_the_bias_of_its_step(step):
    """Of N(1, 0.5²): the stationary variance is s² / (1 - ε / (2 s²)), not s²."""
    drawn = langevin(lambda x: -(x - 1) / 0.25, torch.zeros(40_000, 1), step, 200, Rng(0))
    assert drawn.mean().item() == pytest.approx(1, abs=0.02)
    assert drawn.var().item() == pytest.approx(0.25 / (1 - step / 0.5), rel=0.03)


@pytest.mark.parametrize(
    "text",
    [
        "aae(2, hidden=(64,), steps=2500)",
        "wae(2, hidden=(64,), steps=1500)",
        "wae(2, hidden=(64,), distance='sliced', steps=1500)",
        "wae(2, hidden=(64,), distance='critic', weight=1, steps=1500)",
        "wae(2, hidden=(64,), distance='critic', lipschitz='spectral', weight=1, steps=1500)",
    ],
)
def test_codes_come_near_the_prior(text):
    x, y = digits()
    one, free = generator(text), generator("autoencoder(2, hidden=(64,), steps=1500)")
    gaps = {}
    for each in (one, free):
        codes = each.encoded(each.restored(each.fit(Data(x, y), Rng(0))), x, y).numpy()
        gaps[each] = max(stats.kstest(codes[:, k], "norm").statistic for k in range(2))
    assert gaps[one] < 0.15 < 0.3 < gaps[free]


def test_the_jsd_readout_falls():
    x, y = digits()
    heard = []
    generator("aae(2, hidden=(64,), steps=2000)").fit(Data(x, y), Rng(0), hear=heard.append)
    told = [p.values["jsd"] for p in heard]
    assert max(told[:5]) > 0.15 and sum(told[-5:]) / 5 < 0.06
    assert all(jsd <= log(2) for jsd in told)


def test_a_critic_under_the_gradient_penalty_has_slope_1_and_reads_the_shift():
    """Slope 1 + W1 / (2 · 100): there the penalty holds against what a steeper critic would gain."""
    torch.manual_seed(0)
    net, rng = critic(1, (32, 32)), Rng(0)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3, (0.5, 0.9))
    for _ in range(800):
        x = torch.randn(256, 1)
        y = torch.randn(256, 1) + 2
        loss = net(x).mean() - net(y).mean() + 100 * gradient_penalty(net, y, x, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    at = torch.linspace(-1, 3, 50)[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(net(at).sum(), at)
    assert slope.abs().mean().item() == pytest.approx(1.01, abs=0.05)
    x, y = torch.randn(20_000, 1), torch.randn(20_000, 1) + 2
    assert (net(y).mean() - net(x).mean()).item() == pytest.approx(2, abs=0.1)


def test_no_layer_of_a_spectral_critic_stretches():
    torch.manual_seed(0)
    net = critic(6, (32, 32), "spectral").train()
    for _ in range(50):
        net(torch.randn(8, 6))
    a, b = torch.randn(2, 500, 6)
    assert ((net(a) - net(b)).abs()[:, 0] <= (a - b).norm(dim=1) * 1.01).all()


def test_flatness_is_half_the_mean_square_slope():
    x = torch.randn(40, 3)
    assert flatness(lambda z: (z**2).sum(1), x).item() == pytest.approx((4 * x**2).sum(1).mean().item() / 2)


def test_a_gated_vaes_classes_have_gaussians_of_their_own():
    one = generator("gated_vae(3, hidden=(16, 12), steps=60)")
    split = blobs(tasks=1, classes=3)[0].train.everything()
    state = one.fit(Data(split.x, split.y), Rng(0))
    nets, x, y = one.restored(state), split.x[:5].flatten(1), split.y[:5]
    mean, log_var = one.posterior(nets, x, y)
    at, wide = one.prior(nets, y)
    told = gaussian_kls(mean, log_var, at, wide)
    q, p = (torch.distributions.Normal(m, (v / 2).exp()) for m, v in ((mean, log_var), (at, wide)))
    torch.testing.assert_close(told, torch.distributions.kl_divergence(q, p))
    assert (at[0] != nets["prior"](y[:1] + 1 - 2 * (y[:1] > 0).long())[0][0]).all()


def test_a_gated_decoders_closed_units_do_not_matter():
    one = generator("gated_vae(3, hidden=(16, 12), closed=0.5, steps=5)")
    split = blobs(tasks=1, classes=3)[0].train.everything()
    nets = one.restored(one.fit(Data(split.x, split.y), Rng(0)))
    decoder, z, y = nets["decoder"], torch.randn(2, 3), torch.tensor([0, 2])
    told = decoder.gated(z, y)
    for row in range(2):  # a plain pass of one code, closed units cut out of the weights
        h, gates = z[row], decoder.gates[y[row]].split([12, 16])
        first, second, last = (m for m in decoder.body if isinstance(m, torch.nn.Linear))
        open_first, open_second = gates[0], gates[1]
        h = (first.weight[open_first] @ h + first.bias[open_first]).relu()
        h = (second.weight[open_second][:, open_first] @ h + second.bias[open_second]).relu()
        torch.testing.assert_close(told[row], last.weight[:, open_second] @ h + last.bias)
    assert 0 < decoder.gates.float().mean() < 1

"""Curvatures of distances, each held to second differences of the distance itself, in double precision."""

from math import pi

import pytest
import torch
from torch import nn
from torch.func import functional_call

from perdure.strategies.blocks.readings import reading
from perdure.strategies.generators import divergences as d
from perdure.strategies.generators.base import Data
from perdure.strategies.generators.distance_hessians import diagonal_hessian
from perdure.strategies.generators.names import generator
from perdure.strategies.methods import functional_regularization
from perdure.strategies.methods.functional_regularization import Functional, curvature
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Samples
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ..learners import around, batch_of, learner


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(outputs, n, seed=0):
    """A curved model of few weights, a learner of it, and samples that it answers to."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, outputs)).double()
    x = torch.randn(n, 2, dtype=torch.float64, generator=gen(seed)) + torch.tensor([0.5, 0.0])
    return around(model), Samples(x, torch.arange(n) % outputs, torch.zeros(n, dtype=torch.int64))


def second_differences(distance, answer, params, step):
    """Of distance(answers, answers now) by every weight, which moves alone."""
    with torch.no_grad():
        now, found = answer(params), {}
        rest = distance(now, now)  # below 0, of an unbiased estimate
        for name, p in params.items():
            found[name] = torch.zeros_like(p)
            for i in range(p.numel()):
                for sign in (-step, step):
                    moved = p.clone()
                    moved.view(-1)[i] += sign
                    found[name].view(-1)[i] += (distance(answer(params | {name: moved}), now) - rest) / step**2
    return found


def held(one, some, distance, step, of="outputs"):
    """Second differences of a learner's answers."""
    params = {k: p.detach() for k, p in one.params.items()}
    return second_differences(distance, lambda w: reading(one, of)(some.x, some.task, w), params, step)


def check(got, plain, rel, of_largest=0.0):
    """Every weight to a share of its own value, or of the largest: that where estimates are of random directions."""
    most = max(v.max() for v in plain.values()).item()
    assert got.keys() == plain.keys()
    for k in plain:
        torch.testing.assert_close(got[k].double(), plain[k], rtol=rel, atol=of_largest * most + 1e-9)


def mean_kl(new, old):
    return d.kl(old.softmax(1), new.softmax(1)).mean()


def w2(new, old):
    """Where no sample passes another, D times the sliced one; what is left to chance is which directions are taken."""
    return new.shape[1] * d.sliced_wasserstein(new, old, 10_000, generator=gen(1))


def gaussian_mmd(new, old):
    """By our own function, of whose kernel the scale is 2 width² = 2D * share."""
    width = (2 * old.var(0).sum()).sqrt().item()
    return d.mmd(new, old, (width**2 / old.shape[1],), imq=False)


def cramer(new, old):
    return d.sliced_cramer(new, old, 300 if new.shape[1] > 1 else 1, generator=gen(2))


@pytest.mark.parametrize("outputs", [1, 3])
def test_kl_and_wasserstein_are_the_second_differences_of_the_distance(outputs):
    one, some = tiny(outputs, 12)
    got = curvature(one, some, "wasserstein", 64, gen())
    check(got, held(one, some, lambda new, old: (new - old).square().sum(1).mean(), 1e-4), 1e-5)
    check(got, held(one, some, w2, 1e-5), 1e-4 if outputs == 1 else 0.05)
    if outputs > 1:
        check(curvature(one, some, "kl", 64, gen()), held(one, some, mean_kl, 1e-4), 1e-5)


def test_kl_is_of_the_open_classes_alone():
    one, some = tiny(4, 10)
    one.heads = torch.tensor([[True, True, False, True]])
    got = curvature(one, some, "kl", 64, gen())
    check(
        got,
        held(one, some, lambda new, old: mean_kl(one.masked(new, some.task), one.masked(old, some.task)), 1e-4),
        1e-5,
    )
    assert (got["2.bias"] > 0).tolist() == [True, True, False, True]


@pytest.mark.parametrize("distance", ["kl", "wasserstein"])
def test_random_directions_stand_for_all_outputs_where_these_are_many(distance, monkeypatch):
    one, some = tiny(5, 40)
    exact = curvature(one, some, distance, 1, gen())
    monkeypatch.setattr(functional_regularization, "MOST", 4)
    told = [curvature(one, some, distance, 4, gen(n)) for n in range(300)]
    for k, v in exact.items():
        torch.testing.assert_close(
            torch.stack([each[k] for each in told]).mean(0), v, rtol=0.2, atol=0.02 * v.max().item()
        )


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_kernel_discrepancy_is_the_second_difference_of_the_distance(outputs):
    one, some = tiny(outputs, 500)
    plain = held(one, some, gaussian_mmd, 1e-3)
    check(curvature(one, some, "mmd", 1500, gen(3)), plain, 0.12, 0.02)


@pytest.mark.parametrize("outputs", [1, 2])
def test_sliced_cramer_is_the_second_difference_of_the_distance(outputs):
    """A step that many samples pass one another by, for each alone moves the distance by |step|, not its square."""
    one, some = tiny(outputs, 8000 if outputs == 1 else 3000)
    plain = held(one, some, cramer, 0.05 if outputs == 1 else 0.1)
    check(curvature(one, some, "sliced_cramer", 1000, gen(3)), plain, 0.1, 0.015)


def gaussian_regressor(n=20_000):
    """y = W x + b of x ~ N(mean, root root')."""
    torch.manual_seed(0)
    mean, root = (
        torch.tensor([0.4, -1.0, 0.0]).double(),
        torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, -0.5, 1.5]]).double(),
    )
    x = torch.randn(n, 3, dtype=torch.float64, generator=gen()) @ root.T + mean
    return nn.Linear(3, 1).double(), x, mean, root @ root.T


def test_a_linear_gaussian_regressors_pulls_are_the_closed_forms():
    """With y ~ N(m, σ²) and E[x_j | y] = α_j + β_j (y - m) / σ, of the Cramér distance 2 ∫ p² E[x_j | y]² dy =
    (α_j² + β_j² / 2) / (√π σ); of Wasserstein's 2 E x_j². The bias is a weight of x = 1."""
    model, x, mean, covariance = gaussian_regressor()
    weight = model.weight.detach()[0]
    sigma = (weight @ covariance @ weight).sqrt()
    alpha, beta = torch.cat([mean, torch.ones(1)]), torch.cat([covariance @ weight / sigma, torch.zeros(1)])
    square = torch.cat([covariance.diagonal() + mean.square(), torch.ones(1)])
    params = dict(model.named_parameters())
    got = {name: diagonal_hessian(model(x), params, name, gen(1), 300) for name in ("sliced_cramer", "wasserstein")}
    found = {name: torch.cat([h["weight"][0], h["bias"]]) for name, h in got.items()}
    cramers = (alpha.square() + beta.square() / 2) / (pi**0.5 * sigma)
    torch.testing.assert_close(found["sliced_cramer"], cramers, rtol=0.06, atol=0.01)
    assert found["sliced_cramer"][2] > 10 * 2 * x[:, 2].mean().square()  # which of the mean alone is next to nothing
    torch.testing.assert_close(found["wasserstein"], 2 * square, rtol=0.25, atol=0)  # 300 draws
    one = around(model)
    exact = curvature(
        one,
        Samples(x, torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), dtype=torch.int64)),
        "wasserstein",
        64,
        gen(),
    )
    torch.testing.assert_close(torch.cat([exact["weight"][0], exact["bias"]]), 2 * square, rtol=0.03, atol=0)


def test_clusters_far_apart_are_not_smeared():
    """Of a mixture of two narrow normal distributions: 2 ∫ p² is a half of one's, 1 / (2 √π σ)."""
    near = torch.randn(4000, 1, generator=gen(), dtype=torch.float64) * 0.02
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    f = near + (torch.arange(4000) % 2)[:, None] * 5 + shift
    got = diagonal_hessian(f, {"shift": shift}, "sliced_cramer", gen(), 200)["shift"]
    assert got.item() == pytest.approx(1 / (2 * pi**0.5 * 0.02), rel=0.05)


@pytest.mark.parametrize("of", ["0", "1"])
@pytest.mark.parametrize("distance", ["wasserstein", "mmd"])
def test_a_layers_features_are_held_and_weights_above_it_are_free(of, distance):
    one, some = tiny(2, 200)
    distances = {"wasserstein": lambda new, old: (new - old).square().sum(1).mean(), "mmd": gaussian_mmd}
    plain = held(one, some, distances[distance], 1e-3, of)
    got = curvature(one, some, distance, 1500 if distance == "mmd" else 64, gen(), of)
    check(got, plain, *((0.12, 0.02) if distance == "mmd" else (1e-4, 0)))
    assert not got["2.weight"].any() and got["0.weight"].all()


def test_a_convolutions_features_are_held():
    """By the layers' own structure, and by a gradient for every sample where that does not serve."""
    torch.manual_seed(0)
    for norm in (nn.Identity(), nn.GroupNorm(1, 2)):
        model = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
        x = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=gen())
        some, one = Samples(x, torch.arange(6) % 3, torch.zeros(6, dtype=torch.int64)), around(model)
        got = curvature(one, some, "wasserstein", 64, gen(), "2")
        check(got, held(one, some, lambda new, old: (new - old).square().sum(1).mean(), 1e-4, "2"), 1e-5)
        assert not got["4.weight"].any()


def test_a_generators_samples_are_held():
    """A decoder's, as a function of its weights, at fixed codes."""
    one = generator("autoencoder(2, hidden=(5,), steps=30, bounds=None)")
    x = torch.randn(60, 3, generator=gen())
    nets = one.restored(one.fit(Data(x, torch.zeros(60, dtype=torch.int64)), Rng(0)))["decoder"].double()
    codes, params = torch.randn(300, 2, dtype=torch.float64, generator=gen(1)), dict(nets.named_parameters())

    def samples(w):
        return functional_call(nets, w, (codes,))

    plain = second_differences(gaussian_mmd, samples, params, 1e-3)
    free = {k: p.detach().requires_grad_() for k, p in params.items()}
    check(diagonal_hessian(samples(free), free, "mmd", gen(2), 1500), plain, 0.12, 0.02)


def test_the_strategy_holds_what_it_is_told_to():
    """The features of the first layer stay, under a pull on them alone, while the outputs move."""
    stream, moves = blobs(tasks=2, protocol="domain", dim=64), {}
    x = batch_of(stream[0]).x
    for text in ("outputs", "1"):
        one, seen = learner(stream), []
        one.optimizer = Adam(0.01)
        for _ in learn(stream, one, Functional(1e4, "wasserstein", of=text), Plan(epochs=4, batch_size=20)):
            layer = reading(one, "1")
            seen.append((one.model(x).detach(), layer(x, torch.zeros(len(x), dtype=torch.int64)).detach()))
        moves[text] = [(b - a).square().mean().item() for a, b in zip(*seen, strict=True)]
    assert moves["1"][0] > 3 * moves["outputs"][0] and moves["1"][1] < moves["outputs"][1]


def test_reading_outputs_by_their_layers_name_is_the_same():
    one, some = tiny(3, 30)
    for distance in ("wasserstein", "sliced_cramer", "mmd"):
        assert same(*(curvature(one, some, distance, 8, gen(), of) for of in ("outputs", "2")))


def test_refusals():
    stream = blobs(tasks=2)
    with pytest.raises(ValueError, match=r"no module '3x'; known: outputs, 0, 1, 2, 3. Did you mean '3'\?"):
        Functional(of="3x").init(learner(stream))
    with pytest.raises(ValueError, match="kl compares class probabilities, which '1' has none of"):
        Functional(distance="kl", of="1")
    one, some = tiny(2, 1)
    for distance in ("sliced_cramer", "mmd"):
        with pytest.raises(ValueError, match=f"{distance} compares distributions, and all 1 outputs are the same"):
            curvature(one, some, distance, 4, gen())
    with pytest.raises(ValueError, match=r"expected outputs \(N, D\), got \(3,\)"):
        diagonal_hessian(torch.zeros(3), {}, "kl", gen())

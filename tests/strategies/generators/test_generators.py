"""Every generator, the same promises: bits, bounds, conditions, refusals; and that it learns what it is shown."""

import io
from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn

from perdure.notation import spell
from perdure.strategies.generators.base import Data
from perdure.strategies.generators.denoisers import Perceptron, UNet
from perdure.strategies.generators.divergences import sliced_wasserstein
from perdure.strategies.generators.names import GENERATORS, generator
from perdure.strategies.numerics.divergence import Diverged
from perdure.strategies.numerics.rng import Rng
from perdure.testing.equality import same
from perdure.testing.streams import blobs

SMALL = {
    "linear_autoencoder": "linear_autoencoder(3, steps=40)",
    "autoencoder": "autoencoder(3, hidden=(16,), steps=40)",
    "dae": "dae((1, 0.3), hidden=(16,), steps=40)",
    "one noise level": "dae((0.3,), hidden=(16,), steps=40)",
    "aae": "aae(3, hidden=(16,), critic=(8,), steps=40)",
    "wae": "wae(3, hidden=(16,), steps=40)",
    "sliced": "wae(3, hidden=(16,), distance='sliced', steps=40)",
    "critic": "wae(3, hidden=(16,), distance='critic', critic=(8,), steps=40)",
    "spectral": "wae(3, hidden=(16,), distance='critic', lipschitz='spectral', critic=(8,), steps=40)",
    "gan": "gan(4, hidden=(16,), critic=(16,), steps=40)",
    "wgan": "wgan(4, hidden=(16,), critic=(16,), steps=40)",
    "sn-wgan": "wgan(4, hidden=(16,), critic=(16,), lipschitz='spectral', steps=40)",
    "vae": "vae(3, hidden=(16,), steps=40)",
    "gaussian": "vae(3, hidden=(16,), likelihood='gaussian', beta=2, free_bits=0.1, steps=40)",
    "cvae": "cvae(3, hidden=(16,), steps=40)",
    "gated_vae": "gated_vae(3, hidden=(16,), steps=40)",
    "diffusion": "diffusion(times=20, sampling_steps=5, width=16, depth=1, steps=40)",
    "noise": "diffusion(times=20, schedule='linear', predict='noise', sampler='ancestral', width=16, steps=40)",
    "guided": "diffusion(times=20, sampling_steps=5, guidance=1, width=16, depth=1, steps=40)",
    "latent": "diffusion(times=20, sampling_steps=5, latent=3, width=16, depth=1, steps=40)",
}
every = pytest.mark.parametrize("name", SMALL)


def data(classes=3, dim=16):
    split = blobs(tasks=1, classes=classes, dim=dim)[0].train.everything()
    return Data(split.x, split.y)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_every_name_has_a_small_example():
    assert {type(generator(text)) for text in SMALL.values()} == set(GENERATORS.values())


@every
def test_same_seed_same_bits_and_torchs_own_streams_are_left_alone(name):
    one = generator(SMALL[name])
    torch.manual_seed(7)
    fits = [one.fit(data(), Rng(3))]
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), after)
    fits.append(one.fit(data(), Rng(3)))
    assert same(*fits) and not same(fits[0]["nets"], one.fit(data(), Rng(4))["nets"])
    assert torch.equal(one.sample(fits[0], 9, Rng(1)), one.sample(through_a_file(fits[1]), 9, Rng(1)))
    assert not torch.equal(one.sample(fits[0], 9, Rng(1)), one.sample(fits[0], 9, Rng(2)))


@every
def test_samples_have_the_shape_of_the_data_and_stay_in_bounds(name):
    one, (x, y, _) = generator(SMALL[name]), data()
    images = Data((255 * x).to(torch.uint8).view(-1, 1, 4, 4), y)
    told = one.sample(one.fit(images, Rng(0)), 50, Rng(1))
    assert told.shape == (50, 1, 4, 4) and told.dtype == torch.float32
    assert 0 <= told.min() and told.max() <= 1 and told.std(0).min() > 0


@every
def test_it_goes_on_from_a_start_and_remembers_what_it_has_seen(name):
    one, (x, y, _) = generator(SMALL[name]), data()
    first = one.fit(Data(x[y < 2], y[y < 2]), Rng(0), conditions=4)
    before = through_a_file(first)
    dreamt = torch.arange(int((y == 2).sum())) % 2 == 0
    second = one.fit(Data(x[y == 2], y[y == 2], dreamt), Rng(1), first)
    assert same(first, before)
    assert first["seen"].tolist() == [True, True, False, False] and second["seen"].tolist() == [True] * 3 + [False]
    assert not same(first["nets"], second["nets"])


@every
def test_it_tells_of_its_steps(name):
    heard = []
    generator(SMALL[name]).fit(data(), Rng(0), hear=heard.append)
    assert heard[-1].step == heard[-1].steps == 40 and [p.step for p in heard] == sorted({p.step for p in heard})
    assert all("loss" in p.values for p in heard) and heard[-1].epoch == 40  # a batch is all there is


@every
def test_it_reads_back_from_its_own_text(name):
    one = generator(SMALL[name])
    assert generator(spell(one, GENERATORS)) == one


@pytest.mark.parametrize(
    "text",
    [
        "cvae(4, hidden=(64,), steps=600)",
        "gated_vae(4, hidden=(64,), steps=600)",
        "diffusion(width=64, depth=2, steps=1500)",
        "diffusion(predict='velocity', width=64, depth=2, steps=1500)",
    ],
)
def test_a_class_that_is_asked_for_is_what_comes(text):
    one, (x, y, _) = generator(text), data()
    asked = torch.arange(3).repeat_interleave(40)
    told = one.sample(one.fit(Data(x, y), Rng(0)), 120, Rng(1), asked)
    centres = torch.stack([x[y == c].mean(0) for c in range(3)])
    assert (torch.cdist(told, centres).argmin(1) == asked).float().mean() > 0.95


@pytest.mark.parametrize(
    "text",
    [
        "autoencoder(4, hidden=(64,), steps=600)",
        "vae(4, hidden=(64,), likelihood='gaussian', steps=600)",
        "aae(4, hidden=(64,), steps=1000)",
        "wae(4, hidden=(64,), steps=600)",
        "gan(8, hidden=(64,), critic=(64,), steps=1500)",
        "wgan(8, hidden=(64,), critic=(64,), steps=1500)",
        "dae(hidden=(64,), steps=1000)",
        "diffusion(width=64, depth=2, steps=1500)",
        "diffusion(width=64, depth=2, latent=4, steps=2000)",
    ],
)
def test_samples_cover_all_classes(text):
    x, y, _ = data()
    one = generator(text)
    told = one.sample(one.fit(Data(x, y), Rng(0)), 400, Rng(1))
    centres = torch.stack([x[y == c].mean(0) for c in range(3)])
    share = torch.cdist(told, centres).argmin(1).bincount(minlength=3) / 400
    assert torch.special.entr(share).sum() > 0.9 * log(3)


HELD = [name for name in SMALL if name not in ("linear_autoencoder", "noise", "guided", "sliced", "critic", "spectral")]


@pytest.mark.parametrize("name", HELD)
def test_a_generator_that_is_held_still_draws_what_it_drew(name):
    """While it learns another class: its samples move less, from the same noise; without a start nothing is held."""
    (x, y, _), moves = data(), {}
    old, new = Data(x[y == 0], y[y == 0]), Data(x[y == 1], y[y == 1])
    first = generator(SMALL[name]).fit(old, Rng(0), conditions=2)
    asked = torch.zeros(100, dtype=torch.int64) if generator(SMALL[name]).conditional else None
    told = generator(SMALL[name]).sample(first, 100, Rng(2), asked)
    for hold in (0.0, 1e5):
        one = replace(generator(SMALL[name]), hold=hold)
        assert same(one.fit(old, Rng(0), conditions=2), first)
        second = one.fit(new, Rng(1), first)
        if asked is None:
            second = second | {"seen": first["seen"]}  # so that the same numbers are drawn
        moves[hold] = (one.sample(second, 100, Rng(2), asked) - told).square().mean().item()
    assert moves[1e5] < 0.5 * moves[0.0]


@pytest.mark.parametrize("distance", ["sliced_cramer", "mmd"])
def test_a_generator_is_held_in_other_distances(distance):
    (x, y, _), moves = data(), {}
    old, new = Data(x[y == 0], y[y == 0]), Data(x[y == 1], y[y == 1])
    for hold in (0.0, 1e6):
        one = generator(f"gan(4, hidden=(16,), critic=(16,), steps=40, hold={hold}, held_by={distance!r})")
        first = one.fit(old, Rng(0))
        second = one.fit(new, Rng(1), one.fit(old, Rng(0), conditions=2))
        moves[hold] = sliced_wasserstein(one.sample(second, 200, Rng(2)), one.sample(first, 200, Rng(2)))
    assert moves[1e6] < 0.5 * moves[0.0]


def test_a_gan_covers_the_modes_of_a_ring():
    angle = torch.arange(8) * (2 * torch.pi / 8)
    centres = 0.5 + 0.4 * torch.stack([angle.cos(), angle.sin()], 1)
    y = torch.arange(2000) % 8
    x = centres[y] + 0.01 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    one = generator("gan(8, hidden=(64, 64), critic=(64, 64), steps=3000, penalty=0.1)")
    apart, mode = torch.cdist(one.sample(one.fit(Data(x, y), Rng(0)), 1000, Rng(1)), centres).min(1)
    assert (mode[apart < 0.05].bincount(minlength=8) > 10).sum() == 8 and (apart < 0.05).float().mean() > 0.7


def test_refusals():
    one, (x, y, _) = generator("vae(3, hidden=(8,), steps=2)"), data()
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        one.fit(Data(x[:1], y[:1]), Rng(0))
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got \[-1, "):
        one.fit(Data(x.clone().fill_diagonal_(-1), y), Rng(0))
    with pytest.raises(ValueError, match="no conditions to sample by; use cvae"):
        one.sample(one.fit(Data(x, y), Rng(0)), 2, Rng(0), y[:2])
    with pytest.raises(ValueError, match=r"fitted to samples of shape \(16,\), got \(9,\)"):
        one.fit(Data(x[:, :9], y), Rng(0), one.fit(Data(x, y), Rng(0)))
    given = generator("cvae(3, hidden=(8,), steps=2)")
    state = given.fit(Data(x[y != 1], y[y != 1]), Rng(0))
    with pytest.raises(ValueError, match=r"asked for conditions \[1\], which were not in the data; known: \[0, 2\]"):
        given.sample(state, 2, Rng(0), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="Bernoulli likelihood needs values in"):
        generator("vae(bounds=None)")
    with pytest.raises(ValueError, match="hold must not be negative, got -1"):
        generator("vae(hold=-1)")
    with pytest.raises(ValueError, match="solved for the data alone and cannot hold samples; use autoencoder"):
        generator("linear_autoencoder(hold=1)")
    with pytest.raises(ValueError, match="images of sides that 4 divides"):
        generator("diffusion(network='unet', width=8)").fit(Data(torch.rand(4, 1, 6, 6), y[:4]), Rng(0))


def test_diverging_training_is_named_with_its_epoch():
    with pytest.raises(Diverged, match=r"loss of Autoencoder became nan in epoch \d+ \(step \d+\)"):
        generator("autoencoder(3, hidden=(8,), lr=1e30, bounds=None, steps=200)").fit(data(), Rng(0))


def test_a_unet_learns_images():
    one = generator("diffusion(network='unet', width=8, times=20, sampling_steps=5, steps=60, batch_size=16)")
    images, heard = torch.zeros(64, 1, 8, 8), []
    images[:32, :, :4], images[32:, :, 4:] = 1, 1
    state = one.fit(Data(images, torch.arange(64) // 32), Rng(0), hear=heard.append)
    assert heard[-1].values["loss"] < 0.5 * heard[0].values["loss"]
    assert one.sample(state, 4, Rng(0), torch.tensor([0, 0, 1, 1])).shape == (4, 1, 8, 8)
    assert any(isinstance(m, nn.Conv2d) for m in one.restored(state).modules())


@pytest.mark.parametrize("net", [Perceptron(16, 4, 8, 2), UNet((1, 4, 4), 4, 8)], ids=["mlp", "unet"])
def test_few_moments_are_those_of_all_samples(net):
    x, y = torch.rand(6, 16), torch.tensor([3, 0, 3, 3, 1, 0])
    kinds, at = y.unique(return_inverse=True)
    one, few = net(x, torch.full((6,), 0.3), y), net(x, torch.full((3,), 0.3), kinds, at)
    torch.testing.assert_close(one, few)

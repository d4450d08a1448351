"""Noise and the way back: by moments, and step by step beside diffusers' schedulers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from perdure.strategies.generators.schedules import (
    ancestral_step,
    ddim_step,
    from_noise,
    from_velocity,
    kept_signal,
    noised,
    velocity,
)

THEIRS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTS = {"noise": "epsilon", "velocity": "v_prediction"}


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@pytest.mark.parametrize("schedule", THEIRS)
def test_schedules_are_diffusers(schedule):
    theirs = DDPMScheduler(1000, beta_schedule=THEIRS[schedule]).alphas_cumprod
    ours = kept_signal(schedule, 1000)
    assert ours[0] == 1 and (ours.diff() < 0).all()
    torch.testing.assert_close(ours[1:].float(), theirs, atol=1e-6, rtol=1e-4)


def test_noised_samples_have_the_moments_of_the_formula():
    x, kept = 0.7 + 0.5 * rows(200_000), torch.tensor(0.3).double()
    told = noised(x, rows(200_000, seed=1), kept)
    assert told.mean().item() == pytest.approx(0.3**0.5 * 0.7, abs=0.01)
    assert told.var().item() == pytest.approx(0.3 * 0.25 + 0.7, abs=0.01)


def test_velocity_and_noise_say_the_same():
    x, noise, kept = rows(5, 3), rows(5, 3, seed=1), torch.tensor(0.4).double()
    seen = noised(x, noise, kept)
    for told in (from_noise(seen, noise, kept), from_velocity(seen, velocity(x, noise, kept), kept)):
        torch.testing.assert_close(told, (x, noise))


@pytest.mark.parametrize("predict", PREDICTS)
@pytest.mark.parametrize("schedule", THEIRS)
@pytest.mark.parametrize("at", [999, 500, 1])
def test_ancestral_steps_are_diffusers(schedule, predict, at):
    kind = {"beta_schedule": THEIRS[schedule], "prediction_type": PREDICTS[predict], "clip_sample": False}
    theirs = DDPMScheduler(1000, variance_type="fixed_small", **kind)
    x, told = rows(4, 3).float(), rows(4, 3, seed=1).float()
    kept = kept_signal(schedule, 1000).float()[[at + 1, at]]  # their times begin at 0
    clean, _ = (from_noise if predict == "noise" else from_velocity)(x, told, kept[0])
    expected = theirs.step(told, at, x, generator=torch.Generator().manual_seed(3)).prev_sample
    fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    ours = ancestral_step(x, clean, kept[0], kept[1], fresh, "posterior")
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("predict", PREDICTS)
@pytest.mark.parametrize("schedule", THEIRS)
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_steps_are_diffusers(schedule, predict, eta):
    theirs = DDIMScheduler(1000, beta_schedule=THEIRS[schedule], prediction_type=PREDICTS[predict], clip_sample=False)
    theirs.set_timesteps(20)
    x, told, fresh = rows(4, 3).float(), rows(4, 3, seed=1).float(), rows(4, 3, seed=2).float()
    for at in (950, 500, 50):
        kept = kept_signal(schedule, 1000).float()[[at + 1, at + 1 - 50]]
        clean, noise = (from_noise if predict == "noise" else from_velocity)(x, told, kept[0])
        expected = theirs.step(told, at, x, eta=eta, variance_noise=fresh if eta else None).prev_sample
        ours = ddim_step(clean, noise, kept[0], kept[1], fresh, eta)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_with_the_exact_noise_the_way_back_ends_in_the_data(variance):
    """Data N(0.7, 0.5²): E[ε | x_t] is linear in x_t, so the variance can be followed step by step."""
    n, spread = 100_000, 1.0
    kept, x = kept_signal("linear", 1000), rows(n)
    generator = torch.Generator().manual_seed(1)
    for t in range(1000, 0, -1):
        total, alpha = kept[t] * 0.25 + 1 - kept[t], kept[t] / kept[t - 1]
        noise = (1 - kept[t]).sqrt() * (x - kept[t].sqrt() * 0.7) / total
        clean, _ = from_noise(x, noise, kept[t])
        fresh = torch.randn(n, generator=generator, dtype=torch.double) if t > 1 else torch.zeros(n).double()
        x = ancestral_step(x, clean, kept[t], kept[t - 1], fresh, variance)
        added = (1 - alpha) * (1 if variance == "beta" else (1 - kept[t - 1]) / (1 - kept[t])) * (t > 1)
        spread = (1 - (1 - alpha) / total) ** 2 / alpha * spread + added
    assert x.mean().item() == pytest.approx(0.7, abs=0.01)
    assert x.std().item() == pytest.approx(spread.item() ** 0.5, abs=0.004)
    assert spread.item() ** 0.5 == pytest.approx({"beta": 0.5008, "posterior": 0.4961}[variance], abs=1e-4)

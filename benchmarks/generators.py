"""Generators, for a learner that rehearses from their dreams, and for themselves.

Replay is measured on split Fashion-MNIST, class-incremental, at the setting of benchmarks/strategies.py: mlp 400-400,
Adam 1e-3, 250 steps of 128 an experience, mean and 95 % interval over five seeds.
`python -m benchmarks generators`
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice, pairwise, repeat
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from perdure.notation import read
from perdure.platform.reports.page import plain
from perdure.strategies import metrics
from perdure.strategies.generators import evaluate
from perdure.strategies.generators.base import Data
from perdure.strategies.generators.divergences import mmd
from perdure.strategies.generators.names import GENERATORS, generator
from perdure.strategies.generators.variational import VAE
from perdure.strategies.learner import Learner
from perdure.strategies.metrics import Interval
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import pixels
from perdure.streams.names import DATASETS, stream_recipe
from perdure.streams.storage.directories import Places

from .table import show, side_by_side

REPLAY = {
    "generative_replay(vae)": ">= 66",
    "generative_replay(cvae)": ">= 70",
    "generative_replay(gated_vae)": "",
    "brain_inspired": ">= 70",
    "generative_replay(diffusion(depth=2, steps=1500))": ">= 76 within 15 minutes",
    "rehearsal(1000)": "80.8, of another implementation",
}


def replay(seeds: int = 5) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    recipe = stream_recipe("split(fashion_mnist)")
    stream = recipe.arrange(recipe.source().load(Places()))
    rows = [(text, *_replayed(stream, text, seeds), reach) for text, reach in REPLAY.items()]
    head = ("strategy", "accuracy %", "forgetting %", "carried MB", "seconds a run", "reach")
    show("Split Fashion-MNIST, class-incremental, 250 steps of 128 an experience", head, rows)


def _replayed(stream, text: str, seeds: int) -> tuple[str, str, str, str]:
    runs, seconds = [], []
    for seed in range(seeds):
        torch.manual_seed(seed)
        learner = Learner(model("mlp(400, 400)").build((1, 28, 28), stream.classes.shape[1]), Adam(1e-3), Rng(seed))
        start = time.perf_counter()
        runs.append(list(learn(stream, learner, strategy(text), Plan(steps=250, batch_size=128))))
        seconds.append(time.perf_counter() - start)
    matrices = [[stone.accuracy for stone in run] for run in runs]
    measures = (metrics.average_accuracy, metrics.forgetting)
    accuracy, forgetting = (plain(Interval.of([100 * measure(m) for m in matrices])) for measure in measures)
    return accuracy, forgetting, f"{runs[0][-1].state_bytes / 1e6:.1f}", f"{median(seconds):.0f}"


def coverage() -> None:
    """Digits, every generator at its defaults."""
    dataset = read("digits", DATASETS).load(Places())
    data = Data(dataset.train.x, dataset.train.y)
    test = pixels(dataset.test.x)
    by = evaluate.trained(data, Rng(0))
    rows = []
    for name in GENERATORS:
        one, start = generator(name), time.perf_counter()
        state = one.fit(data, Rng(0).fold("fit"))
        seconds, x = time.perf_counter() - start, one.sample(state, 2000, Rng(0).fold("samples"))
        covered = by.coverage(x)
        mark = f"{by.distance(x, test):.1f}"
        rows.append((name, covered.classes, f"{covered.entropy:.3f}", mark, f"{seconds:.0f}", "10, >= 2.1"))
    real = by.coverage(test)
    rows.append(("real test samples", real.classes, f"{real.entropy:.3f}", "0", "", ""))
    show("Digits (8x8), defaults", ("generator", "classes", "entropy (nats)", "Fréchet", "seconds", "reach"), rows)


def likelihood() -> None:
    """Binarised digits: pixels above a half are 1."""
    dataset = read("digits", DATASETS).load(Places())
    train, test = ((pixels(part.x) > 0.5).float() for part in (dataset.train, dataset.test))
    one = VAE(steps=4000)
    state = one.fit(Data(train, dataset.train.y), Rng(0))
    elbo = one.elbo(state, test, dataset.test.y, Rng(1)).mean().item()
    rows = [("ELBO", "", f"{elbo:.2f}")]
    for samples in (10, 100, 1000):
        told = one.log_likelihood(state, test, dataset.test.y, Rng(1), samples).mean().item()
        rows.append(("importance sampling", samples, f"{told:.2f}"))
    show("vae on binarised digits, log p(x) of test samples, nats", ("how", "samples", "nats"), rows)


def sampling() -> None:
    """The same network, as many steps; theirs is what diffusers' pipelines do for each batch."""
    from diffusers import DDIMScheduler, DDPMScheduler

    x = torch.rand(256, 1, 28, 28)
    y = torch.arange(256) % 10
    rows = []
    for text, scheduler, steps in (
        ("diffusion(predict='noise', width=256, depth=2, steps=5)", DDIMScheduler, 25),
        ("diffusion(predict='noise', width=256, depth=2, steps=5, sampler='ancestral')", DDPMScheduler, 200),
        ("diffusion(predict='noise', network='unet', width=16, steps=5)", DDIMScheduler, 25),
    ):
        one = generator(text)
        state = one.fit(Data(x, y), Rng(0))
        net, pace = one.restored(state)["denoiser"], scheduler(200, beta_schedule="squaredcos_cap_v2")

        @torch.no_grad()
        def theirs(pace=pace, net=net, steps=steps):
            image = torch.randn(256, 784, generator=torch.Generator().manual_seed(0))
            pace.set_timesteps(steps)
            for t in pace.timesteps:
                told = net(image, ((t + 1) / 200).expand(256), y)
                image = pace.step(told, t, image).prev_sample
            return (image / 2 + 0.5).clamp(0, 1)

        a, b, ratio = side_by_side(lambda one=one, state=state: one.sample(state, 256, Rng(0), y), theirs)
        rows.append((text, scheduler.__name__, f"{a:.3f}", f"{b:.3f}", f"{1 / ratio:.2f}", ">= 1"))
    show("256 samples of 28x28", ("generator", "diffusers", "ours s", "theirs s", "times as fast", "reach"), rows)


def training(steps: int = 300) -> None:
    """Against a plain PyTorch loop: TensorDataset of floats, DataLoader, torch.optim.Adam, backward and step."""
    dataset = read("fashion_mnist", DATASETS).load(Places())
    data = Data(dataset.train.x, dataset.train.y)
    loader = DataLoader(TensorDataset(pixels(dataset.train.x)), 128, shuffle=True, drop_last=True)
    rows = []
    for name, loop in (("vae", _plain_vae), ("aae", _plain_aae), ("wae", _plain_wae)):
        one = replace(generator(name), steps=steps)
        a, b, ratio = side_by_side(lambda one=one: one.fit(data, Rng(0)), partial(loop, loader, steps), rounds=3)
        rows.append((name, f"{a:.1f}", f"{b:.1f}", f"{1 / ratio:.2f}", ">= 1.5"))
    show(f"{steps} steps of 128, Fashion-MNIST", ("generator", "ours s", "plain s", "times as fast", "reach"), rows)


def mlp(*widths: int) -> nn.Sequential:
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def _endless(loader: DataLoader, steps: int) -> Iterator[Tensor]:
    return (x.flatten(1) for (x,) in islice(chain.from_iterable(repeat(loader)), steps))


def _plain_vae(loader: DataLoader, steps: int) -> None:
    encoder, decoder = mlp(784, 400, 400, 32), mlp(16, 400, 400, 784)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    for x in _endless(loader, steps):
        mean, log_var = encoder(x).chunk(2, 1)
        told = decoder(mean + torch.exp(log_var / 2) * torch.randn_like(mean))
        misfit = F.binary_cross_entropy_with_logits(told, x, reduction="sum") / len(x)
        loss = misfit - 0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum() / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _plain_aae(loader: DataLoader, steps: int) -> None:
    encoder, decoder, critic = mlp(784, 400, 400, 16), mlp(16, 400, 400, 784), mlp(16, 128, 128, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    adversary = torch.optim.Adam(critic.parameters(), 1e-3, (0.5, 0.9))
    for x in _endless(loader, steps):
        z = encoder(x)
        prior = torch.randn_like(z).requires_grad_()
        real = critic(prior)
        (slope,) = torch.autograd.grad(real.sum(), prior, create_graph=True)
        loss = F.softplus(-real).mean() + F.softplus(critic(z.detach())).mean() + slope.pow(2).sum(1).mean() / 2
        adversary.zero_grad()
        loss.backward()
        adversary.step()
        loss = (decoder(z).sigmoid() - x).pow(2).sum(1).mean() + F.softplus(-critic(z)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _plain_wae(loader: DataLoader, steps: int) -> None:
    encoder, decoder = mlp(784, 400, 400, 16), mlp(16, 400, 400, 784)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    for x in _endless(loader, steps):
        z = encoder(x)
        loss = (decoder(z).sigmoid() - x).pow(2).sum(1).mean() + 10 * mmd(z, torch.randn_like(z))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    torch.set_num_threads(1)
    coverage()
    likelihood()
    sampling()
    training()
    replay()

"""Generators, for a learner that rehearses from their dreams, and for themselves.

`python -m benchmarks generators` for everything below, `replay` for the first table alone. That one is split
Fashion-MNIST, class-incremental, at the setting of benchmarks/strategies.py: mlp 400-400, Adam 1e-3, 250 steps of
128 an experience, mean and 95 % interval over five seeds.
"""

import time
import warnings
from statistics import median

import torch

from perdure.platform.report import plain
from perdure.platform.results import Interval
from perdure.strategies import metrics
from perdure.strategies.learner import Learner
from perdure.strategies.loop import Plan, learn
from perdure.strategies.names import model, strategy
from perdure.strategies.optimizers import Adam
from perdure.strategies.rng import Rng
from perdure.streams.names import stream_recipe
from perdure.streams.places import Places

from .table import show

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

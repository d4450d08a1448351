"""Meta-learning: the sinusoid as MAML's paper has it, and what a meta-gradient costs."""

import sys
from math import sqrt

import torch
import torch.nn.functional as F

from perdure.strategies.meta.base import task_loss
from perdure.strategies.meta.maml import ANIL, MAML, MetaSGD, Reptile
from perdure.strategies.meta.train import MetaPlan, judge, meta_learn
from perdure.strategies.models.mlp import MLP
from perdure.strategies.optimizers import Adam
from perdure.strategies.rng import Rng
from perdure.streams.episodes import Sinusoid
from perdure.streams.places import Places

from .table import show

# name, learner, shots, ω is drawn from 1 ± this, tasks in a meta-batch, asked for after 1 step and after 10
SINUSOIDS = (
    ("MAML", MAML(0.01, 1), 10, 0.0, 25, (0.36, 0.12)),
    ("first-order MAML", MAML(0.01, 1, 1), 10, 0.0, 25, (0.50, 0.16)),
    ("Reptile", Reptile(0.02, 5), 10, 0.0, 25, (0.90, 0.40)),
    ("ANIL", ANIL(0.01, 1), 10, 0.0, 25, (0.75, None)),
    ("Meta-SGD, 5 shots", MetaSGD(0.01, 1), 5, 0.2, 4, (0.85, None)),
    ("Meta-SGD, 10 shots", MetaSGD(0.01, 1), 10, 0.2, 4, (0.45, None)),
    ("MAML, 5 shots", MAML(0.01, 1), 5, 0.2, 4, (0.95, None)),
)


def sinusoids(iterations: int = 60_000, only: str = "") -> None:
    """MSE on 1000 test tasks, ± 95 %, trained on as many shots."""
    rows = []
    for name, learner, shots, omega, batch, asked in SINUSOIDS:
        if only not in name:
            continue
        tasks, rng = Sinusoid(shots, 10, omega).tasks(Places()), Rng(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = MLP((40, 40)).build((1,), 1)
        plan = MetaPlan(iterations, batch, iterations, 10)
        loss = task_loss(net, F.mse_loss)
        stone = list(meta_learn(tasks, net, loss, learner, Adam(1e-3), plan, rng))[-1]
        drawn = tasks.draw(1000, rng["test tasks"], "test")
        losses = judge(learner, loss, stone.checkpoint["learned"], drawn, (0, 1, 5, 10), rng)["loss"]
        shown = [f"{v.mean():.3f} ± {1.96 * v.std() / sqrt(len(v)):.3f}" for v in losses]
        rows.append([name, f"{omega:g}", *shown, " / ".join(f"{a:g}" for a in asked if a)])
        print(*rows[-1], flush=True)
    show("sinusoid, MSE", ["method", "omega", "0 steps", "1", "5", "10", "asked for after 1 / 10"], rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sinusoids(*(int(a) for a in sys.argv[1:2]))

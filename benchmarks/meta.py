"""Meta-learning: what a meta-gradient costs, the sinusoid as MAML's paper has it, and few shots of an alphabet."""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import perdure
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.strategies import names
from perdure.strategies.meta.base import MetaLearner, TaskLoss, task_loss, weights_of
from perdure.strategies.meta.loop import MetaPlan, gradient_of, judge, meta_learn
from perdure.strategies.meta.maml import ANIL, MAML, MetaSGD, Reptile
from perdure.strategies.meta.names import meta_learner
from perdure.strategies.models.conv4 import Conv4
from perdure.strategies.models.mlp import MLP
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import Adam
from perdure.streams.datasets.omniglot import Omniglot
from perdure.streams.datasets.strokes import Strokes
from perdure.streams.episodes import Episodes, FewShot, Sinusoid, Tasks
from perdure.streams.storage.directories import DataNotFound, Places

from .table import show, side_by_side

# name, learner, shots, ω is drawn from 1 ± this, tasks in a meta-batch, asked for after 1 step and after 10; the outer
# optimizer is Adam 1e-3, but for that of the published Reptile
SINUSOIDS = (
    ("MAML", MAML(0.01, 1), 10, 0.0, 25, (0.36, 0.12)),
    ("first-order MAML", MAML(0.01, 1, 1), 10, 0.0, 25, (0.50, 0.16)),
    ("Reptile", Reptile(0.02, 5), 10, 0.0, 25, (0.90, 0.40)),
    ("Reptile, Adam", Reptile(0.02, 5), 10, 0.0, 25, (0.90, 0.40)),
    ("ANIL", ANIL(0.01, 1), 10, 0.0, 25, (0.75, None)),
    ("Meta-SGD, 5 shots", MetaSGD(0.01, 1), 5, 0.2, 4, (0.85, None)),
    ("Meta-SGD, 10 shots", MetaSGD(0.01, 1), 10, 0.2, 4, (0.45, None)),
    ("MAML, 5 shots", MAML(0.01, 1), 5, 0.2, 4, (0.95, None)),
)
SEEDS, ITERATIONS = 3, 60_000  # of the sinusoids
MANY = 20  # updates in a row that are timed as one

# meta-learner, outer optimizer, model, iterations, tasks in each
ALPHABET = (
    ("maml(0.4)", "adam", "conv4(32)", 1500, 4),
    ("maml(0.1, 5, order=1)", "adam", "conv4(32)", 600, 4),
    ("anil(0.4)", "adam", "conv4(32)", 2000, 4),
    ("meta_sgd(0.4)", "adam", "conv4(32)", 600, 4),
    ("scheduled_maml(0.1, 3)", "adam", "conv4(32)", 300, 4),
    ("reptile(0.1, 5)", "sgd(0.5)", "conv4(32)", 600, 4),
    ("learned_optimizer", "adam", "conv4(32)", 300, 4),
    ("meta_augmentation(0.4)", "adam", "conv4(32)", 600, 4),
    ("protonets", "adam", "conv4(32)", 600, 4),
    ("darts(0.1, 3)", "adam", "mixed_conv4(32)", 300, 4),
    ("evolution(0.4, sigma=0.02)", "adam(0.005)", "conv4(8)", 800, 16),
)
HARDER = (  # 20-way
    ("maml(0.4)", "adam", "conv4(32)", 600, 4),
    ("protonets", "adam", "conv4(32)", 600, 4),
    ("anil(0.4)", "adam", "conv4(32)", 600, 4),
    ("meta_sgd(0.4)", "adam", "conv4(32)", 600, 4),
    ("reptile(0.1, 5)", "sgd(0.5)", "conv4(32)", 600, 4),
)


def costs() -> None:
    """A meta-update of the sinusoid beside TorchOpt's, one thread; of conv4 together and one after the other."""
    rows = []
    tasks, net = Sinusoid(10, 10).tasks(Places()), seeded(MLP((40, 40)), (1,), 1)
    drawn = tasks.draw(25, torch.Generator().manual_seed(0))
    theirs = torchopts(net, drawn)
    for name, compiled, asked in (("eager", False, 8), ("compiled", True, 12)):
        ours = update(MAML(0.01, 1), net, task_loss(net, F.mse_loss), drawn, compiled)
        mine, other, ratio = side_by_side(many(ours), many(theirs), rounds=15)
        rows.append(
            [
                f"sinusoid, {name}",
                f"{mine * 1e3 / MANY:.2f} ms",
                f"TorchOpt {other * 1e3 / MANY:.2f} ms",
                f"{1 / ratio:.1f}",
                asked,
            ]
        )
    few = FewShot(Strokes(), 5, 1, 5).tasks(Places())
    net = seeded(Conv4(64), few.shape, few.outputs)
    loss, drawn = task_loss(net, F.cross_entropy, 5), few.draw(4, torch.Generator().manual_seed(0))
    ours, loop, vmapped = (
        update(MAML(0.4, 1), net, replace(loss, together=way), drawn) for way in (loss.together, False, True)
    )
    for name, other in (("a loop over tasks", loop), ("vmap", vmapped)):
        mine, took, ratio = side_by_side(ours, other, rounds=7)
        rows.append(["conv4-64", f"{mine * 1e3:.0f} ms", f"{name} {took * 1e3:.0f} ms", f"{1 / ratio:.2f}", 0.95])
    show("a meta-update, second order, one thread", ["of", "ours", "other", "times faster", "asked for"], rows)


def update(learner: MetaLearner, net: nn.Module, loss: TaskLoss, drawn: Episodes, compiled: bool = False):
    learned = {"weights": {k: v.requires_grad_() for k, v in weights_of(net).items()}}
    outer, gradient = Adam(1e-3)(learned["weights"].values()), gradient_of(learner, loss, compiled)

    def once() -> None:
        told = gradient({"weights": {k: v.detach() for k, v in learned["weights"].items()}}, drawn)
        for name, g in told.gradient["weights"].items():
            learned["weights"][name].grad = g
        outer.step()

    return once


def many(once):
    """As training makes updates, one after the other."""
    return lambda: [once() for _ in range(MANY)]


def torchopts(net: nn.Module, drawn: Episodes):
    """The same update as TorchOpt's examples make it."""
    import torchopt

    inner, outer = torchopt.MetaSGD(net, lr=0.01), torch.optim.Adam(net.parameters(), 1e-3)

    def once() -> None:
        outer.zero_grad()
        start, still = torchopt.extract_state_dict(net), torchopt.extract_state_dict(inner)
        losses = []
        for x, y, queries, answers in zip(*drawn, strict=True):
            inner.step(F.mse_loss(net(x), y))
            losses.append(F.mse_loss(net(queries), answers))
            torchopt.recover_state_dict(net, start)
            torchopt.recover_state_dict(inner, still)
        torch.stack(losses).mean().backward()
        outer.step()

    return once


def workers() -> None:
    """Iterations of conv4-64 by one Ray worker's worth of this process, and by two workers; the same bits."""
    learned, seconds = {}, {}
    with tempfile.TemporaryDirectory() as home:
        for count in (1, 2):
            for iterations in (10, 40):
                where = f"{home}/{count}-{iterations}"
                start = time.perf_counter()
                made = perdure.meta(
                    ["maml(0.4)"], "few_shot(strokes, 5, 1)", model="conv4(64)", iterations=iterations, batch=8,
                    parts=2, every=iterations, judged=8, tested=8, adapted=[1],
                    workers=count, here=True, home=where, tracking=False,
                )  # fmt: skip
                seconds[count, iterations] = time.perf_counter() - start
            learned[count] = Store(Site(where).folder(made.outcomes[0].run)).load()["learned"]["weights"]
    one, two = (seconds[count, 40] - seconds[count, 10] for count in (1, 2))
    same = all(torch.equal(v, learned[2][k]) for k, v in learned[1].items())
    row = [f"{one:.1f} s", f"{two:.1f} s", f"{one / two:.2f}", 1.7, "yes" if same else "no"]
    show("conv4-64, 30 iterations of 8 tasks", ["one", "two workers", "times faster", "asked for", "same bits"], [row])


def alphabet() -> None:
    """Accuracy on 300 test tasks of unknown characters, ± 95 %, after as many steps as in training; of real characters
    too, where Omniglot lies in the data folder."""
    rows = []
    for name, source in (("strokes", Strokes()), ("omniglot", Omniglot())):
        for ways, shots, methods in ((5, 1, ALPHABET), (5, 5, ALPHABET), (20, 1, HARDER), (20, 5, HARDER)):
            try:
                tasks = FewShot(source, ways, shots, 5).tasks(Places())
            except DataNotFound:
                rows.append([name, "not in the data folder", "", "", "", ""])
                break
            rows += _judged(f"{name}, {ways}-way {shots}-shot", tasks, methods)
    show("alphabet, accuracy", ["tasks", "method", "%", "iterations", "of tasks", "took"], rows)


def _judged(kind: str, tasks: Tasks, methods: Sequence[tuple[str, str, str, int, int]]) -> Iterator[list[Any]]:
    drawn = tasks.draw(300, Rng(0)["test tasks"], "test")
    distances = torch.cdist(drawn.query_x.flatten(2), drawn.support_x.flatten(2))
    nearest = drawn.support_y.gather(1, distances.argmin(2))
    yield [kind, "nearest in pixels", interval((nearest == drawn.query_y).double().mean(1)), "", "", ""]
    for text, optimizer, model, iterations, batch in methods:
        learner, start, rng = meta_learner(text), time.perf_counter(), Rng(0)
        net = seeded(names.model(model), tasks.shape, learner.width(tasks.outputs, tasks.classes))
        loss = task_loss(net, F.cross_entropy, tasks.classes)
        plan = MetaPlan(iterations, batch, iterations, 40)
        stone = list(meta_learn(tasks, net, loss, learner, names.optimizer(optimizer), plan, rng))[-1]
        (told,) = judge(learner, loss, stone.checkpoint["learned"], drawn, (learner.steps,), rng)["accuracy"]
        row = [kind, text, interval(told), iterations, batch, f"{time.perf_counter() - start:.0f} s"]
        print(*row, flush=True)
        yield row


def interval(values: torch.Tensor) -> str:
    return f"{100 * values.mean():.1f} ± {196 * values.std() / sqrt(len(values)):.1f}"


def seeded(model: Any, shape: tuple[int, ...], outputs: int, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model.build(shape, outputs)


def sinusoids(only: str = "") -> None:
    """MSE on 1000 test tasks, trained on as many shots: the mean over seeds, ± 95 % over tasks.

    Tasks on which so many steps end in numbers that are not finite are counted, and left out of the mean.
    """
    rows = []
    for name, learner, shots, omega, batch, asked in SINUSOIDS:
        if only not in name:
            continue
        outer = names.optimizer(learner.outer if name == "Reptile" else "adam(0.001)")
        told = [list(_mse(learner, outer, shots, omega, batch, seed)) for seed in range(SEEDS)]
        shown = []
        for column in zip(*told, strict=True):
            each = torch.stack(column)  # (SEEDS, tasks)
            fine = each.isfinite()
            mean = torch.where(fine, each, 0).sum() / fine.sum()
            spread = torch.stack([one[ok].mean() for one, ok in zip(each, fine, strict=True)])
            within = 1.96 * each[fine].std() / sqrt(each.shape[1])
            lost = f", {(~fine).sum()} lost" if not fine.all() else ""
            shown.append(f"{mean:.3g} ± {within:.2g} ({spread.min():.3g} to {spread.max():.3g}{lost})")
        rows.append([name, f"{omega:g}", *shown, " / ".join(f"{a:g}" for a in asked if a)])
        print(*rows[-1], flush=True)
    head = ["method", "omega", "0 steps", "1", "5", "10", "asked for after 1 / 10"]
    show(f"sinusoid, MSE, {SEEDS} seeds (each one's mean)", head, rows)


def _mse(learner: MetaLearner, outer: Any, shots: int, omega: float, batch: int, seed: int) -> list[torch.Tensor]:
    """Losses on 1000 tasks after 0, 1, 5 and 10 steps: (1000,) each."""
    tasks, rng = Sinusoid(shots, 10, omega).tasks(Places()), Rng(seed)
    net = seeded(MLP((40, 40)), (1,), 1, seed)
    loss = task_loss(net, F.mse_loss)
    plan = MetaPlan(ITERATIONS, batch, ITERATIONS, 10, compiled=True)
    stone = list(meta_learn(tasks, net, loss, learner, outer, plan, rng))[-1]
    drawn = tasks.draw(1000, rng["test tasks"], "test")
    return judge(learner, loss, stone.checkpoint["learned"], drawn, (0, 1, 5, 10), rng)["loss"]


def main() -> None:
    torch.set_num_threads(1)
    costs()
    workers()
    alphabet()
    sinusoids()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"costs": costs, "workers": workers, "alphabet": alphabet, "sinusoids": sinusoids}[sys.argv[1]](*sys.argv[2:])

"""Gradient projection alone, on sparse codes, and on sparse codes with heterogeneous dropout.

Permuted data, one head, no biases, plain SGD, batches of 10, inputs standardized. Reported are accuracy on the first
task when it was new, final average accuracy, backward transfer, the occupied rank of every layer and the overlap of
the tasks' hidden units at the end: means over seeds, with 95 % intervals. `python -m benchmarks projection`; the rows
at one learning rate alone, and their differences paired by seed: `python -m benchmarks.projection same SEEDS`
"""

import sys
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from perdure.platform.reports.page import plain
from perdure.strategies import metrics
from perdure.strategies.learner import Learner
from perdure.strategies.methods.heterogeneous_dropout import overlap
from perdure.strategies.metrics import Interval
from perdure.strategies.models.winners import Winners
from perdure.strategies.names import model, optimizer, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Stream
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from .table import show

MOMENTS = {"fashion_mnist": "0.286, 0.353", "digits": "0.305, 0.376"}  # mean and deviation of all pixels
HEAD = ("strategy", "model", "sgd", "first %", "final %", "BWT %", "ranks", "overlap %", "reach")


@dataclass(frozen=True)
class Setting:
    data: str
    tasks: int
    plan: Plan
    rows: tuple[tuple[str, str, float, str], ...]  # strategy, model, learning rate, what is to be reached

    def title(self) -> str:
        length = f"{self.plan.steps} steps" if self.plan.steps else f"{self.plan.epochs} epochs"
        return f"Permuted {self.data}, {self.tasks} tasks, {length} of 10"


SMALL, WIDE, SPARSE = (
    "mlp(100, 100, bias=False)",
    "mlp(200, 200, bias=False)",
    "mlp(200, 200, bias=False, winners=0.05)",
)
GPM = "gpm((0.95, 0.99, 0.99))"
THREE = (
    (GPM, WIDE, 0.01, ""),
    (GPM, SPARSE, 0.05, "ranks below, accuracy above"),
    (f"{GPM} + heterogeneous_dropout(0.2)", SPARSE, 0.05, "the same"),
)
SAME = tuple(  # dense and sparse at one learning rate
    (text, net, 0.05, "")
    for text, net in (
        (GPM, WIDE),
        (GPM, SPARSE),
        (f"{GPM} + heterogeneous_dropout(0.2)", SPARSE),
    )
)
PUBLISHED = (("gpm((0.9, 0.995, 0.995))", SMALL, 0.01, "81.9, BWT -2.5"), ("naive", SMALL, 0.01, ""))
SETTINGS = (
    Setting("digits", 10, Plan(epochs=5, batch_size=10), tuple((s, m, lr, "") for s, m, lr, _ in PUBLISHED)),
    Setting("fashion_mnist", 10, Plan(epochs=1, batch_size=10), PUBLISHED),
    Setting("fashion_mnist", 10, Plan(steps=3000, batch_size=10), THREE),
    Setting("fashion_mnist", 20, Plan(steps=3000, batch_size=10), THREE),
)


def main(seeds: int = 3) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for setting in SETTINGS:
        stream = _stream(setting)
        told = [[_run(stream, setting, row, seed) for seed in range(seeds)] for row in setting.rows]
        show(setting.title(), HEAD, [_shown(*each) for each in zip(setting.rows, told, strict=True)])
    same()


def same(seeds: int = 5, tasks: int = 5) -> None:
    """Dense and sparse at one learning rate, and what sparse codes and heterogeneous dropout change, seed by seed."""
    setting = Setting("fashion_mnist", tasks, Plan(steps=1000, batch_size=10), SAME)
    stream, told = _stream(setting), [[] for _ in SAME]
    for seed in range(seeds):  # so that what is known where this is ended early is known of all rows
        for row, runs in zip(SAME, told, strict=True):
            runs.append(_run(stream, setting, row, seed))
            print(seed, row[0], row[1], runs[-1], flush=True)
    show(f"{setting.title()}, {seeds} seeds", HEAD, [_shown(*each) for each in zip(SAME, told, strict=True)])
    pairs = (("winners - dense", 1, 0), ("dropout - winners", 2, 1))
    rows = [
        _shown((name, "", 0.05, ""), [_minus(*pair) for pair in zip(told[a], told[b], strict=True)])
        for name, a, b in pairs
    ]
    show("differences, paired by seed", HEAD, rows)


def _stream(setting: Setting) -> Stream:
    recipe = stream_recipe(f"permuted({setting.data}, {setting.tasks})")
    return recipe.arrange(recipe.source().load(Places()))


@dataclass(frozen=True)
class Told:
    """Of one run at its end."""

    figures: tuple[float, float, float]  # accuracy on the first task when it was new, in the end, BWT: in %
    ranks: tuple[float, ...]  # one a layer
    overlaps: tuple[float, ...]  # one a hidden layer, in %


def _shown(row: tuple[str, str, float, str], runs: list[Told]) -> tuple[str, ...]:
    text, net, lr, reach = row
    figures, ranks, overlaps = (
        [plain(Interval.of(column)) for column in zip(*each, strict=True)]
        for each in ([r.figures for r in runs], [r.ranks for r in runs], [r.overlaps for r in runs])
    )
    return text, net, f"{lr:g}", *figures, " / ".join(ranks), " / ".join(overlaps), reach


def _minus(one: Told, other: Told) -> Told:
    pairs = ((one.figures, other.figures), (one.ranks, other.ranks), (one.overlaps, other.overlaps))
    return Told(*(tuple(a - b for a, b in zip(*pair, strict=True)) for pair in pairs))


def _run(stream: Stream, setting: Setting, row: tuple[str, str, float, str], seed: int) -> Told:
    text, net, lr, _ = row
    torch.manual_seed(seed)
    inner = model(f"standardized({net}, {MOMENTS[setting.data]})").build(stream.shape, stream.classes.shape[1])
    learner = Learner(inner, optimizer(f"sgd({lr})"), Rng(seed))
    stones = list(learn(stream, learner, strategy(text), setting.plan))
    matrix = [stone.accuracy for stone in stones]
    figures = (matrix[0][0], metrics.average_accuracy(matrix), metrics.backward_transfer(matrix))
    ranks = tuple(v for k, v in stones[-1].extras.items() if k.startswith("rank/"))
    return Told(tuple(100 * f for f in figures), ranks, tuple(100 * o for o in _overlaps(stream, learner)))


@torch.no_grad()
def _overlaps(stream: Stream, learner: Learner, count: int = 1000) -> list[float]:
    """Of every hidden layer: how much the tasks share of which units are active, by 1,000 test samples of each.

    Where the units compete (winners), those that won; else those that ReLU leaves above 0.
    """
    found = [m for m in learner.model.modules() if isinstance(m, Winners)]
    layers = found or [m for m in learner.model.modules() if isinstance(m, nn.ReLU)]
    active: list[list[Tensor]] = [[] for _ in layers]
    kept = [
        layer.register_forward_hook(lambda _, x, h, own=own: own.append((h != 0).double().sum(0)))
        for layer, own in zip(layers, active, strict=True)
    ]
    learner.model.eval()
    for experience in stream:
        learner.model(experience.test.batch(torch.arange(count)).x)
    for hook in kept:
        hook.remove()
    return [overlap(own) for own in active]


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    {"same": same, "all": main}[sys.argv[1] if sys.argv[1:] else "all"](*map(int, sys.argv[2:]))

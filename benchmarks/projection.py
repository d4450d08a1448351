"""Gradient projection alone, on sparse codes, and on sparse codes with heterogeneous dropout.

Permuted data, one head, no biases, plain SGD, batches of 10, inputs standardized. Reported are accuracy on the first
task when it was new, final average accuracy, backward transfer and the occupied rank of every layer: means over
seeds, with 95 % intervals. `python -m benchmarks projection`
"""

import warnings
from dataclasses import dataclass

import torch

from perdure.platform.report import plain
from perdure.platform.results import Interval
from perdure.strategies import metrics
from perdure.strategies.learner import Learner
from perdure.strategies.loop import Plan, learn
from perdure.strategies.names import model, optimizer, strategy
from perdure.strategies.rng import Rng
from perdure.streams.experience import Stream
from perdure.streams.names import stream_recipe
from perdure.streams.places import Places

from .table import show

MOMENTS = {"fashion_mnist": "0.286, 0.353", "digits": "0.305, 0.376"}  # mean and deviation of all pixels
HEAD = ("strategy", "model", "sgd", "first %", "final %", "BWT %", "ranks", "reach")


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
        recipe = stream_recipe(f"permuted({setting.data}, {setting.tasks})")
        stream = recipe.arrange(recipe.source().load(Places()))
        show(setting.title(), HEAD, [_row(stream, setting, row, seeds) for row in setting.rows])


def _row(stream: Stream, setting: Setting, row: tuple[str, str, float, str], seeds: int) -> tuple[str, ...]:
    text, net, lr, reach = row
    runs = [_run(stream, setting, text, net, lr, seed) for seed in range(seeds)]
    first, final, transfer, *ranks = (plain(Interval.of([run[k] for run in runs])) for k in range(min(map(len, runs))))
    return text, net, f"{lr:g}", first, final, transfer, " / ".join(ranks), reach


def _run(stream: Stream, setting: Setting, text: str, net: str, lr: float, seed: int) -> list[float]:
    torch.manual_seed(seed)
    inner = model(f"standardized({net}, {MOMENTS[setting.data]})").build(stream.shape, stream.classes.shape[1])
    learner = Learner(inner, optimizer(f"sgd({lr})"), Rng(seed))
    stones = list(learn(stream, learner, strategy(text), setting.plan))
    matrix = [stone.accuracy for stone in stones]
    ranks = [v for k, v in stones[-1].extras.items() if k.startswith("rank/")]
    return [100 * matrix[0][0], 100 * metrics.average_accuracy(matrix), 100 * metrics.backward_transfer(matrix), *ranks]


if __name__ == "__main__":
    main()

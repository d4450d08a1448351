"""Split Fashion-MNIST under the three protocols: final average accuracy, mean and 95 % interval over five seeds.

mlp 400-400, Adam 1e-3, batch 128, 250 steps an experience, the same for every row; 1,000 samples (100 a class)
where there is a memory. Strengths were chosen on a seed that is not among those reported.
`python -m benchmarks strategies`
"""

import warnings

import torch

from perdure.platform.reports.page import plain
from perdure.strategies import metrics
from perdure.strategies.learner import Learner
from perdure.strategies.metrics import Interval
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from .table import show

CLASS = {
    "naive": "19.9 +- 1",
    "joint": ">= 86",
    "rehearsal(1000)": ">= 80.8",
    "rehearsal(1000, selection='reservoir')": "",
    "rehearsal(1000, selection='herding')": "",
    "rehearsal(1000, selection='k_centre')": "",
    "rehearsal(1000, selection='gradient')": "",
    "rehearsal(100)": "",
    "distilled(100)": "",
    "der(1000)": "",
    "der(1000, beta=0.5)": ">= rehearsal(1000)",
    "icarl(1000)": ">= 69.9",
    "agem(1000)": ">= 34.6",
    "gem(1000)": "",
    "lwf": "20.7",
    "lwf(1000)": "20.7",
    "ewc": "19.9",
    "si": "",
    "mas": "",
    "rehearsal(1000) + lwf": "",
}
TASK = ("naive", "joint", "ewc(10000)", "functional(100)", "functional(1000, distance='sliced_cramer')")
TASK += ("functional(1000, distance='mmd')", "si(100)", "mas", "lwf", "xdg", "xdg + si", "agem(1000)")
TASK += ("rehearsal(1000)", "der(1000, beta=0.5)")
DOMAIN = ("naive", "joint", "ewc(100)", "functional(1)", "functional(10, distance='sliced_cramer')")
DOMAIN += ("functional(100, distance='mmd')", "si", "mas(10)", "lwf", "agem(1000)", "icarl(1000)")
DOMAIN += ("rehearsal(1000)", "der(1000, beta=0.5)")


def main(seeds: int = 5) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for protocol, asked in (("class", CLASS), ("task", dict.fromkeys(TASK, "")), ("domain", dict.fromkeys(DOMAIN, ""))):
        recipe = stream_recipe(f"split(fashion_mnist, protocol={protocol!r})")
        stream = recipe.arrange(recipe.source().load(Places()))
        rows = [(text, *_row(stream, text, seeds), reach) for text, reach in asked.items()]
        title = f"Split Fashion-MNIST, {protocol}-incremental, 250 steps of 128 an experience"
        show(title, ("strategy", "accuracy %", "forgetting %", "reach"), rows)


def _row(stream, text: str, seeds: int) -> tuple[str, str]:
    matrices = [matrix(stream, text, seed) for seed in range(seeds)]
    measures = (metrics.average_accuracy, metrics.forgetting)
    accuracy, forgetting = (plain(Interval.of([100 * measure(m) for m in matrices])) for measure in measures)
    return accuracy, forgetting


def matrix(stream, text: str, seed: int) -> list:
    """Accuracies after every experience, of one run."""
    torch.manual_seed(seed)
    learner = Learner(model("mlp(400, 400)").build((1, 28, 28), stream.classes.shape[1]), Adam(1e-3), Rng(seed))
    return [stone.accuracy for stone in learn(stream, learner, strategy(text), Plan(steps=250, batch_size=128))]


if __name__ == "__main__":
    main()

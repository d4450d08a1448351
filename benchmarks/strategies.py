"""Split Fashion-MNIST, class-incremental: final average accuracy, mean and 95 % interval over five seeds.

mlp 400-400, Adam 1e-3, batch 128, 250 steps an experience, the same for every row. `python -m benchmarks.strategies`
"""

import torch
from scipy import stats

from perdure.strategies.learner import Learner
from perdure.strategies.loop import Plan, learn
from perdure.strategies.names import model, strategy
from perdure.strategies.optimizers import Adam
from perdure.strategies.rng import Rng
from perdure.streams.names import stream_recipe
from perdure.streams.places import Places

from .table import show

REACH = {"naive": "19.9 +- 1", "rehearsal(1000)": ">= 79", "joint": ">= 86", "ewc": "", "lwf": ""}


def main(seeds: int = 5) -> None:
    torch.set_num_threads(1)
    recipe = stream_recipe("split(fashion_mnist)")
    stream = recipe.arrange(recipe.source().load(Places()))
    rows = [(text, *_interval([_final(stream, text, seed) for seed in range(seeds)]), r) for text, r in REACH.items()]
    show("Final accuracy, split Fashion-MNIST, 250 steps of 128 an experience", ("what", "%", "+-", "reach"), rows)


def _final(stream, text: str, seed: int) -> float:
    torch.manual_seed(seed)
    learner = Learner(model("mlp(400, 400)").build((1, 28, 28), 10), Adam(1e-3), Rng(seed))
    last = list(learn(stream, learner, strategy(text), Plan(steps=250, batch_size=128)))[-1]
    return 100 * sum(last.accuracy) / len(stream)


def _interval(values: list[float]) -> tuple[str, str]:
    x = torch.tensor(values, dtype=torch.double)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std().item() / len(x) ** 0.5
    return f"{x.mean().item():.1f}", f"{half:.1f}"


if __name__ == "__main__":
    main()

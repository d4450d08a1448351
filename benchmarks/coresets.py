"""Learned images against the real ones that they begin with, and against rehearsal of as many.

Split Fashion-MNIST, class-incremental, in the setting of the strategies: final average accuracy in %, mean and 95 %
interval over five seeds, and of the difference to `distilled` at the same seed. `python -m benchmarks coresets`
"""

import time
import warnings

import torch

from perdure.platform.reports.page import plain
from perdure.strategies import metrics
from perdure.strategies.metrics import Interval
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from .strategies import matrix
from .table import show

RIVALS = ("distilled({n}, steps=0)", "rehearsal({n})")


def main(seeds: int = 5, capacities: tuple[int, ...] = (100, 200)) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    recipe = stream_recipe("split(fashion_mnist, protocol='class')")
    stream = recipe.arrange(recipe.source().load(Places()))
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        for n in capacities:
            for text in (form.format(n=n) for form in ("distilled({n})", *RIVALS)):
                found.setdefault(text, []).append(_measured(stream, text, seed))
                print(f"  seed {seed}: {text} {found[text][-1][0]:.2f} in {found[text][-1][1]:.0f} s", flush=True)
    rows = [row for n in capacities for row in _rows(found, f"distilled({n})", [form.format(n=n) for form in RIVALS])]
    title = f"Learned images, split Fashion-MNIST, class-incremental, {seeds} seeds"
    show(title, ("strategy", "accuracy %", "distilled is better by", "seconds"), rows)


def _measured(stream, text: str, seed: int) -> tuple[float, float]:
    """Accuracy in %, and seconds of this process."""
    start = time.process_time()
    return 100 * metrics.average_accuracy(matrix(stream, text, seed)), time.process_time() - start


def _rows(found, ours: str, rivals: list[str]):
    for text in (ours, *rivals):
        accuracy = [value for value, _ in found[text]]
        better = [a - b for (a, _), b in zip(found[ours], accuracy, strict=True)]
        seconds = sum(s for _, s in found[text]) / len(accuracy)
        yield text, plain(Interval.of(accuracy)), "" if text == ours else plain(Interval.of(better)), f"{seconds:.0f}"


if __name__ == "__main__":
    main()

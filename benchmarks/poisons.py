"""Poisons beside defences: what a poisoner gets, and what it costs the learner.

The digits in one experience, networks trained from scratch as a run does by default (Adam 1e-3, 20 epochs of batch 32).
Five pairs of classes, another test sample and other weights for each; the poisons' defaults were chosen on other pairs
(CHOSEN_ON) and other seeds. Every poison is at its defaults but for the pair: `flipped` turns a fifth of a class, as
many samples as the others change.
`python -m benchmarks poisons`
"""

import time
from statistics import mean

import torch

from perdure.strategies.learner import Learner
from perdure.strategies.names import model, optimizer, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import judged, learn
from perdure.strategies.training.plan import Milestone, Plan
from perdure.streams.datasets.dataset import Dataset
from perdure.streams.experience import Stream
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from .table import show

CHOSEN_ON = ((8, 3), (1, 7), (0, 6), (5, 9), (2, 4))  # and seeds 0 to 4
PAIRS = ((3, 2), (9, 5), (6, 8), (7, 1), (4, 0))  # of what is to be mistaken, for what
SEED = 10
CLEAN = "split(digits, 1)"
POISONS = {
    "none": CLEAN,
    "flipped": f"flipped({CLEAN}, of={{of}}, target={{target}}, share=0.2, seed={{seed}})",
    "backdoored": f"backdoored({CLEAN}, target={{target}}, seed={{seed}})",
    "collided": f"collided({CLEAN}, of={{of}}, target={{target}}, seed={{seed}})",
    "matched": f"matched({CLEAN}, of={{of}}, target={{target}}, seed={{seed}})",
}
DEFENCES = {"none": "{}", "spectral": "cleansed({})", "loss": "cleansed({}, by='loss')"}
VICTIMS = ("mlp(64, 64)", "convnet(16, 32)")


def victim(stream: Stream, text: str, seed: int) -> tuple[float, float, float]:
    """Poison success, clean test accuracy and accuracy on the training samples as they are, from scratch."""
    torch.manual_seed(seed)
    learner = Learner(model(text).build(stream.shape, stream.classes.shape[1]), optimizer("adam"), Rng(seed))
    (stone,) = learn(stream, learner, strategy("naive"), Plan(epochs=20, batch_size=32))
    assert isinstance(stone, Milestone)
    whole = stream[0]
    fitted = type(whole)(0, whole.task, whole.train, whole.train)
    (seen,) = judged(learner, [fitted], lambda b: learner.outputs(b.x, b.task))
    return stone.extras.get("poison_success", float("nan")), stone.accuracy[0], seen


def measured(poison: str, data: Dataset) -> dict[tuple[str, str], list[tuple[float, float, float]]]:
    """Of every defence and victim what it came to for each pair; the seconds that crafting took under ("", "")."""
    told: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for n, (of, target) in enumerate(PAIRS):
        text = POISONS[poison].format(of=of, target=target, seed=SEED + n)
        for defence, around in DEFENCES.items():
            start = time.perf_counter()
            stream = stream_recipe(around.format(text)).arrange(data)
            stream[0]  # made when it is first asked for, and kept
            if defence == "none":
                told.setdefault(("", ""), []).append((time.perf_counter() - start, 0.0, 0.0))
            for net in VICTIMS:
                told.setdefault((defence, net), []).append(victim(stream, net, SEED + n))
    return told


def main() -> None:
    torch.set_num_threads(1)
    data, rows = stream_recipe(CLEAN).source().load(Places()), []
    for poison in POISONS:
        told = measured(poison, data)
        seconds = mean(s for s, *_ in told.pop(("", "")))
        for (defence, net), every in told.items():
            got, clean, seen = zip(*every, strict=True)
            success = "–" if poison == "none" else f"{100 * mean(got):.0f}"
            cells = (success, f"{100 * mean(clean):.1f}", f"{100 * mean(seen):.1f}", f"{seconds:.1f}")
            rows.append((poison, defence, net, *cells))
    head = ("poison", "defence", "victim", "success %", "clean %", "training %", "seconds to craft")
    show(f"Poisons on {CLEAN}, {len(PAIRS)} pairs of classes", head, rows)

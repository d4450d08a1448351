"""What eighty steps of an epoch ask of a device, by torch's profiler: no waiting. `python -m benchmarks.waits`

By SGD, for the CPU kernel of Adam reads its own counters. On a GPU where there is one. The trace goes to a path that is
given, for chrome://tracing or Perfetto.
"""

import itertools
import sys
import warnings

import torch
from torch.profiler import ProfilerActivity, profile

from perdure.strategies.learner import Learner
from perdure.strategies.models.device import placed
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Plan

from .gpu import drawn
from .table import show

FIRST, LAST = 10, 90
WAITS = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "cudaStreamSynchronize",
         "cudaDeviceSynchronize", "cudaEventSynchronize")  # fmt: skip


def main(path: str = "", text: str = "rehearsal(500) + ewc") -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    one = Learner(placed(model("mlp(400, 400)").build((1, 28, 28), 10), device), SGD(0.1), Rng(0))
    watch = profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda"))
    step = itertools.count(1)

    def due() -> bool:
        now = next(step)
        if now == FIRST:
            watch.start()
        if now == LAST:
            watch.stop()
        return False

    warnings.simplefilter("ignore")
    list(learn(drawn((1, 28, 28), 128 * 99, device), one, strategy(text), Plan(), due=due))
    counts = {event.key: event.count for event in watch.key_averages()}
    often = sorted(counts.items(), key=lambda pair: -pair[1])[:12]
    steps = LAST - FIRST
    show(f"{text} on {device}, steps {FIRST} to {LAST}", ("what", "times a step"), [(k, n / steps) for k, n in often])
    show("What waits", ("what", "times in all"), [(name, counts.get(name, 0)) for name in WAITS])
    if path:
        watch.export_chrome_trace(path)


if __name__ == "__main__":
    main(*sys.argv[1:2])

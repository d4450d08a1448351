"""What a step waits for its batch, where the data are in memory, mapped and read before, or on the disk alone.

resnet18, batches of 32 images, one thread for training. A wait is the time until the loop has its next batch; its first
steps, while the thread gets ahead, are left out. `python -m benchmarks.data`
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch

from perdure.strategies.learner import Learner
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Plan
from perdure.streams.datasets.placement import Draft
from perdure.streams.experience import Experience, Lazy, Split, Stream
from perdure.streams.storage.memory_map import Filed, Mapped

from .table import show

COUNT, BATCH, CLASSES, FIRST = 50_000, 32, 10, 3


class Timed(Split):
    """A split that notes when its batches are asked for and had. ahead: whether they are read before they are."""

    def __init__(self, *parts, ahead: bool = True):
        super().__init__(*parts)
        self.asked, self.had, self.ahead = [], [], ahead

    def batches(self, indices):
        batches = super().batches(indices) if self.ahead else map(self.batch, indices)
        while True:
            self.asked.append(time.perf_counter())
            batch = next(batches, None)
            if batch is None:
                return
            self.had.append(time.perf_counter())
            yield batch

    @property
    def stall(self) -> tuple[float, float, float]:
        """Share of the time that is waited, median seconds of a wait and of a step, in steady state."""
        waits = [had - asked for asked, had in zip(self.asked, self.had, strict=False)][FIRST:]
        steps = [after - asked for asked, after in zip(self.asked, self.asked[1:], strict=False)][FIRST:]
        return sum(waits[: len(steps)]) / sum(steps), median(waits), median(steps)


def main(steps: int = 12) -> None:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side in (32, 64):
            path = Path(folder, f"{side}.npy")
            Draft((COUNT, 3, side, side), np.uint8, lambda side=side: _noise(side)).write(path)
            for what, ahead in (
                ("memory", True),
                ("mapped, warm", True),
                ("mapped, cold", True),
                ("cold, not ahead", False),
            ):
                rows.append((f"{side} x {side}", what, *_measured(path, what, ahead, steps)))
    head = ("images", "held", "stall", "wait ms", "step ms", "read a step")
    show(f"Data: stall of resnet18, batch {BATCH} (to reach: < 5 % of a step)", head, rows)


def _measured(path: Path, what: str, ahead: bool, steps: int) -> tuple[str, ...]:
    x = torch.from_numpy(np.load(path)) if what == "memory" else Mapped(Filed.of(path))
    if what == "mapped, warm":
        path.read_bytes()
    elif what != "memory":
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    y = torch.arange(COUNT) % CLASSES
    parts = (x, y, torch.zeros_like(y), torch.arange(COUNT))
    train, one = Timed(*parts, ahead=ahead), Split(*parts).part(torch.arange(1))
    stream = Stream(Lazy(1, lambda i: Experience(0, 0, train, one)), torch.ones(1, CLASSES, dtype=torch.bool), "domain")
    net = model("resnet18").build(tuple(x.shape[1:]), CLASSES)
    before = _read()
    list(learn(stream, Learner(net, SGD(0.01), Rng(0)), strategy("naive"), Plan(batch_size=BATCH, steps=steps)))
    share, wait, step = train.stall
    read = (_read() - before) / steps
    return f"{100 * share:.2f} %", f"{1000 * wait:.2f}", f"{1000 * step:.0f}", f"{read / 1000:.0f} kB"


def _noise(side: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(COUNT // 1000):
        yield rng.integers(0, 256, (1000, 3, side, side), dtype=np.uint8)


def _read() -> int:
    """Bytes that this process has had fetched from a disk."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


if __name__ == "__main__":
    main()

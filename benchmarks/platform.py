"""What the fleet costs, and what a second actor brings. `python -m benchmarks.platform`"""

import tempfile
import time
from contextlib import closing
from dataclasses import replace

from perdure.platform import cluster
from perdure.platform.fleet import Fleet
from perdure.platform.run import Run
from perdure.platform.site import Site
from perdure.strategies.loop import Plan

from .table import show

TRIVIAL = Run("naive", "split(digits, 2)", "mlp(8)", plan=Plan(steps=1, batch_size=8))
LONG = Run("rehearsal(200)", model="mlp(256, 256)", plan=Plan(epochs=30, batch_size=32))


def main() -> None:
    cluster.connect()
    rows = [("overhead per run, 12 trivial runs on 2 warm actors", f"{_overhead():.0f} ms", "<= 50 ms")]
    ratio = sorted(_speed_up(round) for round in range(3))[1]
    rows.append(("8 equal runs on 2 one-thread actors against 1", f"{ratio:.2f} x", ">= 1.85 x"))
    show("Platform", ("what", "measured", "reach"), rows)
    cluster.disconnect()


def _overhead() -> float:
    """Milliseconds from one run's end to the next one's, each a step per experience: all that is not learning."""
    runs = [replace(TRIVIAL, seed=seed) for seed in range(12)]
    with tempfile.TemporaryDirectory() as folder, closing(Fleet(Site(folder), slots=2)) as fleet:
        _seconds(fleet, [replace(TRIVIAL, seed=seed) for seed in range(100, 104)])  # warm
        return 1000 * _seconds(fleet, runs) / len(runs)


def _speed_up(round: int) -> float:
    runs = [replace(LONG, seed=8 * round + k) for k in range(8)]
    spent = []
    for slots in (1, 2):
        with tempfile.TemporaryDirectory() as folder, closing(Fleet(Site(folder), slots=slots)) as fleet:
            _seconds(fleet, [replace(TRIVIAL, seed=s) for s in range(4)])  # warm
            spent.append(_seconds(fleet, runs))
    return spent[0] / spent[1]


def _seconds(executor, runs) -> float:
    start = time.perf_counter()
    for _ in executor.map(runs):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

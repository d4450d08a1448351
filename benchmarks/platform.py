"""What the fleet costs, what a second actor brings, and what faults cost. `python -m benchmarks.platform`"""

import os
import signal
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from perdure.platform.cluster import connection
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.runs.events import Failed, Lost, Reached, Started
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.background_saver import Saving
from perdure.platform.storage.checkpoints import Store
from perdure.strategies.names import model
from perdure.strategies.numerics.pytree import copied
from perdure.strategies.training.plan import Plan
from tests.platform.fleet.soak import soaked

from .table import show

TRIVIAL = Run("naive", "split(digits, 2)", "mlp(8)", plan=Plan(steps=1, batch_size=8))
LONG = Run("rehearsal(200)", model="mlp(256, 256)", plan=Plan(epochs=30, batch_size=32))
HALF_A_SECOND = Run("rehearsal(20)", "split(digits, 2)", "mlp(64, 64)", plan=Plan(epochs=10, batch_size=32))


def main() -> None:
    connection.connect()
    few, many = _overhead()
    rows = [("overhead per run, 12 trivial runs on 2 warm actors", f"{few:.0f} ms", "<= 50 ms")]
    rows.append(("the same, 500 runs", f"{many:.0f} ms", "<= 50 ms"))
    died = [_death(n) for n in range(3)]
    for what, seconds in zip(("noticed", "resumed"), zip(*died, strict=True), strict=True):
        told = f"{statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
        rows.append((f"an actor's death {what}, 3 kills, a spare held", told, "<= 1.5 s" if what == "resumed" else ""))
    snapshot, stall, total = _checkpoint()
    rows.append(("resnet18, Adam, 2,000 images: a checkpoint on disk after", f"{total:.2f} s", "<= 0.3 s"))
    rows.append(("training waits for its snapshot", f"{1000 * snapshot:.0f} ms", ""))
    rows.append(("and for its save", f"{1000 * stall:.1f} ms", "0"))
    show("Platform", ("what", "measured", "reach"), rows)
    _soak()
    ratio = sorted(_speed_up(round) for round in range(3))[1]
    show("Two actors", ("what", "measured", "reach"), [("8 equal runs against 1", f"{ratio:.2f} x", ">= 1.85 x")])
    connection.disconnect()


def _overhead() -> list[float]:
    """Milliseconds from one run's end to the next one's, each a step per experience: all that is not learning."""
    with tempfile.TemporaryDirectory() as folder, closing(Fleet(Site(folder), slots=2)) as fleet:
        _seconds(fleet, [replace(TRIVIAL, seed=seed) for seed in range(1000, 1004)])  # warm
        spent = []
        for first, count in ((0, 12), (100, 500)):
            runs = [replace(TRIVIAL, seed=first + n) for n in range(count)]
            spent.append(1000 * _seconds(fleet, runs) / count)
        return spent


def _death(seed: int) -> tuple[float, float]:
    """Seconds from the SIGKILL of a busy actor to word of it, and to its run going on in another process."""
    runs = [replace(LONG, seed=seed + n, plan=Plan(epochs=400, batch_size=32)) for n in (0, 100)]
    where, struck, noticed = "", 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder, closing(Fleet(Site(folder), slots=2, spare_after=0.0)) as fleet:
        for event in fleet.map(runs):
            if isinstance(event, Lost):
                noticed = time.perf_counter() - struck
            elif isinstance(event, Started) and event.run == runs[0].id:
                if struck:
                    return noticed, time.perf_counter() - struck
                where = event.where
            elif isinstance(event, Reached) and event.run == runs[0].id and event.row["experience"] == 2:
                struck = time.perf_counter()  # the spare one is up by now
                os.kill(int(where.rpartition(":")[2]), signal.SIGKILL)
    raise RuntimeError("the run ended before it could be struck")


def _checkpoint() -> tuple[float, float, float]:
    """Seconds that training waits for a snapshot and for its save, and until it is on disk; medians of five.

    A bookmark: weights, Adam's moments, a memory of 2,000 images of 3x32x32 bytes.
    """
    net = model("resnet18").build((3, 32, 32), 100)
    optimizer = torch.optim.Adam(net.parameters())
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    memory = {"x": torch.zeros(2000, 3, 32, 32, dtype=torch.uint8), "y": torch.zeros(2000, dtype=torch.int64)}
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "run")
        attempt = store.claim()
        with Saving(store.save) as saving:
            for n in range(6):
                at = [time.perf_counter()]
                weights = {k: v.detach().clone() for k, v in net.state_dict().items()}
                kept = {"model": weights, "optimizer": copied(optimizer.state_dict()), "strategy": memory}
                at.append(time.perf_counter())
                saving.give(kept | {"experience": n}, attempt)
                at.append(time.perf_counter())
                saving.settle()
                at.append(time.perf_counter())
                spent.append((at[1] - at[0], at[2] - at[1], at[3] - at[1]))
    snapshot, stall, total = (statistics.median(column) for column in zip(*spent[1:], strict=True))
    return snapshot, stall, total


def _soak() -> None:
    runs = [replace(HALF_A_SECOND, seed=seed) for seed in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        calm = soaked(Site(f"{folder}/calm", together=False), runs, None)
        rough = soaked(Site(f"{folder}/rough", every_steps=20, together=False), runs, every=5.0)
    failed = sum(isinstance(event, Failed) for event in rough.events)
    extra = rough.seconds - calm.seconds
    told = f"{rough.seconds:.0f} s against {calm.seconds:.0f} s: {extra:+.0f} s, {100 * extra / calm.seconds:+.0f} %"
    rows = [(f"200 runs, {rough.kills} actors killed under them, {failed} failed", told, "0 failed")]
    show("Soak: an actor is killed every 5 s on average", ("what", "measured", "reach"), rows)


def _speed_up(round: int) -> float:
    runs = [replace(LONG, seed=8 * round + k) for k in range(8)]
    spent = []
    for slots in (1, 2):
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Fleet(Site(folder, together=False), slots=slots)) as fleet,
        ):
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

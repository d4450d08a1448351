"""What Ray Tune costs a trial. `python -m benchmarks.search`"""

import tempfile
import time

from perdure.platform.cluster import connection
from perdure.platform.runs.datasets import Data, packed
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.search.ray_tune import fit
from perdure.platform.search.search import Search, continual
from perdure.strategies.training.plan import Plan

from .table import show

TRIALS = 24
TRIVIAL = Run("ewc(loguniform(1, 1e4))", "split(digits, 2)", "mlp(8)", plan=Plan(steps=1, batch_size=8))


def main() -> None:
    """A trial is a step for each of two experiences: all the rest is Tune, our adapter, and what a run keeps."""
    connection.connect()
    rows = []
    for by, scheduler in (("random", "none"), ("random", "asha"), ("optuna", "none"), ("random", "pbt")):
        spent, first = _spent(by, scheduler)
        name = f"{by}, {scheduler}" if scheduler != "none" else by
        rows.append((name, f"{spent:.2f} s", "<= 1 s", f"{first:.1f} s"))
    show(f"{TRIALS} trivial trials on 2 warm actors", ("by", "a trial", "reach", "until the first"), rows)
    connection.disconnect()


def _spent(by: str, scheduler: str) -> tuple[float, float]:
    """Seconds from one trial's end to the next one's, and until the first has told anything, actors' start in it."""
    run = continual(TRIVIAL, 0.1, None)
    search = Search(run, "split(digits, 2)", ("accuracy",), TRIALS, by, scheduler, grace=1)
    with tempfile.TemporaryDirectory() as home:
        site, ends, heard = Site(home), [], []

        def hear(number: int, told: dict) -> None:
            heard.append(time.perf_counter())
            if "ended" in told:
                ends.append(time.perf_counter())

        start = time.perf_counter()
        fit(search, site, packed(Data(site).of(run)), 2, 2, 0.0, {}, site.runs.parent / "search", hear)
    warm = ends[4:]  # by then both actors are there
    return (warm[-1] - ends[3]) / len(warm), heard[0] - start


if __name__ == "__main__":
    main()

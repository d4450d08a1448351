"""How cost grows: runs in a home, experiences in a stream, trials of a search. `python -m benchmarks.scale`

Each is measured at several sizes, in processes of their own, and an exponent is fitted to the larger half of them: time
grows as size to that power. `python -m benchmarks.scale runs streams trials mirror` measures some of it; after a name,
as `runs=100,1000`, stand other sizes.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from math import log
from pathlib import Path

from .table import show

RUNS, STREAMS, TRIALS, MIRROR = (300, 1000, 3000, 10_000), (50, 100, 200, 400), (64, 256), (100, 300, 1000)
SLOTS, SLEEP = 16, 1.0
TRIVIAL = ["--on", "split(digits, 2)", "--model", "mlp(4)", "--steps", "1", "--here"]
SLEEPER = f"""
import time
from dataclasses import dataclass

import perdure
from perdure.strategies.base import Naive


@dataclass(frozen=True)
class Sleeper(Naive):
    nap: float = 0.0

    def consolidate(self, learner, experience, state):
        time.sleep({SLEEP / 2})
        return state


perdure.register("sleeper", Sleeper)
"""


def main(chosen: Sequence[str] = ()) -> None:
    parts = {
        "runs": (runs, RUNS),
        "streams": (streams, STREAMS),
        "mirror": (mirror, MIRROR),
        "trials": (trials, TRIALS),
    }
    wanted = dict(word.partition("=")[::2] for word in chosen) or dict.fromkeys(parts, "")
    for name, sizes in wanted.items():
        measure, usual = parts[name]
        measure([int(size) for size in sizes.split(",")] if sizes else usual)


def runs(sizes: Sequence[int]) -> None:
    """Commands in a home of many finished runs."""
    found: dict[str, list[tuple[float, float]]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as home:
            line = ["compare", "naive", *TRIVIAL, "--no-tracking", "--home", home, "--seeds", str(size)]
            made = _measured(line)
            id = next((Path(home) / "runs").iterdir()).name
            lines = {
                "compare, all to be made": made,
                "compare, all known": _measured(line),
                "resume": _measured(["resume", "--no-tracking", "--home", home]),
                "show": _measured(["show", id, "--home", home]),
                "verify": _measured(["verify", "--home", home]),
            }
        for what, one in lines.items():
            found.setdefault(what, []).append(one)
    rows = []
    for what, spent in found.items():
        cells = [f"{seconds:.1f} s, {mega:.0f} MB" for seconds, mega in spent]
        rows.append((what, *cells, _exponent(sizes, [s for s, _ in spent])))
    show("A home of finished runs", ("command", *(f"{size} runs" for size in sizes), "grows as"), rows)


def streams(sizes: Sequence[int]) -> None:
    """A run of a stream of many experiences, tested after each on all before, and on the ten newest."""
    rows = []
    for which in ("", "every 10", "seen 20", "last 10"):
        spent, held = [], []
        for size in sizes:
            with tempfile.TemporaryDirectory() as home:
                on = f"permuted(digits, {size})"
                line = [
                    "run",
                    "naive",
                    "--on",
                    on,
                    "--model",
                    "mlp(16)",
                    "--steps",
                    "1",
                    "--no-tracking",
                    "--home",
                    home,
                ]
                spent.append(_measured([*line, "--evaluate", which])[0])
                files = [file for file in Path(home).rglob("*") if file.is_file()]
                held.append(sum(file.stat().st_size for file in files) / 1e6)
        cells = [f"{s:.1f} s, {mega:.1f} MB" for s, mega in zip(spent, held, strict=True)]
        rows.append((which or "all, after each", *cells, _exponent(sizes, spent)))
    show("A stream of many experiences", ("tested on", *(f"{size}" for size in sizes), "grows as"), rows)


def mirror(sizes: Sequence[int]) -> None:
    """Runs sent to MLflow, and the first page of its table beside a run of ours shown."""
    rows, spent = [], []
    for size in sizes:
        with tempfile.TemporaryDirectory() as home:
            uri = f"sqlite:///{home}/mlflow.db"
            line = ["compare", "naive", *TRIVIAL, "--home", home, "--seeds", str(size)]
            without = _measured([*line, "--no-tracking"])[0]
            sent = _measured([*line, "--tracking-uri", uri])[0]
            spent.append(sent)
            page = _timed(lambda uri=uri: _first_page(uri))
            id = next((Path(home) / "runs").iterdir()).name
            ours = _measured(["show", id, "--home", home])[0]
            cells = (f"{without:.1f} s", f"{sent:.1f} s", f"{size / sent:.0f}", f"{page:.2f} s", f"{ours:.1f} s")
            rows.append((str(size), *cells))
    head = ("runs", "made, untracked", "then sent", "runs a second", "first page of 100 in MLflow", "perdure show")
    show(f"Mirrored in MLflow (SQLite); sending grows as {_exponent(sizes, spent)}", head, rows)


def trials(sizes: Sequence[int]) -> None:
    """Trials that sleep for a second, on 16 slots, whose processes share this machine's CPUs."""
    rows = []
    for size in sizes:
        seconds = float(_in_process("trials_of", size))
        must = size * SLEEP / SLOTS
        rows.append((str(size), f"{must:.0f} s", f"{seconds:.0f} s", f"{seconds / must - 1:+.0%}"))
    show(f"Trials of {SLEEP:g} s on {SLOTS} slots, from the first that ends", ("trials", "must take", "took", ""), rows)


def trials_of(size: int) -> float:
    """Seconds that the trials take once all actors are there."""
    import ray

    from perdure.platform.cluster import connection
    from perdure.platform.runs import plugins
    from perdure.platform.runs.datasets import Data, packed
    from perdure.platform.runs.identity import with_content
    from perdure.platform.runs.run import Run
    from perdure.platform.runs.workspace import Site
    from perdure.platform.search.ray_tune import fit
    from perdure.platform.search.search import Search, continual
    from perdure.strategies.training.plan import Plan

    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    connection.connect()
    with tempfile.TemporaryDirectory() as home:
        plugin = Path(home) / "sleeper.py"
        plugin.write_text(SLEEPER)
        plugins.load([str(plugin)])
        of = Run("sleeper(uniform(0, 1))", "split(digits, 2)", "mlp(4)", plan=Plan(steps=1, batch_size=8))
        site, ends = Site(home, plugins=(str(plugin),)), []
        data = Data(site)
        run = with_content(continual(of, 0.1, None), data)
        search = Search(run, "split(digits, 2)", ("accuracy",), size + SLOTS)

        def hear(number: int, told: dict) -> None:
            if "ended" in told:
                ends.append(time.perf_counter())

        fit(search, site, packed(data.of(run)), 2, SLOTS, 0.0, {}, site.runs.parent / "search", hear)
    ray.shutdown()
    return ends[-1] - ends[SLOTS - 1]  # by then every actor has had one


def _first_page(uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("perdure")
    assert experiment is not None
    assert client.search_runs([experiment.experiment_id], max_results=100)


def _measured(line: Sequence[str]) -> tuple[float, float]:
    """Seconds of a command and its peak of memory in MB."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "perdure", *line], stdout=-3, stderr=-3)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"perdure {' '.join(line)} ended with {child.returncode}")
    return time.perf_counter() - begun, used.ru_maxrss * 1024 / 1e6


def _in_process(function: str, *arguments: int) -> str:
    code = f"from benchmarks import scale; print(scale.{function}(*{json.dumps(arguments)}))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """Of the larger half of the sizes, by least squares on logarithms."""
    half = max(2, (len(sizes) + 1) // 2)
    pairs = [(log(n), log(s)) for n, s in zip(sizes[-half:], seconds[-half:], strict=True)]
    if len(pairs) < 2:
        return ""
    x, y = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    slope = sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)
    return f"n^{slope:.1f}"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(sys.argv[1:])

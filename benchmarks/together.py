"""Seeds at once against one after another, and against Avalanche's loop. `python -m benchmarks.together`

One thread. Every figure is a ratio of two things measured in turns; what is learned comes out the same, to the bit.
"""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

from perdure.platform.runs.datasets import Data
from perdure.platform.runs.run import Run, build
from perdure.platform.runs.workspace import Site
from perdure.strategies.replicas.loop import gain, learn_together
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan

from .table import show, side_by_side

CASES = (  # data, model, batch size, seeds, strategy, to reach
    ("split(digits)", "mlp(64, 64)", 32, 8, "naive", ">= 2 x"),
    ("split(digits)", "mlp(100, 100)", 10, 16, "naive", ">= 1.5 x"),
    ("split(fashion_mnist)", "mlp(100, 100)", 10, 16, "naive", ""),
    ("split(fashion_mnist)", "mlp(400, 400)", 128, 8, "naive", "never slower"),
    ("split(digits)", "mlp(64, 64)", 32, 8, "rehearsal(200)", ""),
    ("split(digits)", "mlp(64, 64)", 32, 8, "rehearsal(200) + ewc(1)", ""),
    ("split(digits)", "mlp(64, 64)", 32, 8, "lwf", ""),
    ("split(digits)", "mlp(64, 64)", 32, 8, "der(200)", ""),
)
SEEDS = 16  # of the comparison with Avalanche


def main(rounds: int = 3) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [_row(*case, rounds) for case in CASES]
    head = (
        "data",
        "model",
        "batch",
        "seeds",
        "strategy",
        "together s",
        "apart s",
        "times as fast",
        "foretold",
        "reach",
    )
    show("Seeds at once", head, rows)
    show("Memory: 8 seeds of mlp(1000, 1000), batch 128", ("what", "measured", "reach"), [_memory()])
    for width, batch in ((100, 32), (400, 128)):
        show(f"{SEEDS} seeds of naive, two cores, everything from the start of a process", *_whole(width, batch))


def _row(data: str, model: str, batch: int, seeds: int, text: str, reach: str, rounds: int):
    plan = Plan(steps=30, batch_size=batch)
    runs = [Run(text, data, model, seed=seed, plan=plan) for seed in range(seeds)]
    loaded = Data(Site()).of(runs[0])
    assert loaded

    def together() -> None:
        made = [build(run, loaded) for run in runs]
        stones = learn_together(made[0][0], [m[1] for m in made], [m[2] for m in made], plan)
        assert sum(1 for _ in stones) == seeds * len(made[0][0])

    def apart() -> None:
        for run in runs:
            stream, learner, one = build(run, loaded)
            list(learn(stream, learner, one, plan))

    stream = build(runs[0], loaded)[0]
    foretold = gain(stream, lambda n: build(runs[n], loaded)[1:], seeds, plan)
    a, b, ratio = side_by_side(together, apart, rounds)
    return data, model, batch, seeds, text, f"{a:.2f}", f"{b:.2f}", f"{1 / ratio:.2f}", f"{foretold:.2f}", reach


def _memory():
    """Peaks above what a process holds before it learns, each in a process of its own."""
    one, eight = (_printed("peak", str(count)) for count in (1, 8))
    return "peak of 8 together over 8 x one", f"{eight / (8 * one):.2f} x ({eight:.0f} MB, {one:.0f} MB)", "<= 1.1 x"


def _whole(width: int, batch: int):
    model = f"mlp({width}, {width})"
    with tempfile.TemporaryDirectory() as home:
        words = ["naive", "--on", "split(fashion_mnist)", "--model", model, "--batch-size", str(batch)]
        words += ["--epochs", "1", "--seeds", str(SEEDS), "--home", home, "--no-tracking", "--slots", "2"]
        ours = _timed([[sys.executable, "-c", "from perdure.jobs.main import main; main()", "compare", *words]])
    rows, half = (
        [(f"{model}, batch {batch}: perdure compare, Ray's start and end in it", f"{ours:.0f}", "", "")],
        SEEDS // 2,
    )
    for kind, what, reach in (("own", "its own data", ">= 3 x"), ("tensors", "its data as tensors in memory", "")):
        given = "avalanche", kind, model, str(batch)
        theirs = _timed([_own(*given, str(first), str(half)) for first in (0, half)])
        rows.append((f"Avalanche's Naive, {what}, two processes", f"{theirs:.0f}", f"{theirs / ours:.2f}", reach))
    return ("what", "seconds", "times as fast", "reach"), rows


def _timed(commands) -> float:
    start = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment) for words in commands]
    for process in started:
        if process.wait():
            raise RuntimeError(f"{process.args} failed")
    return time.perf_counter() - start


def _own(*words: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "benchmarks.together", *words]


def _printed(*words: str) -> float:
    return float(subprocess.run(_own(*words), capture_output=True, text=True, check=True).stdout.split()[-1])


def peak(count: int) -> None:
    """Print the MB that learning takes beyond what was there before."""
    torch.set_num_threads(1)
    plan = Plan(steps=10, batch_size=128)
    runs = [Run("naive", "split(fashion_mnist)", "mlp(1000, 1000)", seed=seed, plan=plan) for seed in range(count)]
    loaded = Data(Site()).of(runs[0])
    assert loaded
    stream, learner, one = build(Run("naive", "split(fashion_mnist)", "mlp(8)", plan=plan), loaded)
    list(learn(stream, learner, one, plan))  # what is held once: the data, the tests, torch
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = _held("VmRSS")
    made = [build(run, loaded) for run in runs]
    if count == 1:
        list(learn(stream, made[0][1], made[0][2], plan))
    else:
        for _ in learn_together(stream, [m[1] for m in made], [m[2] for m in made], plan):
            pass
    print(_held("VmHWM") - before)


def _held(name: str) -> float:
    """MB of this process's memory, as /proc/self/status has it under `name`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def avalanche(kind: str, model: str, batch: int, first: int, count: int) -> None:
    """Avalanche's own loop over the same stream, tested after every experience as ours is."""
    from avalanche.training.supervised import Naive

    from .loop import avalanche_benchmark, tensor_benchmark

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        own = avalanche_benchmark(folder) if kind == "own" else None
        for seed in range(first, first + count):
            run = Run("naive", "split(fashion_mnist)", model, seed=seed)
            loaded = Data(Site()).of(run)
            assert loaded
            stream, learner, _ = build(run, loaded)
            benchmark = own or tensor_benchmark(stream)
            adam = torch.optim.Adam(learner.model.parameters(), 1e-3)
            common = {"train_mb_size": batch, "train_epochs": 1, "eval_mb_size": 512}
            method = Naive(model=learner.model, optimizer=adam, criterion=torch.nn.CrossEntropyLoss(), **common)
            for experience in benchmark.train_stream:
                method.train(experience, num_workers=0)
                method.eval(benchmark.test_stream, num_workers=0)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["peak", count]:
            peak(int(count))
        case ["avalanche", kind, model, batch, first, count]:
            avalanche(kind, model, int(batch), int(first), int(count))
        case _:
            main()

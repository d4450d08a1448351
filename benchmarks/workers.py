"""What a second worker brings to one run, and what rehearsal costs then. `python -m benchmarks.workers`"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

from perdure.strategies import names
from perdure.strategies.learner import Learner
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Experience, Split, Stream

from .table import show

STEPS, BATCH, ROUNDS = 4, 256, 3
TEXTS = ("naive", "rehearsal(500)")


def main() -> None:
    """Teams of one and two in turns, so that both meet the same machine."""
    rounds = [{size: _of_team(size) for size in (1, 2)} for _ in range(ROUNDS)]
    ratios = [r[1]["naive"] / r[2]["naive"] for r in rounds]
    extra = [(r[2][TEXTS[1]] / r[2]["naive"]) / (r[1][TEXTS[1]] / r[1]["naive"]) for r in rounds]
    one, two = (statistics.median(r[size]["naive"] for r in rounds) for size in (1, 2))
    rows = [
        ["a step of naive", f"{one:.2f} s", f"{two:.2f} s", f"{statistics.median(ratios):.2f} x", ">= 1.6 x"],
        ["rehearsal's cost, beside that on one worker", "", "", f"{statistics.median(extra):.2f} x", "<= 1.1 x"],
    ]
    head = ["resnet18(20), batch 256, one thread each", "one worker", "two", "ratio", "to reach"]
    show("One run on several workers (gloo)", head, rows)


def _of_team(size: int) -> dict[str, float]:
    """Seconds of a step, by strategy, of the first worker."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "benchmarks.workers"]
        workers = [subprocess.Popen([*line, str(n), str(size), folder]) for n in range(size)]
        if sum(abs(worker.wait()) for worker in workers):
            raise RuntimeError("a worker failed")
        return torch.load(Path(folder) / "seconds.pt", weights_only=True)


def _work(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    seconds = {text: _seconds(text) for text in TEXTS}
    if rank == 0:
        torch.save(seconds, folder / "seconds.pt")


def _seconds(text: str) -> float:
    """Of a step of the second experience: there is a past then. The first step, which warms up, is left out."""
    stamps: list[float] = []

    def due() -> bool:
        stamps.append(time.perf_counter())
        return False

    torch.manual_seed(0)
    model = names.model("resnet18(20)").build((3, 32, 32), 4)
    learner = Learner(model, SGD(0.01), Rng(0))
    for _ in learn(_stream(), learner, names.strategy(text), Plan(steps=STEPS, batch_size=BATCH), due=due):
        pass
    second = stamps[STEPS:]
    return (second[-1] - second[0]) / (len(second) - 1)


def _stream() -> Stream:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (1024, 3, 32, 32), generator=generator, dtype=torch.uint8)

    def experience(i: int) -> Experience:
        y = torch.arange(512) % 2 + 2 * i
        split = Split(x, y, torch.full_like(y, i), torch.arange(512) + 512 * i)
        return Experience(i, i, split, split.part(torch.arange(16)))

    table = torch.tensor([[True, True, False, False], [False, False, True, True]])
    return Stream([experience(0), experience(1)], table, "class")


if __name__ == "__main__":
    _work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])) if len(sys.argv) > 1 else main()

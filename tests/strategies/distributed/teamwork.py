"""One of the workers that share each batch of the examples.

python -m tests.strategies.distributed.teamwork RANK SIZE FOLDER"""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from perdure.strategies.methods import generative_replay
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Plan
from perdure.testing.streams import blobs

from ..test_matrix import ALL, NEEDS_TASKS, learner

PLAN = Plan(epochs=1, batch_size=20)
LEFT_OUT = [("all", 4)]  # two share it
SAMPLES = 62  # batches of 20, 20, 20 and 2: slices of many sizes, and less than there are workers


def learned(name: str) -> dict:
    stream = blobs(n=SAMPLES, protocol="task" if name in NEEDS_TASKS else "class")
    stones = list(learn(stream, learner(name, stream, optimizer=SGD(0.02, momentum=0.9)), ALL[name], PLAN))
    last = {k: stones[-1].checkpoint[k] for k in ("model", "strategy")}
    return last | {"accuracy": [s.accuracy for s in stones], "extras": [s.extras for s in stones]}


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    generative_replay.SORTER_STEPS = 20  # what sorts dreams need not be good at it here
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    torch.save({name: learned(name) for name in ALL if (name, size) not in LEFT_OUT}, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

"""Follows a folder in children that are SIGKILLed at random moments, until one has learned all of it.

python followed.py FOLDER STATE SEED: forks from one warm process, so that a death costs no start. Prints how many died.
"""

import gc
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from perdure.platform.api.follow import follow
from perdure.platform.live import queries
from perdure.platform.storage.checkpoints import Store
from perdure.streams.live.folder import Folder

STRATEGY = "rehearsal(40) + ewc(10, samples=32) + lwf"
HOW = {"classes": 6, "model": "mlp(32, dropout=0.2)", "epochs": 30, "here": True, "tracking": False}
ARRIVALS = 4


def fill(folder, arrivals=ARRIVALS):
    """Files of two new classes each, and at the end one of all classes."""
    rng = np.random.default_rng(0)
    centres = rng.random((6, 12))
    folder.mkdir(exist_ok=True)
    for n in range(arrivals):
        y = np.arange(80) % 2 + 2 * n if n < 3 else np.arange(80) % 6
        x = (centres[y] + 0.1 * rng.standard_normal((80, 12))).astype(np.float32)
        np.savez(folder / f"{n}.npz", x=x, y=y)


def made(folder: str, state: str, **how):
    """Every arrival of a folder, learned."""
    source = Folder(folder, settle=0.0)
    return follow(source, STRATEGY, state=state, **({"idle": 0.0, "save_every": 0.01} | HOW | how))


def learned(state: str) -> bool:
    checkpoint = Store(Path(state) / "learned").load()
    return checkpoint is not None and checkpoint["experience"] == ARRIVALS


def main(folder: str, state: str, seed: int) -> None:
    chance, deaths = random.Random(seed), 0
    made(folder, f"{state}-warm", epochs=1)  # what torch imports late is imported once, before the forks
    gc.collect()
    gc.freeze()
    while not learned(state):
        child = os.fork()
        if child == 0:
            queries.LOOKS = 0.01
            made(folder, state)
            os._exit(0)
        time.sleep(chance.uniform(0.05, 0.1 + 0.05 * deaths))  # more and more, for machines that are slow
        os.kill(child, signal.SIGKILL)
        deaths += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    print(deaths)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

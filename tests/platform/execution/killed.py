"""Makes a run in children that are SIGKILLed at random moments, until one lives to the end.

python killed.py HOME SEED KIND: forks from one warm process, so that a death costs no start. Prints how many died.
"""

import gc
import os
import random
import signal
import sys
import time
from collections import deque

from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.meta_run import MetaRun
from perdure.platform.runs.record import finished
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.workloads.kinds import workload
from perdure.platform.workloads.warmup import warm
from perdure.strategies.meta.loop import MetaPlan
from perdure.strategies.training.plan import Plan

RUN = Run(
    "rehearsal(40) + ewc(10, samples=64) + lwf", model="mlp(32, dropout=0.2)", plan=Plan(epochs=20, batch_size=32)
)
META_RUN = MetaRun(
    "meta_sgd(steps=2)", "few_shot(strokes(20, 8), 3, 1, 3)", "mlp(16, dropout=0.1)",
    plan=MetaPlan(iterations=400, batch=6, every=50, judged=10, parts=2), tested=20,
)  # fmt: skip
RUNS = {"continual": RUN, "meta": META_RUN}


def main(home: str, seed: int, kind: str) -> None:
    run = RUNS[kind]
    site = Site(home, every_steps=3)
    dataset, chance, deaths = Data(site).of(run), random.Random(seed), 0
    workload(run).refuse(run, dataset, site)  # what torch imports late is imported once, before the forks
    warm()
    gc.collect()
    gc.freeze()  # a child that looks through all of it copies every page, and is killed before its first step
    while not finished(run, site):
        child = os.fork()
        if child == 0:
            deque(execute(run, site, dataset), maxlen=0)
            os._exit(0)
        time.sleep(chance.uniform(0.02, 0.35))
        os.kill(child, signal.SIGKILL)
        deaths += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    print(deaths)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

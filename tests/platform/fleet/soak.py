"""Many small runs on a fleet whose actors are killed all the time; the suite and the benchmarks soak in it."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from random import Random

from perdure.platform.fleet.fleet import Fleet
from perdure.platform.runs.events import Event, Started
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site


@dataclass(frozen=True)
class Soaked:
    events: list[Event]
    seconds: float
    kills: int  # of actors that had runs in hand


def soaked(site: Site, runs: Sequence[Run], every: float | None, seed: int = 0) -> Soaked:
    """Make the runs on two warm actors, of which one that is at work is killed every so many seconds on average."""
    hands: dict[str, int] = {}  # the process that has a run in hand
    over, chance, lock = threading.Event(), Random(seed), threading.Lock()
    struck: set[int] = set()

    def strike() -> None:
        while every and not over.wait(chance.expovariate(1 / every)):
            with lock:
                if hands:
                    with suppress(ProcessLookupError):
                        process = hands[chance.choice(sorted(hands))]
                        os.kill(process, signal.SIGKILL)
                        struck.add(process)

    events = []
    with closing(Fleet(site, slots=2, spare_after=0.0)) as fleet:
        for _ in fleet.map(runs[:2]):  # both are up
            pass
        killer = threading.Thread(target=strike)
        killer.start()
        start = time.perf_counter()
        for event in fleet.map(runs):
            events.append(event)
            with lock:
                if isinstance(event, Started):
                    hands[event.run] = int(event.where.rpartition(":")[2])
                elif type(event).__name__ in ("Finished", "Failed", "Lost"):
                    hands.pop(event.run, None)
        seconds = time.perf_counter() - start
        over.set()
        killer.join()
    return Soaked(events, seconds, len(struck))

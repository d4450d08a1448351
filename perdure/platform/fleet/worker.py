"""What runs inside an actor: one warm process that makes one run after another."""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ..runs.datasets import UNSHARED, Packed, unpacked
from ..runs.workspace import Site
from ..storage import signals
from ..workloads.warmup import warm


def machine() -> str:
    """Names this machine, or container, among all; host names may be the same on many."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname()


class Worker:
    def __init__(self, site: Site):
        from ..execution import replicas  # torch and all: what makes an actor warm
        from ..runs import plugins

        warm()
        plugins.load(site.plugins)
        self._together, self._site, self._heard = replicas, site, time.monotonic()
        self._datasets: dict[str, Any] = {}

    def whereabouts(self) -> tuple[str, int]:
        return machine(), os.getpid()

    def silence(self) -> float:
        """Seconds since the run in hand took its last step."""
        return time.monotonic() - self._heard

    def make(self, runs, source: str, arrays: Packed | str | None) -> Iterator:
        """The events of one attempt at `runs`; at the first alone, where they are not to be learned together."""
        from ..runs.events import Failed

        self._alive()
        if source not in self._datasets:
            try:
                self._datasets = {source: self._dataset(runs[0], arrays)}
            except (ValueError, FileNotFoundError) as e:
                yield from (Failed(run.id, "user", f"on {socket.gethostname()}: {e}") for run in runs)
                return
        dataset = self._datasets[source]
        chosen = self._together.choose(runs, self._site, dataset)
        if chosen:
            yield chosen
        some = runs if chosen and chosen.together else runs[:1]
        try:
            for event in self._together.execute_together(some, self._site, dataset, self._alive):
                self._alive()
                yield event
        except signals.Ended:  # at a checkpoint, as `pause` has asked for
            return

    def pause(self) -> None:
        """Let the runs in hand come to a checkpoint, and make them no further."""
        signals.ask()

    def _dataset(self, run, arrays: Packed | str | None):
        if arrays == UNSHARED:
            return self._loaded(run)
        return unpacked(arrays, lambda: self._loaded(run)) if isinstance(arrays, dict) else None

    def _loaded(self, run):
        """The data of a run, from this machine's own files: minutes of work, and no hang."""
        from ...streams.storage.directories import Places

        with ThreadPoolExecutor(1) as thread:
            loading = thread.submit(run.source().loaded, Places(self._site.data))
            while not loading.done():
                self._alive()
                wait([loading], timeout=1)
        return loading.result()

    def _alive(self) -> None:
        self._heard = time.monotonic()

"""What runs inside an actor: one warm process that makes one run after another."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

from ..runs.workspace import Site
from ..storage import signals

Packed = dict[str, Any]  # a Dataset as numpy arrays and names, for the object store; of mapped samples, where they lie
UNSHARED = "unshared"  # in place of it: the object store has no room


def machine() -> str:
    """Names this machine, or container, among all; host names may be the same on many."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname()


def packed(dataset) -> Packed:
    from ...streams.storage.memory_map import Mapped

    def array(x: Any) -> Any:
        return x.filed if isinstance(x, Mapped) else x.numpy()

    parts = {f"{name}_{k}": array(getattr(part, k)) for name, part in _parts(dataset) for k in ("x", "y")}
    experience = None if dataset.experience is None else [e.numpy() for e in dataset.experience]
    return parts | {"classes": dataset.classes, "experience": experience, "known": dataset.known}


def unpacked(arrays: Packed, load: Callable[[], Any]):
    """The Dataset over the store's own memory, without a copy; a Split hands out nothing that writes to it.

    load: where samples are mapped from a file that this machine does not have, it makes its own.
    """
    from ...streams.datasets.dataset import Dataset, Part
    from ...streams.storage.memory_map import Filed, Mapped, read_only

    given = [arrays[f"{name}_{k}"] for name in ("train", "test") for k in ("x", "y")]
    if not all(x.present for x in given if isinstance(x, Filed)):
        return load()
    tensors = [Mapped(x) if isinstance(x, Filed) else read_only(x) for x in given]
    numbers = arrays["experience"] and (read_only(arrays["experience"][0]), read_only(arrays["experience"][1]))
    return Dataset(Part(*tensors[:2]), Part(*tensors[2:]), arrays["classes"], numbers, arrays["known"])


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


@cache
def warm() -> None:
    """Take a step of a network of no use: torch loads a second's worth of modules with the first of a process, which no
    run is to wait for, nor an experience's time to hold."""
    import torch

    from ...strategies.training.optimizers import Adam

    net = torch.nn.Linear(1, 1)
    optimizer = Adam()(net.parameters())
    net(torch.ones(1, 1)).sum().backward()
    optimizer.step()


def _parts(dataset) -> Sequence[tuple[str, Any]]:
    return ("train", dataset.train), ("test", dataset.test)

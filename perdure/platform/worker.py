"""What runs inside an actor: one warm process that makes one run after another."""

import os
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from .site import Site

Packed = dict[str, Any]  # a Dataset as numpy arrays and names, for the object store


def packed(dataset) -> Packed:
    parts = {f"{name}_{k}": getattr(part, k).numpy() for name, part in _parts(dataset) for k in ("x", "y")}
    experience = None if dataset.experience is None else [e.numpy() for e in dataset.experience]
    return parts | {"classes": dataset.classes, "experience": experience}


def unpacked(arrays: Packed):
    """The Dataset over the store's own memory, without a copy; a Split hands out nothing that writes to it."""
    import torch

    from ..streams.dataset import Dataset, Part

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        parts = {k: torch.from_numpy(v) for k, v in arrays.items() if k not in ("classes", "experience")}
        given = arrays["experience"]
        experience = given and (torch.from_numpy(given[0]), torch.from_numpy(given[1]))
    train, test = (Part(parts[f"{name}_x"], parts[f"{name}_y"]) for name in ("train", "test"))
    return Dataset(train, test, arrays["classes"], experience)


class Worker:
    def __init__(self, site: Site):
        from . import execute, plugins  # torch and all: what makes an actor warm

        plugins.load(site.plugins)
        self._execute, self._site, self._heard = execute.execute, site, time.monotonic()
        self._datasets: dict[str, Any] = {}

    def whereabouts(self) -> tuple[str, int]:
        return socket.gethostname(), os.getpid()

    def silence(self) -> float:
        """Seconds since the run in hand took its last step."""
        return time.monotonic() - self._heard

    def make(self, run, source: str, arrays: Packed | None) -> Iterator:
        """The events of one attempt at `run`."""
        self._alive()
        if source not in self._datasets:
            self._datasets = {source: unpacked(arrays) if arrays else None}
        for event in self._execute(run, self._site, self._datasets[source], self._alive):
            self._alive()
            yield event

    def _alive(self) -> None:
        self._heard = time.monotonic()


def _parts(dataset) -> Sequence[tuple[str, Any]]:
    return ("train", dataset.train), ("test", dataset.test)

"""Who makes runs: in this process, or on a cluster. Both pass the suite in perdure.testing.executors."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from ..runs.any_run import AnyRun
from ..runs.datasets import Data
from ..runs.events import Event, Failed
from ..runs.workspace import Site
from ..storage import signals
from .execute import execute
from .replicas import choose, execute_together, pieces


class Executor(Protocol):
    def map(self, runs: Sequence[AnyRun]) -> Iterator[Event]:
        """Make every run; events come as they happen, of any run in any order, Finished or Failed last of each."""
        ...

    def close(self) -> None: ...


class InProcess:
    """One run after the other, in this process; those that are learned together, at once."""

    def __init__(self, site: Site, data: Data | None = None):
        self._site, self._data = site, data or Data(site)

    def map(self, runs: Sequence[AnyRun]) -> Iterator[Event]:
        threads = torch.get_num_threads()
        try:
            with signals.patiently():
                for piece in pieces(runs, self._site):
                    yield from self._made(piece)
        finally:
            torch.set_num_threads(threads)

    def _made(self, piece: list[AnyRun]) -> Iterator[Event]:
        try:
            dataset = self._data.of(piece[0])
        except (ValueError, FileNotFoundError) as e:
            yield from (Failed(run.id, "user", str(e)) for run in piece)
            return
        chosen = choose(piece, self._site, dataset)
        if chosen:
            yield chosen
        if chosen and chosen.together:
            yield from execute_together(piece, self._site, dataset)
            return
        for run in piece:
            if signals.asked():
                raise signals.Ended
            yield from execute(run, self._site, dataset)

    def close(self) -> None:
        pass

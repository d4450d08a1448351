"""Who makes runs: in this process, or on a cluster. Both pass the suite in perdure.testing.executors."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from ...streams.datasets.dataset import Dataset, Source
from ...streams.datasets.fingerprints import fingerprint
from ...streams.storage.directories import Places
from ..runs.any_run import AnyRun
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


class OfData(Protocol):
    """What learns from data: a run of any kind."""

    def source(self) -> Source | None: ...


class Data:
    """Data sets, each loaded once."""

    def __init__(self, site: Site):
        self._places, self._loaded = Places(site.data), {}

    def of(self, run: OfData) -> Dataset | None:
        """None where a run makes its own. Raises DataNotFound or DataError."""
        source = run.source()
        return None if source is None else self._of(source)

    def fingerprint(self, run: OfData) -> str:
        """Of the data of a run, read only where they are not known; empty where a run makes its own."""
        source = run.source()
        if source is None:
            return ""
        if source in self._loaded:
            return self._loaded[source].fingerprint
        return fingerprint(source, self._places, lambda: self._of(source))

    def has_files(self, run: OfData) -> bool:
        """Whether it is known which files the data of a run come from; also where those are gone."""
        try:
            return self.changed(run) is not None
        except FileNotFoundError:
            return True

    def changed(self, run: OfData) -> float | None:
        """When the newest of the files behind a run's data was changed, in seconds; None of data without files."""
        source = run.source()
        times = [path.stat().st_mtime for path in source.paths(self._places)] if source is not None else []
        return max(times, default=None)

    def _of(self, source: Source) -> Dataset:
        if source not in self._loaded:
            self._loaded[source] = source.loaded(self._places)
        return self._loaded[source]


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

"""The data set of a run: loaded once per process, and sent to workers that see no files."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...streams.datasets.dataset import Dataset, Source
from ...streams.datasets.fingerprints import fingerprint
from ...streams.storage.directories import Places
from .workspace import Site


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


Packed = dict[str, Any]  # a Dataset as numpy arrays and names, for the object store; of mapped samples, where they lie


UNSHARED = "unshared"  # in place of it: the object store has no room


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


def _parts(dataset) -> Sequence[tuple[str, Any]]:
    return ("train", dataset.train), ("test", dataset.test)

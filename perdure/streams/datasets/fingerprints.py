"""Fingerprints of data that were read before: known again by the path, size and times of every file."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..storage.directories import Places
from ..storage.memory_map import stamp
from .dataset import Dataset, Source

SETTLED = 2e9  # ns after which a file that is written again shows another time, on any file system


def fingerprint(source: Source, places: Places, load: Callable[[], Dataset]) -> str:
    """SHA-256 of the data of a source, without reading them where none of its files has changed since the last time.

    load: asked for the data where that is not known. Raises DataNotFound or DataError, as the source does.
    """
    stamps = [(str(path.absolute()), stamp(path)) for path in source.paths(places)]
    if not stamps:
        return load().fingerprint
    key = hashlib.sha256(repr((source, stamps)).encode()).hexdigest()
    note = places.cache.with_name("fingerprints") / key[:32]
    known = _read(note, key)
    if known is None:
        known = load().fingerprint
        newest = max(ns for _, (_, *times) in stamps for ns in times)
        again = [(str(path.absolute()), stamp(path)) for path in source.paths(places)]
        if again == stamps and time.time_ns() - newest > SETTLED:  # else it may change, and its times may not show it
            _write(note, key, known)
    return known


def _read(note: Path, key: str) -> str | None:
    """None where it is not there, or is not as it was written."""
    try:
        known = json.loads(note.read_text())
        whole = known["check"] == _check(key, known["sha256"])
        return known["sha256"] if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(note: Path, key: str, sha256: str) -> None:
    with suppress(OSError):  # a cache that cannot be written costs time alone
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f".{note.name}.{os.getpid()}")
        draft.write_text(json.dumps({"sha256": sha256, "check": _check(key, sha256)}))
        draft.replace(note)


def _check(key: str, sha256: str) -> str:
    return hashlib.sha256(f"{key} {sha256}".encode()).hexdigest()

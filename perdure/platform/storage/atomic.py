"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write(path: Path, content: bytes | memoryview, mark: str = "") -> None:
    """A file that is there whole or not at all, even where the machine dies. mark: as of `whole`."""
    whole(path, lambda file: file.write(content), mark=mark)


def whole(
    path: Path, fill: Callable[[IO[bytes]], object], allowed: Callable[[], object] = lambda: None, mark: str = ""
) -> None:
    """What `fill` writes, as a file that is there whole or not at all. allowed: asked last, raises where it is not.

    mark: of an attempt, as -0001, in the name under which the file is written, where the file's own has none: so a
    newer attempt knows what this one was killed over.
    """
    part = path.with_name(f".{path.name}{mark}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        allowed()
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)

"""What a command came to, written down as it ends: whoever tells MLflow of it later tells what was true then."""

import time
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from ..runs.record import picture
from ..storage.atomic import write
from ..storage.safe_names import file_name
from ..storage.sealed import Damaged, read_sealed, write_sealed
from .tracker import Told

ENDED, RUNS, FIGURES, REPORT = "ended.json", "runs.csv", "figures", "report.html"  # in a command's folder


def keep(folder: Path, told: Told) -> None:
    for old in (folder / FIGURES).glob("*.png"):
        old.unlink()
    for name, figure in told.covers().items():
        picture(folder / FIGURES, file_name(name), figure)
    write(folder / RUNS, told.frame().to_csv(index=False).encode())
    status = "KILLED" if told.stopped else "FAILED" if told.failed else "FINISHED"
    known = {"status": status, "time": int(time.time() * 1000)}
    write_sealed(folder / ENDED, known | {"means": {k: v for k, v in told.means().items() if isfinite(v)}})


def forget(folder: Path) -> None:
    """The command goes on: it has not ended yet, unless it had come to its end whole."""
    if (read(folder) or {"status": ""})["status"] != "FINISHED":
        (folder / ENDED).unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any] | None:
    """Status, time in ms, and means over runs; None of a command that has not ended, but was killed or is under way."""
    with suppress(FileNotFoundError, Damaged):
        return read_sealed(folder / ENDED)
    return None


def artifacts(folder: Path) -> list[tuple[Path, str]]:
    """Files to send, and the folder that they go to."""
    figures = [(path, FIGURES) for path in sorted((folder / FIGURES).glob("*.png"))]
    return figures + [(folder / REPORT, "")] * (folder / REPORT).exists()

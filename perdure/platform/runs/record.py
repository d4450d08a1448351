"""What a run's folder records: its parts, its results once it is finished, and where it can be resumed."""

import io
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..storage.atomic import write
from ..storage.checkpoints import Store
from ..storage.locations import line_for
from ..storage.sealed import Row, read_sealed, write_sealed
from .any_run import AnyRun
from .events import Event, Finished, Reached
from .journal import Journal
from .verification import FINISHED, final_checkpoint, is_finished, sealed
from .workspace import Site


def known_divergence(folder: Path) -> str:
    """What a run's last attempt said where its numbers stopped being finite, as they would again; else nothing."""
    ends = [note for note in Journal(folder).notes() if note.get("event") in ("start", "failed")]
    return ends[-1]["message"] if ends and ends[-1].get("kind") == "diverged" else ""


def finished(run: AnyRun, site: Site) -> bool:
    """Whether a run is finished, and its journal as it was then."""
    return is_finished(site.folder(run))


def expect_finished(run: AnyRun, site: Site) -> None:
    """Raises ValueError for a run that is not finished, Damaged for one that is no longer as it was then."""
    if not (site.folder(run) / FINISHED).exists():
        raise ValueError(f"run {run.id} is not finished; go on with it first: {line_for(f'resume {run.id}')}")
    sealed(site.folder(run))


def ended(run: AnyRun, site: Site) -> dict[str, Any]:
    """The checkpoint that a run ended with. Raises ValueError and Damaged as `expect_finished` does."""
    expect_finished(run, site)
    return final_checkpoint(site.folder(run))


def told(run: AnyRun, site: Site) -> Iterator[Event]:
    """The events of a finished run, from its journal. Raises Damaged."""
    for reached in Journal(site.folder(run)).final().rows:
        yield Reached(run.id, reached, None)
    yield Finished(run.id, True)


def begin(run: AnyRun, site: Site) -> dict[str, Any]:
    """The run as it is written down in its folder: its parts, and when it was first asked for, in ms."""
    path = site.folder(run) / "run.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, {"id": run.id, "run": asdict(run.normal()), "created": int(time.time() * 1000)})
    return read_sealed(path)


def resumable(store: Store, journal: Journal) -> tuple[dict[str, Any] | None, list[Row]]:
    """The newest whole checkpoint before which the journal's rows are whole, and those rows; None where none is."""
    for checkpoint in store.each():
        rows = journal.prefix(checkpoint["rows"], checkpoint["journal"]) if "rows" in checkpoint else None
        if rows is not None:
            return checkpoint, rows
    return None, []


def picture(folder: Path, name: str, figure: Any) -> None:
    """Keep a figure as a PNG file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    folder.mkdir(exist_ok=True)
    write(folder / f"{name}.png", buffer.getvalue())

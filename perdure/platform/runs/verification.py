"""Whether a run's folder is as it was written: what is finished is sealed, and every reader checks the seal.

`finished` holds the number of rows of the journal and the digest of the last, the digests of run.json, of the last
checkpoint and of pictures and profile, and the seconds that the run took. What is not finished has the digests of its
rows, of run.json and of its checkpoints.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from ..storage.checkpoints import DIGEST, Store, opened
from ..storage.locations import line_for
from ..storage.sealed import Damaged, Row, read_sealed, sha256, write_sealed
from .journal import Journal

FINISHED = "finished"
DRAWN = ("pictures/*.png", "profile/*")  # sealed beside the numbers


def seal_run(folder: Path, journal: Journal, attempt: int) -> None:
    """Say that a run is finished: its journal, run.json and last checkpoint are as they shall be."""
    known = journal.final()
    newest = Store(folder).files()[0]
    files = sorted(path for pattern in DRAWN for path in folder.glob(pattern))
    value: Row = {"rows": len(known.rows), "head": known.head(len(known.rows), journal.start)}
    value |= {"run": sha256(folder / "run.json"), "checkpoint": {"place": newest.name[:26], "sha256": _claimed(newest)}}
    value |= {"seconds": journal.seconds(), "files": {p.relative_to(folder).as_posix(): sha256(p) for p in files}}
    write_sealed(folder / FINISHED, value, f"-{attempt:04d}")


def is_finished(folder: Path) -> bool:
    """Whether a run is finished and its numbers are whole; its checkpoint, which is large, is not read."""
    return (folder / FINISHED).exists() and not seal_problem(folder)


def seal_problem(folder: Path) -> str:
    """What is wrong with the seal of a finished run, its journal or run.json; empty where all is as it was written."""
    try:
        return _seal_problem(folder, tuple(_stamp(folder / name) for name in (FINISHED, "run.json", "journal.jsonl")))
    except FileNotFoundError as e:
        return f"{Path(e.filename).name} is gone"


def sealed(folder: Path) -> Row:
    """The seal of a finished run. Raises Damaged, with what to do."""
    problem = seal_problem(folder)
    if problem:
        raise Damaged(f"run {folder.name}: {problem}; {line_for(f'resume {folder.name}')} repairs it")
    return read_sealed(folder / FINISHED)


def final_checkpoint(folder: Path) -> dict[str, Any]:
    """What a finished run ends with. Raises Damaged: an older checkpoint is no answer."""
    wanted = sealed(folder)["checkpoint"]
    value = next((v for path in _ends(folder, wanted) if (v := opened(path)) is not None), None)
    if value is None:
        raise Damaged(
            f"run {folder.name}: its last checkpoint, {wanted['place']}, is damaged or gone; "
            f"{line_for(f'resume {folder.name}')} makes it again"
        )
    return value


def whole_files(folder: Path, pattern: str) -> list[Path]:
    """Files beside a run's numbers, in order; of a finished run those that are as they were when it was sealed."""
    found = sorted(folder.glob(pattern))
    if not is_finished(folder):
        return found
    known = sealed(folder)["files"]
    return [path for path in found if known.get(path.relative_to(folder).as_posix()) == sha256(path)]


def damage(folder: Path) -> list[str]:
    """Everything in a run's folder that is not as it was written; checkpoints are read whole."""
    found = [p for p in [run_json_problem(folder)] if p] + Journal(folder).damage()
    found += [f"{path.name} is damaged" for path in _worthless(folder)]
    if not (folder / FINISHED).exists():
        return found
    problem = seal_problem(folder)
    if problem:
        return [*dict.fromkeys([problem, *found])]
    try:
        final_checkpoint(folder)
    except Damaged as e:
        found.append(str(e).partition(": ")[2].partition(";")[0])
    known = sealed(folder)["files"]
    whole = {path for pattern in DRAWN for path in whole_files(folder, pattern)}
    return found + [f"{name} is damaged or gone" for name in known if folder / name not in whole]


@lru_cache(maxsize=4096)
def _seal_problem(folder: Path, stamps: tuple) -> str:
    """stamps: of the files, so that what was checked once is checked again where one has changed."""
    try:
        known = read_sealed(folder / FINISHED)
        if sha256(folder / "run.json") != known["run"]:
            return "run.json is not as it was when the run was finished"
        journal = Journal(folder)
        rows = journal.final()
    except Damaged as e:
        return str(e)
    if len(rows.rows) != known["rows"] or rows.head(len(rows.rows), journal.start) != known["head"]:
        return f"journal.jsonl has {len(rows.rows)} rows that are not those of the seal, which names {known['rows']}"
    return ""


def unseal_damaged(folder: Path) -> None:
    """Let a finished run that is damaged, be it in a checkpoint or a picture, be gone on with."""
    if (folder / FINISHED).exists() and damage(folder):
        for path in _worthless(folder):
            path.unlink(missing_ok=True)
        (folder / FINISHED).unlink()


def run_json_problem(folder: Path) -> str:
    """What is wrong with what a run's folder says of the run; empty where nothing is."""
    try:
        id = read_sealed(folder / "run.json").get("id")
    except FileNotFoundError:
        return "run.json is gone"
    except Damaged as e:
        return str(e)
    return "" if id == folder.name else f"run.json is that of run {id}"


def _worthless(folder: Path) -> list[Path]:
    """Checkpoints that are damaged."""
    return [path for path in Store(folder).files() if opened(path) is None]


def _ends(folder: Path, wanted: Row) -> list[Path]:
    """Checkpoints that bear the digest of the last; attempts that come to one end write the same."""
    return [p for p in folder.glob(f"{wanted['place']}*.pt") if _claimed(p) == wanted["sha256"]]


def _claimed(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(DIGEST).decode(errors="replace")


def _stamp(path: Path) -> tuple[int, ...]:
    known = path.stat()
    return known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns

"""What a submitted job has come to, as a home of this machine: report, table, and runs that can be gone on with.

From storage that this machine sees; from any other, by a job of the same cluster that prints the files (`handed_over`).
Whatever is here already stays: a file whose digest is the same, and a run that has come further here.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...notation import NotationError
from ..reports.kinds import reporting
from ..reports.outcome import Outcome
from ..runs import study as commands
from ..runs import sync
from ..runs.job_record import noted
from ..runs.verification import FINISHED, damage, is_finished
from ..runs.workspace import Site
from ..storage.atomic import write
from ..storage.sealed import Damaged, read_sealed, sha256, write_sealed
from ..tracking.addresses import file_of

REPORT = "report.html"
_PLACE = re.compile(r"(runs/[^/]+)/checkpoint-(\d{5}-\d{9})-\d{4}\.pt")
_STATE = re.compile(r"runs/[^/]+/(?:checkpoint-.*\.pt|journal.*\.jsonl|finished)")
_ATTEMPT = re.compile(r"^(runs/[^/\n]+)/[^\n]*-(\d{4})\.(?:pt|jsonl)$", re.MULTILINE)
Files = dict[str, str]  # SHA-256 by the file's name below the home
Read = Callable[[Iterable[str]], Iterable[tuple[str, bytes]]]  # the content of files, by their names


@dataclass(frozen=True)
class Fetched:
    """What has come. kept: runs that have come further here, and were left as they are."""

    home: Path
    done: int  # runs that are finished
    runs: int
    kept: tuple[str, ...]
    damaged: dict[str, list[str]]  # what is wrong with a run

    @property
    def reports(self) -> list[Path]:
        return sorted(self.home.glob("report*.html"), key=lambda path: len(path.name))


def seen(id: str, storage: str) -> tuple[Path, list[str]] | None:
    """The home of a job and the folders in it that it has made, where this machine sees its storage; None where it
    does not. Of remote storage it is the local copy. Raises ValueError."""
    root = Site(storage)
    known = noted(id, root)
    if known is None:
        return None
    site = Site("/".join(filter(None, [root.storage or root.home, known["home"]])))
    for folder in known["folders"]:
        sync.fetch_folder(Path(site.home) / folder, site)
    sync.fetch(_runs(Path(site.home), known["folders"]), site, checkpoints=True)
    return Path(site.home), known["folders"]


def taken_from(storage: str, id: str, to: Path) -> Fetched | None:
    """What a job has come to, from storage that this machine sees; None where it does not. Raises ValueError."""
    found = seen(id, storage)
    if found is None:
        return None
    home, folders = found
    return take(folders, files(home, folders), read_from(home), to)


def files(home: Path, folders: Iterable[str]) -> Files:
    """All that belongs to a job. Checkpoints come first: a journal that still grows is then as long as they say."""
    found = {}
    for folder in dict.fromkeys([*folders, *(f"runs/{id}" for id in _runs(home, folders))]):
        paths = (p for p in (home / folder).rglob("*") if p.is_file() and p.name != "lock" and p.name[0] != ".")
        for path in sorted(paths, key=lambda p: (p.suffix != ".pt", p.name == FINISHED, p)):
            try:
                found[path.relative_to(home).as_posix()] = sha256(path)
            except FileNotFoundError:
                continue  # an old checkpoint is removed while a newer one is kept
    return found


def read_from(home: Path) -> Read:
    def read(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            try:
                yield name, (home / name).read_bytes()
            except FileNotFoundError:
                continue

    return read


def take(folders: Sequence[str], there: Files, read: Read, to: Path) -> Fetched:
    """Bring files to a home. Raises Damaged for one that is not what it was said to be."""
    runs = {_run(name) for name in there} - {""}
    state = [path for run in runs for path in (to / run).glob("*") if path.name != "lock"]
    here = {path.relative_to(to).as_posix() for path in state}
    kept = sorted(run for run in runs if _further(run, here, there))
    wanted = {name: digest for name, digest in there.items() if _run(name) not in kept}
    lacking = [n for n, digest in wanted.items() if not (to / n).is_file() or sha256(to / n) != digest]
    for name, content in read(lacking):
        if name not in wanted or not (to / name).resolve().is_relative_to(to.resolve()):
            raise Damaged(f"{name!r} was sent and not asked for; nothing was written, so fetch again")
        if hashlib.sha256(content).hexdigest() != wanted[name]:
            raise Damaged(f"{name} came otherwise than it was sent; fetch again, which brings what is lacking")
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        write(to / name, content)
    for name in here - wanted.keys():
        if _STATE.fullmatch(name) and _run(name) not in kept:  # an older state's
            (to / name).unlink(missing_ok=True)
    for folder, attempt in _ATTEMPT.findall("\n".join(wanted)):
        (to / folder / f"attempt-{attempt}").touch()  # the next one here gets a number of its own
    return _shown(folders, to, tuple(run.removeprefix("runs/") for run in kept))


def _run(name: str) -> str:
    """The folder of the run that a file belongs to; empty where it is no run's."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "runs" and len(parts) > 2 else ""


def _further(run: str, here: Iterable[str], there: Iterable[str]) -> bool:
    """Whether a run has come further here."""
    if f"{run}/{FINISHED}" in there:
        return False
    return f"{run}/{FINISHED}" in here or _place(run, here) > _place(run, there)


def _place(run: str, names: Iterable[str]) -> str:
    """Of a run's furthest checkpoint, in an order of texts; empty where there is none."""
    return max((m[2] for m in map(_PLACE.fullmatch, names) if m and m[1] == run), default="")


def _shown(folders: Sequence[str], to: Path, kept: tuple[str, ...]) -> Fetched:
    """Reports and tables at the top of the home, under names that a reader looks for."""
    for n, folder in enumerate(folders):
        suffix = f"-{Path(folder).name}" if n else ""
        if (to / folder / REPORT).is_file():
            write(to / f"report{suffix}.html", (to / folder / REPORT).read_bytes())
        if (to / folder / "command.json").is_file():
            _at_home(to / folder / "command.json", to)
            if table := _table(to / folder, to):
                write(to / f"table{suffix}.csv", table.encode())
    runs = [to / "runs" / id for id in _runs(to, folders)]
    wrong = {run.name: problems for run in runs if run.is_dir() and (problems := damage(run))}
    return Fetched(to, sum(map(is_finished, runs)), len(runs), kept, wrong)


def _at_home(path: Path, to: Path) -> None:
    """Let a command be gone on with from here: in this home, and not with a database of the cluster's machines."""
    known = read_sealed(path)
    how = known["how"] | {"home": str(to)}
    if how.get("tracking_uri") and file_of(how["tracking_uri"]):
        how["tracking_uri"] = None
    write_sealed(path, known | {"how": how})


def _table(folder: Path, to: Path) -> str:
    """A line of CSV for every run of a command; empty where names of a plugin are in it, which is not loaded here."""
    site = Site(str(to))
    try:
        runs = commands.read(folder).runs
        ended = {run: is_finished(site.folder(run)) for run in runs if site.folder(run).is_dir()}
        outcomes = [Outcome.of(run, site, "finished" if end else "stopped") for run, end in ended.items()]
        return reporting(runs[0]).compared(outcomes).frame().to_csv(index=False) if outcomes else ""
    except (NotationError, Damaged):
        return ""


def _runs(home: Path, folders: Iterable[str]) -> list[str]:
    """The ids of all runs of a job, each once."""
    found = []
    for folder in folders:
        if folder.startswith("runs/"):  # an attack's, on a run
            found.append(folder.split("/")[1])
        elif (home / folder / "command.json").is_file():
            found += commands.ids(home / folder)
    return list(dict.fromkeys(found))

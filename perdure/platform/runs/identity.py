"""Identity is content: a run is its texts and numbers, the data, the code behind names of one's own, the numerics.

Equal texts over other content are another run, with another id and folder. A command gives its runs what their texts
cannot say before anything else happens; whatever goes on with a run, or takes a finished one, expects the same content.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ...notation import spell
from ...strategies.numerics.own_code import combined
from ...strategies.training.requirements import Caution
from ...streams.names import DATASETS
from ..storage.sealed import Damaged, read_sealed
from . import study as commands
from .any_run import AnyRun
from .datasets import Data
from .numerics import NUMERICS
from .workspace import Site

Some = TypeVar("Some", bound=Any)  # a run, or what has the same fields: data, code and numerics


class Changed(ValueError):
    """What a run was made from is not what is there now."""


def identified(run: Some, data: Data) -> Some:
    """The run, told apart from all of the same texts over other content. Raises DataNotFound or DataError."""
    return with_content(run.normal(), data)


def with_content(run: Some, data: Data) -> Some:
    """The same of a run with texts as they are, be there distributions in them."""
    return replace(run, data=data.fingerprint(run), code=combined(*run.texts()), numerics=NUMERICS)


def expect_same(run: AnyRun, site: Site, data: Data | None = None) -> None:
    """Raises Changed where data, code or numerics of a run are not what they were when it was made.

    data: None where those that it learned from are not needed.
    """
    told = [difference for what in (_data, _code, _numerics) if (difference := what(run, site, data))]
    if told:
        raise Changed(f"run {run.id} {'; it '.join(told)}")


def doubt_same(runs: Sequence[AnyRun], site: Site, data: Data) -> None:
    """Warn where what finished runs were made from is not what is there now: their figures are of the time before.

    Data that are gone are no doubt about what came out.
    """
    said: dict[tuple[str, str], str] = {}
    for run in runs:
        if not run.code and run.numerics == NUMERICS and not data.has_files(run):
            continue  # what comes with the code does not change
        with suppress(FileNotFoundError):
            try:
                expect_same(run, site, data)
            except ValueError as e:
                said.setdefault((run.data, run.code), str(e))
    for one in said.values():
        warnings.warn(f"{one}. What is shown is of the time before", Caution, stacklevel=3)


def announce_changes(runs: Sequence[AnyRun], site: Site) -> None:
    """Warn where runs were made before by the same texts over other content: these are new ones."""
    new = {_bare(run): run for run in runs if not (site.folder(run) / "run.json").exists()}
    if not new:
        return
    before = list(dict.fromkeys(run for folder in commands.folders(site.home) for run in _runs_of(folder)))
    said = set()
    for old in before:  # those of the newest command first
        now = new.get(_bare(old))
        if now is None or _content(old) == _content(now):
            continue
        count = sum(_content(run) == _content(old) for run in before)
        made = f"{'run was' if count == 1 else 'runs were'} made {'from' if old.data != now.data else 'by'} it"
        said.add(f"{_changed(old, now)} since {count} {made}")
        del new[_bare(old)]
    for one in sorted(said):
        warnings.warn(f"{one}: these are new runs, and those stay as they are", Caution, stacklevel=3)


def _changed(before: AnyRun, now: AnyRun) -> str:
    if before.data != now.data:
        return f"{_name(now)} has changed"
    if before.code != now.code:
        return "the code behind a name of your own has changed"
    return f"what Perdure computes has changed (numerics {before.numerics}, now {now.numerics})"


def _content(run: AnyRun) -> tuple[str, str, int]:
    return run.data, run.code, run.numerics


def _bare(run: AnyRun) -> AnyRun:
    """The run without its seed and its content: what its texts say."""
    return replace(run, seed=0, data="", code="", numerics=NUMERICS)


def _runs_of(folder: Path) -> list[AnyRun]:
    """Of a command; none of one that is damaged."""
    try:
        return commands.rows(folder)
    except (Damaged, FileNotFoundError):
        return []


def _data(run: AnyRun, site: Site, data: Data | None) -> str:
    if data is None:
        return ""
    now = data.fingerprint(run)
    if not run.data or run.data == now:
        return ""
    changed = data.changed(run)
    since = f", changed on {_date(changed)}" if changed else ""
    return (
        f"learned {_name(run)} as it was on {_made(run, site)} (sha256 {run.data[:12]}), and now it is another "
        f"(sha256 {now[:12]}{since}). Bring the old data back, or make the run anew by typing its line again"
    )


def _code(run: AnyRun, site: Site, data: Data | None) -> str:
    now = combined(*run.texts())
    if run.code == now:
        return ""
    return (
        f"was made on {_made(run, site)} with other code behind its own names (digest {run.code or 'none'}, now "
        f"{now or 'none'}). Bring the old plugin back, or make the run anew by typing its line again"
    )


def _numerics(run: AnyRun, site: Site, data: Data | None) -> str:
    if run.numerics == NUMERICS:
        return ""
    return (
        f"was made on {_made(run, site)} by numerics {run.numerics}, and this version of Perdure has {NUMERICS}, which "
        "come to other figures. Make the run anew by typing its line again, or install the version that made it"
    )


def _name(run: AnyRun) -> str:
    """What a user calls the data of a run."""
    source = run.source()
    if source is None:
        return run.on
    return str(next((v for k in ("file", "folder") if (v := vars(source).get(k))), spell(source, DATASETS)))


def _made(run: AnyRun, site: Site) -> str:
    try:
        return _date(read_sealed(site.folder(run) / "run.json")["created"] / 1000)
    except (Damaged, FileNotFoundError):
        return "an unknown day"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")

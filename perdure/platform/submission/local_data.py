"""Data of a submitted line: what the cluster's machines see of them, and what goes along."""

import os
from collections.abc import Sequence
from pathlib import Path

from ...limits import size
from ...streams.storage.directories import sent
from ..runs.dry_run import Look
from ..storage.locations import is_url

SENT_TO = "sent"  # the folder of a job in which what goes along lies
LARGEST = 100_000_000  # bytes: the dashboard of Ray takes 100 MiB at once


def parcelled(texts: Sequence[str]) -> dict[str, bytes]:
    """The files of what goes along, by where they lie there. Raises ValueError."""
    found = {name: path for text in texts for name, path in _files(text).items()}
    total = sum(path.stat().st_size for path in found.values())
    if total > LARGEST:
        raise ValueError(
            f"{', '.join(texts)}: {size(total)}, and at most {size(LARGEST)} go along with a line; place them where "
            "all machines of the cluster see them, and name that path"
        )
    return {name: path.read_bytes() for name, path in found.items()}


def goes_along(text: str, texts: Sequence[str]) -> bool:
    """Whether a path is, or lies below, one of those that are sent."""
    return any(Path(sent(text)).is_relative_to(sent(one)) for one in texts)


def expect_seen(look: Look, places: Sequence[str], same_machine: bool, texts: Sequence[str] = ()) -> list[str]:
    """What is to be said of the files that a line names. Raises ValueError for those that only this machine has.

    places: folders that the cluster's machines see by the same paths. same_machine: whether this one is the cluster.
    texts: of what goes along. An absolute path that does not exist here is taken as one of the cluster's machines.
    """
    said: dict[str, None] = {}
    for text in ([look.data] if look.data is not None else []) + list(look.paths):
        if is_url(text) or goes_along(text, texts):
            continue
        below = look.data is not None and text != look.data and not Path(text).is_absolute()
        if below and _may_lie_in(text, str(look.data), texts):
            continue
        path = Path(text)
        if not path.is_absolute():
            raise ValueError(_unseen(text, places, same_machine))
        if same_machine and path.exists():
            continue
        if any(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(one)) for one in places):
            continue
        if path.exists():
            raise ValueError(_unseen(text, places, same_machine))
        said[f"{text} is not on this machine, and is taken as a path of the cluster's machines"] = None
    return list(said)


def _may_lie_in(text: str, data: str, texts: Sequence[str]) -> bool:
    """Whether a relative path is found below the folder of --data there: always where only the cluster has that."""
    cluster_s = Path(data).is_absolute() and not Path(data).exists() and not goes_along(data, texts)
    return cluster_s or Path(data, text).exists()


def _unseen(text: str, places: Sequence[str], same_machine: bool) -> str:
    path = Path(text).expanduser()
    full = os.path.abspath(path)
    if not path.exists():
        return (
            f"{text} was not found at {full}; name it by its full path on the cluster's machines, or below a folder of "
            "theirs that --data names"
        )
    if same_machine:
        return f"{text} is in this folder, and the line runs in another; name it by its full path, {full}"
    where = f"in {places[0]}" if places else "where all machines of the cluster see it"
    return (
        f"{text} is on this machine, and data do not travel with a line; place it {where} and name it by its full path "
        f"there, take it along (up to {size(LARGEST)}) with --send {text} before the --, or say with --shared "
        f"{os.path.dirname(full)} that the cluster's machines have that folder too, and name {full}"
    )


def _files(text: str) -> dict[str, Path]:
    path = Path(text).expanduser()
    if path.is_file():
        return {f"{SENT_TO}/{sent(text)}": path}
    if not path.is_dir():
        raise ValueError(f"{text} was to go along with the line, and is not there; name a file or a folder")
    inside = sorted(path.rglob("*"))
    linked = next((one for one in inside if one.is_symlink() and one.is_dir()), None)
    if linked is not None:
        raise ValueError(
            f"{linked} is a link to a folder, which is not followed; copy the folder, or send it by itself"
        )
    return {f"{SENT_TO}/{sent(text)}/{one.relative_to(path).as_posix()}": one for one in inside if one.is_file()}

"""Where results may go: a folder or an address of remote storage, and in a submitted job nowhere outside of one."""

import os
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ...streams.storage.directories import user_cache
from .secrets import masked, secret

STORAGE = "PERDURE_STORAGE"  # in a submitted job, where all of its results go
JOB = "PERDURE_JOB"  # in a submitted job, its id
DASHBOARD = "PERDURE_DASHBOARD"  # in a submitted job, the address that it was submitted to
MACHINE = "PERDURE_MACHINE"  # in a submitted job, the only machine whose folders are meant


def line_for(words: str) -> str:
    """What to type for a command of perdure: from a submitted job, on the laptop that submitted it."""
    if not os.environ.get(JOB):
        return f"perdure {words}"
    storage = os.environ.get(STORAGE) if not os.environ.get(MACHINE) else None
    parts = [f"--address {os.environ[DASHBOARD]}"] if os.environ.get(DASHBOARD) else []
    parts += [f"--storage {storage}"] if storage else []
    return " ".join(["perdure submit", *parts, "--", words])


def fetch_line() -> str:
    """What to type on a laptop for what this job has come to; empty where this is none."""
    id, address = os.environ.get(JOB), os.environ.get(DASHBOARD)
    return f"perdure fetch {id}" + (f" --address {address}" if address else "") if id else ""


def is_url(place: str) -> bool:
    return "://" in place


def absolute(path: str) -> str:
    return path.rstrip("/") if is_url(path) else str(Path(path).expanduser().absolute())


def local_copy(url: str) -> str:
    """The folder of this machine that holds what has been seen of remote storage. Raises ValueError."""
    if secret(url):
        raise ValueError(
            f"{masked(url)} holds a password or a key, which would be written down with the results; leave it out, and "
            "set it in the environment of every machine (as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    return str(user_cache() / "remote" / sha256(url.rstrip("/").encode()).hexdigest()[:16])


def within(place: str, storage: str) -> str:
    """`place` in full, where relative paths are the storage's own. Raises ValueError where it leaves the storage.

    >>> within("mine", "/shared/runs")
    '/shared/runs/mine'
    >>> within("s3://bucket/runs/mine", "s3://bucket/runs/")
    's3://bucket/runs/mine'
    """
    storage = absolute(storage)
    inside = False
    if is_url(storage):
        full = place.rstrip("/") if is_url(place) else f"{storage}/{place}"
        parts = PurePosixPath(full.partition("://")[2]).parts
        inside = ".." not in parts and not place.startswith("/") and f"{full}/".startswith(f"{storage}/")
    elif not is_url(place):
        full = str(Path(storage) / Path(place).expanduser())
        inside = Path(full).resolve().is_relative_to(Path(storage).resolve())  # links count by where they lead
    if not inside:
        raise ValueError(
            f"{masked(place)} leaves the storage of this job, {storage}; name a folder in it, or another --storage"
        )
    return full


def home_in_job(given: str | None) -> str | None:
    """Where the results of this command go, if it is a submitted job; None where it is none.

    given: what a recipe or the command line says. Raises ValueError.
    """
    storage, machine = os.environ.get(STORAGE), os.environ.get(MACHINE)
    if machine and machine != os.uname().nodename:
        raise ValueError(
            f"the job runs on {os.uname().nodename}, and {storage} is a folder of {machine}, where it was submitted; "
            "name a folder that all machines see, or an address as s3://bucket/runs, with --storage"
        )
    if storage:
        return absolute(storage) if given is None else within(given, storage)
    if os.environ.get(JOB) and given is None:
        raise ValueError("results would vanish with this job; name a folder that all machines see with --storage")
    return None

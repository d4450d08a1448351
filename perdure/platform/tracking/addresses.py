"""Addresses of MLflow: of databases in folders whose paths may hold any character, and of servers."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from ..storage.locations import STORAGE, is_url, within
from ..storage.secrets import HIDDEN, masked

URI = "MLFLOW_TRACKING_URI"
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)")
_MEANING = "?%#"  # what means something else in an address than in a path


def default_uri() -> str:
    """$MLFLOW_TRACKING_URI, or an SQLite file in the working folder; in a submitted job, in its storage."""
    given = os.environ.get(URI)
    return given or tracking_in_job(database(Path(os.environ.get(STORAGE) or Path.cwd()) / "mlflow.db"))


def database(path: Path) -> str:
    """The address of an SQLite file, whatever its path holds.

    MLflow makes the folder that the text after `sqlite:///` names, and does not unquote it: a path that must be quoted
    gets the other name of the same driver, which is left alone.

    >>> database(Path("/runs/mlflow.db")), database(Path("/what?/mlflow.db"))
    ('sqlite:////runs/mlflow.db', 'sqlite+pysqlite:////what%3F/mlflow.db')
    """
    plain = str(path)
    odd = any(sign in plain for sign in _MEANING)
    return f"sqlite+pysqlite:///{quote(plain)}" if odd else f"sqlite:///{plain}"


def file_of(uri: str) -> Path | None:
    """The SQLite file of an address; None of any other address.

    >>> file_of("sqlite+pysqlite:////what%3F/mlflow.db"), file_of("http://host")
    (PosixPath('/what?/mlflow.db'), None)
    """
    known = _SQLITE.match(uri)
    return Path(unquote(known["path"])) if known and known["path"] != ":memory:" else None


def artifacts_beside(file: Path) -> str:
    """Where artifacts of an SQLite file go: a folder beside it, as an address."""
    return (file.absolute().parent / "mlruns").as_uri()


def settled(uri: str) -> str:
    """The same address for whoever reads it in another folder, and with the password that was left out of it.

    Raises ValueError where nobody says the password.
    """
    if HIDDEN in uri:
        given = os.environ.get(URI, "")
        if masked(given) != uri:
            raise ValueError(
                f"this is tracked in {uri}, and the password or key in its address was not written down; give the "
                f"whole address with --tracking-uri or {URI}, or leave MLflow out with --no-tracking"
            )
        return given
    file = file_of(uri)
    return uri if file is None or file.is_absolute() else database(file.absolute())


def tracking_in_job(uri: str) -> str:
    """The address as it is, unless it is a file outside of a submitted job's storage. Raises ValueError."""
    storage, file = os.environ.get(STORAGE), file_of(uri)
    scheme, is_address, path = uri.partition(":///")
    if not storage or (is_url(uri) and file is None and scheme != "file"):
        return uri
    if is_url(storage):
        raise ValueError(
            f"results go to {storage}, which can hold no database; name a server with --tracking-uri or {URI}, or "
            "leave it with --no-tracking"
        )
    if file is not None:
        return database(Path(within(str(file), storage)))
    inside = within(unquote(path) if is_address else uri.removeprefix("file:"), storage)
    return Path(inside).as_uri() if is_address else inside

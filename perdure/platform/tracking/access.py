"""Whether an MLflow takes what a command is to send, known before the command makes anything."""

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ...version import __version__
from ..storage.secrets import masked
from .addresses import file_of
from .mlflow_client import Server, experiment_name, loaded
from .refusals import ExperimentDeleted, away, told

GREETING = 15.0  # seconds to wait for what a server says at first


def expect_welcome(uri: str | None, experiment: str = "") -> None:
    """Raises ValueError where an MLflow refuses, or its address is none. One that is away is sent to later.

    uri: None where nothing is tracked. experiment: by name; by default as `experiment_name` has it.
    """
    if uri is None:
        return
    if (file := file_of(uri)) is not None:
        expect_database(uri, file, experiment)
        return
    loaded()
    refusals: list[Exception] = []
    asking = threading.Thread(target=_greeted, args=(uri, experiment, refusals), name="greeting", daemon=True)
    asking.start()
    asking.join(GREETING)
    if refusals and not away(refusals[0], uri):
        raise ValueError(refused(uri, told(refusals[0])))


def refused(uri: str, why: str) -> str:
    return f"MLflow at {masked(uri)} refuses: {why}; or leave it with --no-tracking"


def expect_database(uri: str, file: Path, experiment: str = "") -> None:
    """Raises ValueError for a file that is no database, cannot be written to, or whose experiment is deleted.

    Looked at without MLflow, which takes seconds to come.
    """
    name, found = experiment or experiment_name(), None
    there = next(place for place in (file, *file.absolute().parents) if os.path.lexists(place))
    if not os.access(there, os.W_OK):
        raise ValueError(refused(uri, f"{there} cannot be written to; let it be, or name another with --tracking-uri"))
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, timeout=0.1)) as known:
            asked = "select lifecycle_stage, experiment_id from experiments where name = ?"
            found = known.execute(asked, [name]).fetchone()
    except sqlite3.OperationalError:  # it is not there yet, has no tables yet, or somebody writes to it now
        return
    except sqlite3.DatabaseError as e:
        raise ValueError(refused(uri, f"{file} holds none ({e}); name another file with --tracking-uri")) from None
    if found is not None and found[0] != "active":
        raise ValueError(refused(uri, told(ExperimentDeleted(name, found[1]))))


def _greeted(uri: str, experiment: str, refusals: list[Exception]) -> None:
    try:
        server = Server(uri, experiment)
        server.open()
        server.client.set_experiment_tag(server.into, "perdure.version", __version__)  # as runs are written
    except Exception as e:
        refusals.append(e)

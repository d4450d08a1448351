"""What MLflow refuses, told apart from an MLflow that is away, and written down until it is taken."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..storage.atomic import write
from ..storage.secrets import masked

LOGIN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
PASSING = (  # what a server says of itself rather than of what it was sent
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
    "ABORTED",
)
LASTING = (3, 8, 11, 13, 14, 23, 26)  # SQLite: no permission, read-only, corrupt, full, not to be opened, no database
VARIABLES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
LONGEST = 400  # characters of a server's own words


class ExperimentDeleted(Exception):
    """What is to be sent to is in MLflow's bin."""

    def __init__(self, name: str, id: str | int):
        super().__init__(f"the experiment {name!r} (id {id}) is deleted")


class Refusals:
    """Of one command by one MLflow: a file beside it, for as long as there are any."""

    def __init__(self, known_by: Path):
        self.path = known_by.with_name(f"{known_by.stem}-refused.json")
        self.known: dict[str, str] = {}  # by what is refused, the server's words and what to do
        with suppress(FileNotFoundError, ValueError):
            self.known = json.loads(self.path.read_text())
        self._before = dict(self.known)

    def begin(self) -> None:
        """The command itself is made, and tells of all that it lacks."""
        self._before = {}

    @property
    def new(self) -> list[str]:
        """Those that no earlier command has told of."""
        return [f"{what}: {why}" for what, why in self.known.items() if what not in self._before]

    def note(self, what: str, why: str) -> None:
        self.known[what] = why

    def taken(self, what: str) -> None:
        self.known.pop(what, None)

    def keep(self) -> None:
        """Write down what has been refused this time; nothing is left of what has been taken since."""
        with suppress(OSError):  # the disk is full, and what was refused is told all the same
            if self.known:
                write(self.path, json.dumps(self.known, indent=1, ensure_ascii=False).encode())
            else:
                self.path.unlink(missing_ok=True)


def away(error: Exception, uri: str) -> bool:
    """Whether what has failed may be taken when it is sent again: nobody answers, or what answers is out of order."""
    from mlflow.exceptions import InvalidUrlException, MlflowException

    database = _database(error)
    if database is not None:
        code = getattr(database.orig, "sqlite_errorcode", None)
        return database.connection_invalidated or (
            _operational(database) if code is None else code & 255 not in LASTING
        )
    status = _status(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    if isinstance(error, InvalidUrlException):
        return False
    if isinstance(error, MlflowException):  # INTERNAL_ERROR is also what the client says where nobody answers
        own = error.error_code == "INTERNAL_ERROR" and not uri.startswith("http")
        return error.error_code in PASSING and not own
    return isinstance(error, _unanswered())


def login_wanted(error: Exception) -> bool:
    return getattr(error, "error_code", None) in LOGIN or _status(error) in (401, 403)


def told(error: Exception, remedy: str = "") -> str:
    """What was said, in the server's own words, and what to do."""
    remedy = _remedy(error) or remedy
    return words(error) + (f"; {remedy}" if remedy else "")


def words(error: Exception) -> str:
    from mlflow.exceptions import MlflowException

    own = isinstance(error, MlflowException | ExperimentDeleted)
    text = " ".join(str(error).split("\n[SQL", 1)[0].split()) or type(error).__name__
    text = text if own or type(error).__name__ in text else f"{type(error).__name__}: {text}"
    return masked(text if len(text) <= LONGEST else f"{text[:LONGEST]} ...")


def _remedy(error: Exception) -> str:
    code = getattr(error, "error_code", "")
    if isinstance(error, ExperimentDeleted):
        return "restore it there, or send to another one by --experiment or MLFLOW_EXPERIMENT_NAME"
    if code == "PERMISSION_DENIED" or _status(error) == 403:
        return f"ask for the right to write there, or sign in as somebody else with {VARIABLES}"
    if login_wanted(error):
        return f"sign in: set {VARIABLES}"
    if code == "ENDPOINT_NOT_FOUND":
        return "is this the address of an MLflow server?"
    if isinstance(error, ImportError):
        return "install that package, or name another address"
    if "deleted" in str(error):  # the code alone, INVALID_PARAMETER_VALUE, is that of many others
        return "restore it there"
    return ""


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of requests, or of an object store's client, was made from."""
    answer: Any = getattr(error, "response", None)
    if isinstance(answer, dict):
        return answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return getattr(answer, "status_code", None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__  # pyright: ignore[reportAssignmentType]


def _database(error: Exception) -> Any:
    from sqlalchemy.exc import DBAPIError

    return next((one for one in _causes(error) if isinstance(one, DBAPIError)), None)


def _operational(error: Any) -> bool:
    """Of a database server: it has gone away, unless it has answered that it does not know who asks."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    return isinstance(error, InterfaceError | OperationalError) and "authentication failed" not in str(error)


def _unanswered() -> tuple[type[Exception], ...]:
    import requests
    import urllib3

    known = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return (ConnectionError, TimeoutError, BlockingIOError, *known, urllib3.exceptions.HTTPError)

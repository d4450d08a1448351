"""Remote storage, looked at before work starts: its library, whether it answers, its login, its bucket."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import uuid4

from ...errors import words
from .locations import absolute
from .secrets import masked

PATIENCE = 15.0  # seconds
BRIEF = {
    "connect_timeout": 3,
    "read_timeout": 8,
    "retries": {"max_attempts": 1},
}  # botocore waits for minutes
KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
SAME = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
THEIRS = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure")  # whose errors are no OSError


class NotSeen(ValueError):
    """Storage that cannot be used from this machine: its library, its login or its answer is lacking."""


@contextmanager
def answered() -> Iterator[None]:
    """A block in which what a storage's own library raises is a ConnectionError."""
    try:
        yield
    except Exception as e:
        if isinstance(e, OSError) or not _foreign(e):
            raise
        raise ConnectionError(words(e)) from e


@cache
def expect_storage(url: str, write: bool = False) -> None:
    """Raises NotSeen where nothing can be kept at an address, or be read from it; asked once in a process."""
    scheme = url.partition("://")[0]
    scheme, shown = SAME.get(scheme, scheme), masked(url)
    fs, root = _opened(url, scheme, shown)
    problems: list[Exception] = []
    asking = threading.Thread(target=_asked, args=(fs, root, write, problems.append), name="storage", daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if asking.is_alive():
        problems.append(TimeoutError(f"nothing within {PATIENCE:g} s"))
    if problems:
        raise NotSeen(_told(problems[0], scheme, shown)) from problems[0]


def _opened(url: str, scheme: str, shown: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    how: dict[str, Any] = {"auto_mkdir": True} if scheme in ("file", "local") else {}
    try:
        return url_to_fs(absolute(url), **how, **({"config_kwargs": BRIEF} if scheme == "s3" else {}))
    except ImportError as e:
        library = LIBRARIES.get(scheme)
        remedy = f"pip install {library}" if library else "install it"
        raise NotSeen(f"{shown} needs a library that is not here ({words(e)}); {remedy}, on every machine") from None
    except Exception as e:
        if _foreign(e) or isinstance(e, OSError):
            raise NotSeen(_told(e, scheme, shown)) from e
        raise NotSeen(f"{shown} is no address of a storage ({words(e)}); name one as s3://bucket/runs") from None


def _asked(fs: Any, root: str, write: bool, fail: Callable[[Exception], None]) -> None:
    try:
        try:
            fs.ls(root, detail=False)
        except FileNotFoundError as e:  # there is nothing in it yet
            if type(e.__cause__).__name__ == "NoSuchBucket":
                raise
        if write:
            probe = f"{root}/.looked-{uuid4().hex}"
            fs.pipe_file(probe, b"perdure")
            fs.rm_file(probe)
    except Exception as e:
        fail(e)


def _told(error: Exception, scheme: str, shown: str) -> str:
    keys = f"set {KEYS[scheme]} in the environment of every machine" if scheme in KEYS else "name another"
    said = words(error)
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return f"{shown} asks for a login, and there is none here ({said}); {keys}"
    if isinstance(error, PermissionError):
        return f"{shown} refuses what it is asked for ({said}); {keys} of somebody who may read and write there"
    if isinstance(error, FileNotFoundError):
        return f"{shown} is not there ({said}); make the bucket, or name another"
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    where = f"; AWS_ENDPOINT_URL is {masked(endpoint)}" if scheme == "s3" and endpoint else ""
    return f"{shown} does not answer ({said}){where or '; is this machine online, and the address right?'}"


def _foreign(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in THEIRS

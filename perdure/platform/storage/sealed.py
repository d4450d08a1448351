"""Records that show whether they are as they were written: rows chained by digests, and JSON files with a digest.

A row of a .jsonl file ends in a digest of itself and of the digest before it, so that a row that was changed, cut,
removed, repeated or moved is noticed, and so is everything that was written after it in another order.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .atomic import write

Row = dict[str, Any]
LENGTH = 16  # hexadecimal digits of a row's digest
_MARK = ', "digest": "'
END = b'"}'  # of every line, after the digest


class Damaged(ValueError):
    """A file is not as it was written. The message names the file, what is wrong, and what to do."""


@dataclass(frozen=True)
class Chain:
    """The rows of a file up to the first that is damaged."""

    rows: list[Row]
    heads: list[str]  # the digest after each of them
    problem: str = ""  # which row is damaged and how; empty where none is
    torn: bool = False  # whether a last line without its end was left out, as after a crash

    def head(self, count: int, start: str) -> str:
        """The digest after the first `count` rows."""
        return self.heads[count - 1] if count else start


def line(row: Row, before: str) -> tuple[str, str]:
    """A row as it is written after a row whose digest is `before`, and its own digest."""
    body = json.dumps(row, allow_nan=False)
    digest = _digest(before, body)
    return f'{body[:-1]}{_MARK if row else _MARK[2:]}{digest}"}}\n', digest


def read(raw: bytes, before: str) -> Row | None:
    """The row of a line; None where it is not the one that was written after `before`."""
    try:
        text = raw.decode()
        row = json.loads(text)
        digest = row.pop("digest")
        return row if line(row, before) == (f"{text}\n", digest) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def digest_of(raw: bytes) -> str:
    """The digest that a line bears, whether it is the right one or not."""
    return raw[-len(END) - LENGTH : -len(END)].decode(errors="replace")


def append(path: Path, text: str) -> None:
    """Add lines to a file; they are on the disk when this returns. What a crash tore there stays a line of its own."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            text = f"\n{text}"
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def lines(path: Path) -> list[bytes]:
    """All that end in a line break; none where there is no such file."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def chain(path: Path, start: str) -> Chain | None:
    """The rows of a file that was begun with the digest `start`; None where there is no such file."""
    try:
        *found, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    rows, heads = [], []
    for raw in found:
        row = read(raw, heads[-1] if heads else start)
        if row is None:
            whole = f"rows 1 to {len(rows)} are whole" if rows else "no row before it is there"
            return Chain(rows, heads, f"row {len(rows) + 1} of {path.name} is damaged ({whole})")
        rows.append(row)
        heads.append(digest_of(raw))
    return Chain(rows, heads, torn=bool(rest))


def write_sealed(path: Path, value: Row, mark: str = "") -> None:
    """A JSON file with a digest of its content, there whole or not at all. mark: as of `store.whole`."""
    text = json.dumps(value, indent=1)
    write(path, json.dumps(value | {"digest": _digest("", text)}, indent=1).encode(), mark)


def read_sealed(path: Path) -> Row:
    """What `write_sealed` wrote. Raises Damaged, or FileNotFoundError."""
    content = path.read_bytes()
    try:
        value = json.loads(content)
        digest = value.pop("digest")
        same = digest == _digest("", json.dumps(value, indent=1))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        same = False
    if not same or content != json.dumps(value | {"digest": digest}, indent=1).encode():
        what = "is empty" if not content else "is damaged: its content and its digest do not match"
        raise Damaged(f"{path.name} {what}")
    return value


def sha256(path: Path) -> str:
    """Of a file's content, read in parts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(before: str, body: str) -> str:
    return hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()[:LENGTH]

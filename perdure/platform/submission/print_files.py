"""Prints the files of a job, on a machine of its cluster: what a laptop fetches that does not see the storage.

python -m perdure.platform.submission.print_files JOB: `asked.json` in this folder lists what is wanted, nothing at
first. A job's log is the one way back that leads through every dashboard. Each line is a mark and JSON: of all files,
then of each that is asked for, up to so many bytes; whoever wants the rest asks again.
"""

import base64
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..storage.locations import STORAGE

MARK = "perdure-file "
MOST = 64 << 20  # bytes of files that one job prints; a larger one goes alone


def main(id: str) -> None:
    from .fetch import files, read_from, seen

    storage = os.environ.get(STORAGE)
    found = seen(id, storage) if storage else None
    if found is None:
        _print({"nothing": True})
        return
    home, folders = found
    asked = json.loads(Path("asked.json").read_text())
    if not asked:
        _print({"folders": folders, "files": files(home, folders)})
    sent = 0
    for name, content in read_from(home)(asked):
        if sent and sent + len(content) > MOST:
            break
        sent += len(content)
        _print({"name": name, "content": base64.b64encode(zlib.compress(content, 1)).decode()})


def printed(log: str) -> Iterator[dict[str, Any]]:
    """What was printed, among whatever else a log holds."""
    for line in log.splitlines():
        if line.startswith(MARK):
            yield json.loads(line.removeprefix(MARK))


def contents(said: Iterable[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for one in said:
        if "content" in one:
            yield one["name"], zlib.decompress(base64.b64decode(one["content"]))


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(value)}\n")


if __name__ == "__main__":
    main(sys.argv[1])

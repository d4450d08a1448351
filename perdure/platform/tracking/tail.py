"""A run's journal as it grows: each row is read once."""

from pathlib import Path

from ..runs.journal import Journal
from ..storage.sealed import END, LENGTH, Row, digest_of, read


class Tail:
    """The rows that have come since it was asked last.

    Attempts write the same bytes, each in a file of its own: what was read from one goes on in the next.
    """

    def __init__(self, folder: Path):
        self.count = 0  # rows that were read
        self._journal = Journal(folder)
        self._at, self._head = 0, self._journal.start  # where the last of them ends, and its digest

    def more(self) -> tuple[list[Row], bool]:
        """New rows, and whether they begin anew with the first: the file is not the one that was read before."""
        found = self._read()
        if found is None:
            self.count, self._at, self._head = 0, 0, self._journal.start
            rows = self._journal.rows()
            self.count = len(rows)
            return rows, True
        self.count += len(found)
        return found, False

    def _read(self) -> list[Row] | None:
        """Rows after the last that was read; None where they do not go on from it."""
        path = self._path()
        if path is None:
            return [] if not self.count else None
        try:
            with path.open("rb") as file:
                if self._at:
                    file.seek(self._at - 1 - len(END) - LENGTH)
                    before = file.read(LENGTH + len(END) + 1)
                    if len(before) < LENGTH + len(END) + 1:
                        return []  # a newer attempt's, which has not come as far
                    if digest_of(before[:-1]) != self._head:
                        return None
                *new, _ = file.read().split(b"\n")
        except FileNotFoundError:  # it got its last name meanwhile
            return []
        rows = []
        for raw in new:
            row = read(raw, self._head)
            if row is None:
                return None
            rows.append(row)
            self._at, self._head = self._at + len(raw) + 1, digest_of(raw)
        return rows

    def _path(self) -> Path | None:
        """The file that is written to, or the finished one."""
        if self._journal.path.exists():
            return self._journal.path
        return max(self._journal.path.parent.glob("journal-*.jsonl"), default=None)

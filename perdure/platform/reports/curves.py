"""What a tracker has of a run that learns a stream: a few curves as it goes, and its matrices once it is finished."""

import csv
import io
from collections.abc import Iterable, Sequence
from math import isnan

from ...strategies.metrics import Running
from ..runs.journal import Row, matrix, tested, under

SINGLE = 10  # experiences, the first, that have a curve of their own; every one of them is in the matrix
EXTRAS = 50  # numbers that the strategy tells of itself that have one; all are in the table


class Curves:
    """Called with the rows of a journal in order, gives the points that each adds.

    Their number does not grow with the stream, nor does the work but by the length of the row.
    """

    def __init__(self):
        self._clean: Running | None = None
        self._under: dict[str, Running] = {}

    def __call__(self, row: Row) -> dict[str, float]:
        self._clean = self._clean or Running(row["baseline"])
        values = self._clean.add(tested(row["accuracy"]))
        values |= {"loss": row["loss"], "state_bytes": row["state_bytes"], **_curved(row["extras"])}
        values |= _single("accuracy", tested(row["accuracy"]))
        for attack, made in row.get("attacked", {}).items():
            left = self._under.setdefault(attack, Running()).add(tested(made["robust"]))
            known = {"robust_accuracy": left["accuracy"], "robust_forgetting": left["forgetting"]}
            known |= {} if made["success"] is None else {"success": made["success"]}
            values |= {f"{attack}/{k}": v for k, v in known.items() if not isnan(v)}
            values |= _single(attack, tested(made["robust"]))
        return values


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """CSV texts by name: accuracy on each experience (columns) after each (rows), clean and under every attack, and all
    that the strategy tells of itself."""
    robust = {f"robust_{attack}": m for attack, m in under(rows).items()}
    matrices = {"accuracy_matrix": matrix(rows)} | robust
    told = {name: _csv(["after", *range(1, max(map(len, m)) + 1)], map(_cells, m)) for name, m in matrices.items()}
    keys = list(dict.fromkeys(key for row in rows for key in row["extras"]))
    if keys:
        told["extras"] = _csv(["after", *keys], [[row["extras"].get(key) for key in keys] for row in rows])
    return told


def _single(name: str, accuracy: Sequence[float]) -> dict[str, float]:
    return {f"{name}/experience_{j + 1:02d}": v for j, v in enumerate(accuracy[:SINGLE]) if not isnan(v)}


def _curved(extras: Row) -> Row:
    """Those that are no entries of a matrix, such as cosine/02/01, of which there are more with every experience."""
    kept = [key for key in extras if key.count("/") < 2]
    return {key: extras[key] for key in kept[:EXTRAS]}


def _cells(row: Sequence[float]) -> list[object]:
    return ["" if isnan(v) else v for v in row]


def _csv(head: Sequence[object], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([n + 1, *line] for n, line in enumerate(lines))
    return text.getvalue()

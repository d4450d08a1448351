"""The folder of a stream that goes on: arrivals as they were taken, what was held out of them, what was set aside."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...strategies.numerics.rng import Rng
from ...streams.datasets.dataset import DataError, stratified
from ...streams.experience import Experience, Split
from ...streams.live.source import Arrival, SetAside
from ..runs.journal import Journal
from ..storage.atomic import write
from ..storage.checkpoints import opened, seal
from ..storage.sealed import Damaged, Row, append, chain, line, lines, read_sealed, write_sealed
from .settings import Following

STREAM = "stream"  # what the chains of rows begin with, wherever the folder is moved to
REMEDY = "bring it back from a copy, or begin anew with another --state"
Names = dict[str, int]  # the output of the model that every class met so far has


@dataclass(frozen=True)
class Kept:
    """Paths, and what is at them."""

    path: Path

    @property
    def journal(self) -> Journal:
        return Journal(self.path, start=STREAM)

    @property
    def models(self) -> Path:
        """MLflow models that no registry has yet, by their arrival's number."""
        return self.path / "models"

    def asides(self) -> list[Row]:
        """What was set aside, in order. Raises Damaged."""
        known = chain(self._asides, STREAM)
        if known is not None and known.problem:
            raise Damaged(f"{self.path}: {known.problem}; {REMEDY}")
        return known.rows if known else []

    def set_aside(self, item: SetAside) -> None:
        known = chain(self._asides, STREAM)
        if known is not None and known.torn:  # by a crash
            write(self._asides, b"".join(one + b"\n" for one in lines(self._asides)))
        append(self._asides, line(asdict(item), known.heads[-1] if known and known.heads else STREAM)[0])

    def begin(self, following: Following) -> dict[str, Any]:
        """What is written down of the stream. Raises ValueError where the folder is of another one."""
        path = self.path / "follow.json"
        if path.exists():
            try:
                known = read_sealed(path)
            except Damaged as e:
                raise Damaged(f"{self.path}: {e}; {REMEDY}") from None
            differs = following.differs(Following.of(known["following"]))
            if not differs:
                return known
            if (self.path / "learned").exists() and any((self.path / "learned").glob("checkpoint-*")):
                raise ValueError(
                    f"{self.path} holds a stream that is learned in another way: {differs}. Ask for the same, or begin "
                    "anew with another --state"
                )
            for taken in self.path.glob("arrivals/*.pt"):  # and not learned: its source tells of it again
                taken.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        known = {"following": asdict(following), "created": int(time.time() * 1000)}
        write_sealed(path, known)
        return known

    def taken(self, number: int) -> dict[str, Any] | None:
        """Arrival `number` as it was taken; None where there is none."""
        path = self._arrival(number)
        if not path.exists():
            return None
        known = opened(path)
        if known is None:
            raise ValueError(f"{path} is corrupt; {REMEDY}")
        return known

    def take(self, number: int, taken: dict[str, Any]) -> None:
        (self.path / "arrivals").mkdir(exist_ok=True)
        seal(self._arrival(number), taken)

    def drop(self, number: int) -> None:
        self._arrival(number).unlink(missing_ok=True)

    def trim(self, number: int) -> None:
        """Keep of an arrival only what was held out."""
        taken = self.taken(number)
        if taken is not None and "x" in taken:
            self.take(number, {k: v for k, v in taken.items() if k not in ("x", "y")})

    @property
    def _asides(self) -> Path:
        return self.path / "aside.jsonl"

    def _arrival(self, number: int) -> Path:
        return self.path / "arrivals" / f"{number:05d}.pt"


def divided(item: Arrival, number: int, following: Following, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """An arrival as it is taken: its samples to learn from, those held out, and the classes met by then.

    before: the arrival taken before it. Raises DataError for one that does not go with those before.
    """
    names, sort = _named(item, following, before)
    columns = _columns(item, before)
    x = torch.from_numpy(_ordered(item, columns))
    shape, dtype = list(x.shape[1:]), str(x.dtype).removeprefix("torch.")
    if before is not None and [before["shape"], before["dtype"]] != [shape, dtype]:
        expected = f"samples of shape {tuple(before['shape'])} and type {before['dtype']}, as before"
        raise DataError(f"expected {expected}, got {tuple(shape)} and {dtype} in {item.name}")
    y = torch.tensor([names[str(label)] for label in item.y.tolist()])
    train, held = _rows(y, following, number, item.name)
    taken = {"id": item.id, "name": item.name, "shape": shape, "dtype": dtype, "sort": sort, "names": names}
    taken["places"] = y.unique().tolist()  # of its classes
    taken |= {"columns": list(columns)} if columns else {}
    return taken | {"x": x[train], "y": y[train], "held_x": x[held], "held_y": y[held]}


def experience(taken: Mapping[str, Any], number: int) -> Experience:
    """What was taken, to be learned and judged; of one that was trimmed there is nothing left to learn from."""
    test = _split(taken["held_x"], taken["held_y"], number)
    train = _split(taken["x"], taken["y"], number) if "x" in taken else test.part(torch.zeros(0, dtype=torch.int64))
    return Experience(number, number, train, test)


def _columns(item: Arrival, before: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What the numbers of a sample are called from here on; empty where nobody has said."""
    known = tuple((before or {}).get("columns", ()))
    if known and item.columns and set(known) != set(item.columns):
        lacking, more = map(", ".join, (sorted({*known} - {*item.columns}), sorted({*item.columns} - {*known})))
        told = "; ".join([f"lacks {lacking}"] * bool(lacking) + [f"has {more} beside them"] * bool(more))
        raise DataError(f"expected columns {', '.join(known)}, as before; {item.name} {told}")
    return known or item.columns


def _ordered(item: Arrival, columns: tuple[str, ...]) -> np.ndarray:
    """A copy of the samples, with their columns in the order of those before."""
    if item.columns and item.columns != columns:
        return item.x[:, [item.columns.index(column) for column in columns]]
    return np.array(item.x)


def _named(item: Arrival, following: Following, before: Mapping[str, Any] | None) -> tuple[Names, str]:
    """Outputs of all classes met so far and in this arrival, and whether labels are numbers or texts."""
    labels = np.unique(item.y)
    sort = "texts" if item.y.dtype.kind == "U" else "numbers"
    names: Names = dict(before["names"]) if before else {}
    if following.named:
        unknown = [str(label) for label in labels.tolist() if str(label) not in following.named]
        if unknown:
            raise DataError(
                f"{item.name} has label {unknown[0]!r}, which is not among --classes {','.join(following.named)}; put "
                "it right, or begin anew with another --state and with --classes that name it"
            )
        return names | {str(n): following.named.index(str(n)) for n in labels.tolist()}, sort
    if before and before["sort"] != sort:
        raise DataError(f"labels of {item.name} are {sort}, and those before were {before['sort']}; use one of both")
    for label in labels.tolist():
        place = len(names) if sort == "texts" else int(label)
        if str(label) not in names and not 0 <= place < following.classes:
            room = f"room for {following.classes} classes"
            known = f" ({', '.join(names)})" if sort == "texts" else f", numbered 0 to {following.classes - 1}"
            raise DataError(
                f"{item.name} has label {label!r}, and there is {room}{known}; put it right, or begin anew with "
                "another --state and a larger --classes"
            )
        names.setdefault(str(label), place)
    return names, sort


def _rows(y: Tensor, following: Following, number: int, name: str) -> tuple[Tensor, Tensor]:
    """Rows to learn from and rows held out; of a class with a single sample none is held out."""
    often = torch.bincount(y)[y] > 1
    if not often.any():
        raise DataError(
            f"{name} has no class with two samples: one to learn from, one to be judged by; gather more in an arrival"
        )
    several, single = often.nonzero().flatten(), (~often).nonzero().flatten()
    seed = Rng(following.seed).fold(number).integer("hold-out")
    train, held = stratified(y[several], following.hold_out, seed)
    return torch.cat([several[train], single]).sort().values, several[held]


def _split(x: Tensor, y: Tensor, task: int) -> Split:
    return Split(x, y, torch.full_like(y, task), torch.arange(len(y)))

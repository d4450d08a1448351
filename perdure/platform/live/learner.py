"""What keeps a model current: it takes one arrival after another, and can be killed at any moment."""

import os
import shutil
import socket
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import place, why
from ...strategies import names
from ...strategies.learner import Learner
from ...strategies.numerics.divergence import Diverged
from ...strategies.training.loop import learn
from ...strategies.training.plan import Bookmark, Milestone
from ...strategies.training.requirements import Caution
from ...streams.datasets.dataset import DataError
from ...streams.experience import Experience, Stream
from ...streams.live.source import Arrival, SetAside
from ..execution.attempt import Due
from ..runs.journal import Journal, row
from ..runs.record import resumable
from ..runs.run import fresh
from ..runs.workspace import Site
from ..storage import signals
from ..storage.checkpoints import Store
from ..storage.sealed import Damaged
from ..workloads.warmup import warm
from . import state as kept
from .settings import Following
from .state import REMEDY, STREAM


class Keeper:
    """Learns arrivals into `site.home`, each as one experience of the one training loop.

    An arrival is written down before it is learned, so that it is there when a killed process is gone on with, wherever
    it came from. Checkpoints after arrivals and bookmarks within one are kept apart: one that comes to nothing is left
    without a trace.

    serves: whether a model is exported after every arrival, for a registry.
    """

    def __init__(self, following: Following, site: Site, serves: bool = False):
        torch.set_num_threads(following.threads)
        self.following, self.site, self.serves = following, site, serves
        self.kept = kept.Kept(Path(site.home))
        self.learned, self.within = Store(self.kept.path / "learned"), Store(self.kept.path / "within")
        self._attempts = self.learned.claim(), self.within.claim()
        self._journal = Journal(self.kept.path, self._attempts[0], STREAM)
        self._checkpoint, self.rows = resumable(self.learned, self._journal)
        if self._checkpoint is None and self.learned.files():
            why = "; ".join(self._journal.damage()) or "no checkpoint is whole"
            raise Damaged(f"{self.kept.path}: {why}, and what was learned from is gone; {REMEDY}")
        self._journal.begin(self.rows)
        self._experiences: list[Experience] = []  # what was held out of the arrivals so far
        self._strategy = names.strategy(following.strategy)
        where = f"{socket.gethostname()}:{os.getpid()}"
        self._journal.note(event="start", time=time.time(), where=where)

    def seen(self) -> set[str]:
        """Ids of all that was taken or set aside."""
        known = {row["id"] for row in self.rows} | {aside["id"] for aside in self.kept.asides()}
        waiting = self.kept.taken(len(self.rows))
        return known | ({waiting["id"]} if waiting else set())

    def take(self, item: Arrival | SetAside) -> None:
        """Learn an arrival, or set it aside; after what is under way. What is known is passed over."""
        self.go_on()
        if self.pausing or item.id in self.seen():
            return
        number = len(self.rows)
        try:
            if isinstance(item, SetAside):
                raise DataError(item.reason)
            before = self.kept.taken(number - 1) if number else None
            self.kept.take(number, kept.divided(item, number, self.following, before))
        except DataError as e:
            self.kept.set_aside(SetAside(item.id, item.name, str(e)))
        self.go_on()

    def go_on(self) -> None:
        """Learn the arrival that is under way, if there is one."""
        while not self.pausing and (taken := self.kept.taken(len(self.rows))) is not None:
            number = len(self.rows)
            if "x" not in taken:
                raise ValueError(
                    f"no checkpoint in {self.learned.folder} is whole, and what they were learned from is gone; bring "
                    "one back from a copy, or begin anew with another --state"
                )
            try:
                self._learn(taken, number)
            except DataError as e:
                self._drop(taken, number, str(e))

    def give_up(self, item: Arrival | SetAside | None, reason: str) -> bool:
        """Set aside what was left under way, or else an item; whether there was anything.

        Not before anything was learned: what keeps the very first arrival from it may keep all others.
        """
        number = len(self.rows)
        taken = self.kept.taken(number) if number else None
        if taken is not None:
            self._drop(taken, number, reason)
        elif number and item is not None and item.id not in self.seen():
            self.kept.set_aside(SetAside(item.id, item.name, reason))
        else:
            return False
        return True

    def _drop(self, taken: dict[str, Any], number: int, reason: str) -> None:
        """Set aside the arrival under way."""
        self.kept.set_aside(SetAside(taken["id"], taken["name"], reason))
        self.kept.drop(number)
        self.within.clear()

    @property
    def pausing(self) -> bool:
        """Whether the arrival under way is to come to a bookmark, and no other to be learned."""
        return signals.asked()

    def _learn(self, taken: dict[str, Any], number: int) -> None:
        stream, learner = self._stream(taken, number), self._fresh(taken)
        bookmark = self.within.load()
        checkpoint = bookmark if bookmark and bookmark["id"] == taken["id"] else self._checkpoint
        warm()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caution)  # it is said once, at the beginning
            stones = learn(stream, learner, self._strategy, self.following.plan, checkpoint, self._due())
            for stone in _blamed(stones, number):
                if isinstance(stone, Bookmark):
                    self.within.save(stone.checkpoint | {"id": taken["id"]}, self._attempts[1])
                    if self.pausing:
                        return
                else:
                    self._reached(stone, taken, stream, learner)

    def _due(self):
        by_plan = Due(self.site, lambda: None)
        return lambda: by_plan() or self.pausing

    def _reached(self, stone: Milestone, taken: dict[str, Any], stream: Stream, learner: Learner) -> None:
        number = stone.experience
        told = row(stone) | {"id": taken["id"], "name": taken["name"], "samples": len(taken["y"])}
        told["places"] = taken["places"]
        answered = confusion(learner, self._strategy, stone.checkpoint["strategy"], stream)
        told["classes"] = _by_class(answered, taken)
        self.learned.guard(self._attempts[0])
        if self.serves:
            self._export(stone.checkpoint, taken, stream)
        self._journal.add(told)
        seconds, at = stone.seconds, time.time()
        self._journal.note(event="milestone", time=at, experience=number, seconds=seconds)
        vouched = {"rows": number + 1, "journal": self._journal.head}
        self.learned.save(stone.checkpoint | vouched, self._attempts[0])
        self._checkpoint = stone.checkpoint
        self.rows.append(told)
        self.within.clear()
        if number:  # the last is kept whole, as its checkpoint may be found corrupt
            self.kept.trim(number - 1)
        self._experiences.append(_held_out(stream[number]))

    def _fresh(self, taken: dict[str, Any], device: str | None = None) -> Learner:
        by = replace(self.following, device=device or self.following.device)
        return fresh(by, tuple(taken["shape"]), self.following.classes)

    def _stream(self, taken: dict[str, Any], number: int) -> Stream:
        """All arrivals as one stream; of those before only what was held out is met."""
        for j in range(len(self._experiences), number):
            former = self.kept.taken(j)
            assert former is not None, f"arrival {j + 1} has gone from {self.kept.path}"
            self._experiences.append(_held_out(self._met(former, j)))
        table = torch.zeros(number + 1, self.following.classes, dtype=torch.bool)
        for j, told in enumerate(self.rows):
            table[j, told["places"]] = True
        table[number, taken["places"]] = True
        return Stream([*self._experiences, self._met(taken, number)], table, "class")

    def _met(self, taken: dict[str, Any], number: int) -> Experience:
        made, device = kept.experience(taken, number), self.following.device
        return replace(made, train=made.train.to(device), test=made.test.to(device))

    def _export(self, checkpoint: dict[str, Any], taken: dict[str, Any], stream: Stream) -> None:
        from . import export

        folder = self.kept.models / f"{len(stream) - 1:05d}"
        shutil.rmtree(folder, ignore_errors=True)
        export.export(folder, self._fresh(taken, "cpu"), self._strategy, checkpoint, stream, taken)


def _blamed(stones: Iterator[Milestone | Bookmark], number: int) -> Iterator[Milestone | Bookmark]:
    """Raises DataError for what may well be the arrival's own fault.

    What goes wrong in code of one's own is put right there, and what keeps the very first arrival from being learned
    may keep all others from it; unless the loss stops being finite.
    """
    try:
        yield from stones
    except Diverged as e:
        raise DataError(str(e)) from e
    except (ValueError, MemoryError, RuntimeError) as e:
        full = isinstance(e, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(e)
        if number and not place(e) and (full or isinstance(e, ValueError)):
            raise DataError(f"it cannot be learned: {why(e)}") from e
        raise


def _by_class(told: Tensor, taken: dict[str, Any]) -> dict[str, list[int]]:
    """Of every class met: how many samples were held out so far, and how many of them are answered rightly."""
    counts = {name: [int(told[at].sum()), int(told[at, at])] for name, at in taken["names"].items()}
    return {name: count for name, count in counts.items() if count[0]}


def _held_out(experience: Experience) -> Experience:
    """What is met of a former arrival: nothing to learn from."""
    nothing = torch.zeros(0, dtype=torch.int64, device=experience.test.device)
    return replace(experience, train=experience.test.part(nothing))


@torch.no_grad()
def confusion(learner: Learner, strategy: Any, state: Any, stream: Stream) -> Tensor:
    """(C, C) counts of held-out samples, by class (rows) and answer (columns)."""
    count = stream.classes.shape[1]
    told = torch.zeros(count * count, dtype=torch.int64, device=learner.device)
    with learner.resting():
        for batch in _held(stream):
            outputs = strategy.answer(learner, batch, learner.outputs(batch.x, batch.task), state)
            answers = learner.masked(outputs, batch.task).argmax(1)
            told += torch.bincount(batch.y * count + answers, minlength=count * count)
    return told.view(count, count).cpu()


def _held(stream: Stream, chunk: int = 4096) -> Iterator[Any]:
    for experience in stream:
        yield from experience.test.chunks(chunk)

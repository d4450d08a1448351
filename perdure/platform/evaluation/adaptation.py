"""A finished meta-learner on one new task: it adapts to the samples that have an answer, and answers the others."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import reading
from ...limits import expect_room
from ...notation import is_number
from ...strategies.meta.names import meta_learner
from ...strategies.numerics.rng import Rng
from ...streams.datasets.arrays import plain_arrays
from ...streams.datasets.dataset import DataError
from ...streams.datasets.images import opened
from ..runs import dry_run
from ..runs.identity import expect_same
from ..runs.lookup import found
from ..runs.meta_run import MetaRun, judged_model
from ..runs.record import ended
from ..runs.workspace import Site


@dataclass(frozen=True, eq=False)
class Task:
    """What a file holds."""

    x: Tensor  # (K, ...) samples to adapt to
    y: Tensor  # (K,) int64 places in `classes`, or values (K, outputs)
    classes: tuple[str, ...]  # sorted; empty where there are values
    queries: Tensor  # (Q, ...) samples to answer
    names: tuple[str, ...]  # of the queries


@dataclass(frozen=True, eq=False)
class Answers:
    """What a meta-learner takes the queries of a task for."""

    run: MetaRun
    steps: int
    names: tuple[str, ...]  # of the queries
    values: list[list[float]]  # of each query: outputs, or the share that each class has
    classes: tuple[str, ...]  # sorted; empty where values are asked for
    loss: tuple[float, float]  # on the support, before adapting and after

    @property
    def said(self) -> list[Any]:
        """One answer a query: a class, a number or a list of numbers."""
        if self.classes:
            return [self.classes[max(range(len(row)), key=row.__getitem__)] for row in self.values]
        return [row[0] if len(row) == 1 else row for row in self.values]


def adapt(id: str, data: str, steps: int | None = None, home: str = "perdure-runs") -> Answers:
    """Adapt a finished run by (the beginning of) its id to the task in a file, and answer the task's queries, both in
    evaluation mode, as test tasks are.

    data: a CSV file, whose last column holds the answers, empty for queries; an .npz file with arrays x, y and
    queries; or a folder of images, whose folders are classes, and whose other images are queries. steps: as many as
    in training by default.

    Raises ValueError for runs that are not finished or did not meta-learn, DataError or FileNotFoundError for data
    that the model cannot take.
    """
    dry_run.ends(paths=[data])
    run, site = found(id, home), Site(home)
    if not isinstance(run, MetaRun):
        raise ValueError(f"run {run.id} learned a stream; adapt goes on from a run of perdure meta")
    kept = ended(run, site)
    expect_same(run, site)
    about = kept["tasks"]
    shape, outputs, classes = tuple(about["shape"]), about["outputs"], about["classes"]
    model, loss = judged_model(run, shape, outputs, classes)
    model.load_state_dict(kept.get("still", {}), strict=False)
    task = _read(Path(data), shape, classes)
    known = task.classes
    if classes is not None and not 1 < len(known) <= classes:
        raise DataError(f"the run tells {classes} classes apart, and {data} has {len(known)}: {', '.join(known)}")
    if classes is None and tuple(task.y.shape[1:]) != (outputs,):
        raise DataError(f"expected {outputs} values for each sample of {data}, got {tuple(task.y.shape[1:])}")
    learner = meta_learner(run.learner)
    learned, count = kept["learned"], learner.steps if steps is None else steps
    x, y, queries = (part.to(run.device) for part in (task.x, task.y, task.queries))
    with torch.no_grad(), loss.resting():
        Rng(run.seed).fold("adapt").seed_torch()
        answers = learner.answers(loss, learned, x, y, queries, count)
        before, after = (loss.of(learner.answers(loss, learned, x, y, x, n), y).item() for n in (0, count))
    if not answers.isfinite().all():
        raise ValueError(f"{count} steps at lr={learner.lr:g} lead to no finite answer on this task; take fewer")
    if classes is not None:
        answers = answers[:, : len(known)].softmax(1)
    return Answers(run, count, task.names, answers.flatten(1).tolist(), known, (before, after))


def _read(path: Path, shape: tuple[int, ...], classes: int | None) -> Task:
    if not path.exists():
        raise FileNotFoundError(f"{path} was not found")
    if not path.is_dir() and not path.is_file():
        raise DataError(f"expected {path} to be a file or a folder")
    remedy = "expected a CSV file with the answer last, an .npz file of x, y and queries, or a folder of images"
    with reading(f"{path} cannot be read as a task", remedy, DataError):
        if path.is_dir():
            task = _folder(path, shape)
        else:
            task = _arrays(path, classes) if path.suffix == ".npz" else _csv(path, classes)
    for what, x in (("samples to adapt to", task.x), ("queries", task.queries)):
        if not len(x):
            raise DataError(f"{path} has no {what}")
        if tuple(x.shape[1:]) != shape:
            raise DataError(f"expected {what} of shape {shape}, as in training, got {tuple(x.shape[1:])} in {path}")
        if not x.isfinite().all():
            raise DataError(f"{path} holds NaN or an infinity among its {what}")
    return task


def _csv(path: Path, classes: int | None) -> Task:
    expect_room(str(path), 100 * path.stat().st_size)
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and not all(map(is_number, rows[0][:-1])):
        rows = rows[1:]  # names of the columns
    asked = [not row[-1].strip() for row in rows]
    try:
        x = torch.tensor([[float(v) for v in row[:-1]] for row in rows])
        known = [row[-1].strip() for row, empty in zip(rows, asked, strict=True) if not empty]
        y = _labelled(known) if classes is not None else (torch.tensor([[float(v)] for v in known]), ())
    except (ValueError, IndexError) as e:
        raise DataError(f"{path} is not a table of numbers with the answer last ({e})") from None
    at = torch.tensor(asked, dtype=torch.bool)
    return Task(x[~at], *y, x[at], tuple(f"row {n + 1}" for n, empty in enumerate(asked) if empty))


def _arrays(path: Path, classes: int | None) -> Task:
    held = plain_arrays(path)
    lacking = {"x", "y", "queries"} - set(held)
    if lacking:
        raise DataError(f"{path} must hold arrays x, y and queries; it lacks {', '.join(sorted(lacking))}")
    x, y, queries = held["x"], held["y"], held["queries"]
    if not (x.ndim and y.ndim and queries.ndim) or len(x) != len(y):
        raise DataError(f"expected as many samples as answers in {path}, got x {x.shape} and y {y.shape}")
    samples, others = (torch.from_numpy(v).float() / (255 if v.dtype == np.uint8 else 1) for v in (x, queries))
    said = _labelled(y.tolist()) if classes is not None else (torch.from_numpy(y).float().view(len(y), -1), ())
    return Task(samples, *said, others, tuple(f"query {n + 1}" for n in range(len(others))))


def _folder(path: Path, shape: tuple[int, ...]) -> Task:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"{path} is a folder of images, and the run takes samples of shape {shape}")
    shots = sorted(f for f in path.glob("*/*") if f.is_file())
    asked = sorted(f for f in path.iterdir() if f.is_file())
    x, queries = (_images(files, shape) for files in (shots, asked))
    return Task(x, *_labelled([f.parent.name for f in shots]), queries, tuple(f.name for f in asked))


def _labelled(labels: list[Any]) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as places among the classes, and the classes."""
    texts = [str(label) for label in labels]
    classes = tuple(sorted(set(texts)))
    return torch.tensor([classes.index(text) for text in texts]), classes


def _images(files: list[Path], shape: tuple[int, ...]) -> Tensor:
    pixels = []
    for file in files:
        with opened(file) as image:
            seen = image.convert("L" if shape[0] == 1 else "RGB").resize((shape[2], shape[1]))
        pixels.append(
            torch.from_numpy(np.array(seen)).float().view(shape[1], shape[2], shape[0]).permute(2, 0, 1) / 255
        )
    return torch.stack(pixels) if pixels else torch.zeros(0, *shape)

"""Streams to and from Avalanche (Lomonaco et al. 2021, arXiv:2104.00405)."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...notation import REST
from ..datasets.dataset import DataError, Dataset, Part, Source
from ..experience import Protocol, Split, Stream
from ..recipe import Recipe
from ..storage.directories import DataNotFound, Places
from .assigned import Assigned


@dataclass(frozen=True)
class AvalancheData(Source):
    """The data of one of Avalanche's benchmarks, with the experience that each sample belongs to."""

    name: str
    protocol: Protocol = "class"
    arguments: tuple[tuple[str, Any], ...] = field(default=(), metadata=REST)

    def load(self, places: Places) -> Dataset:
        return dataset_of(benchmark(self.name, dict(self.arguments), places), self.protocol)


@dataclass(frozen=True)
class AvalancheStream(Recipe):
    """One of Avalanche's benchmarks by name, as avalanche('SplitMNIST', n_experiences=5); arguments are Avalanche's.

    Images come as they are, in [0, 1]: its default normalisation is left out. `protocol` says what the learner
    is told: Avalanche itself leaves that to the metrics. Needs avalanche-lib.
    """

    name: str
    protocol: Protocol = "class"
    arguments: tuple[tuple[str, Any], ...] = field(default=(), metadata=REST)

    def source(self) -> AvalancheData:
        return AvalancheData(self.name, self.protocol, self.arguments)

    def follows(self) -> Protocol:
        return self.protocol

    def arrange(self, dataset: Dataset) -> Stream:
        return Assigned(self.source(), self.protocol).arrange(dataset)


def benchmark(name: str, arguments: dict[str, Any], places: Places) -> Any:
    """Avalanche's own benchmark. Raises ValueError for a name or an argument that it does not know."""
    from avalanche.benchmarks import classic

    make = vars(classic).get(name)
    if not inspect.isfunction(make):
        known = sorted(n for n, f in vars(classic).items() if n[:1].isupper() and inspect.isfunction(f))
        raise ValueError(f"Avalanche has no benchmark {name!r}; it has {', '.join(known)}")
    takes = inspect.signature(make).parameters
    unknown = sorted(set(arguments) - set(takes))
    if unknown:
        raise ValueError(f"Avalanche's {name} has no argument {unknown[0]!r}; it takes {', '.join(takes)}")
    own: dict[str, Any] = {k: _scaled for k in ("train_transform", "eval_transform") if k in takes}
    folder = next((folder for _, folder in places.named()[:2] if folder), None)  # --data, $PERDURE_DATA
    if "dataset_root" in takes and folder is not None:
        own["dataset_root"] = str(folder)
    try:
        return make(**own | arguments)
    except (OSError, RuntimeError) as e:
        where = (own | arguments).get("dataset_root", "its own folder")
        raise DataNotFound(
            f"Avalanche could not bring the data of {name} ({str(e).splitlines()[0]}); it looked in {where} and on the "
            "network: put the files there as torchvision lays them out, or name another folder with --data"
        ) from None


def _scaled(picture: Any) -> Tensor:
    """A picture as (C, H, W) in [0, 1]; some of Avalanche's benchmarks do that before they ask."""
    from torchvision.transforms.functional import to_tensor

    return picture if isinstance(picture, Tensor) else to_tensor(picture)


def dataset_of(made: Any, protocol: Protocol) -> Dataset:
    """All samples of an Avalanche benchmark, as they come out of its transforms in tests.

    Images that are multiples of 1/255 are kept as bytes. Under the task protocol labels that come again in
    another experience become labels of their own: every task has its head.
    """
    streams = (made.train_stream, made.test_stream)
    if len(streams[0]) != len(streams[1]):
        raise DataError(
            f"expected as many test as training experiences, got {len(streams[1])} and {len(streams[0])}: "
            "each experience is tested on its own samples"
        )
    parts = [[_tensors(experience.dataset) for experience in stream] for stream in streams]
    own = [set(y.tolist()) for _, y in parts[0]]
    if protocol == "task" and len(set().union(*own)) < sum(map(len, own)):
        width = 1 + max(int(y.max()) for part in parts for _, y in part)
        parts = [[(x, y + t * width) for t, (x, y) in enumerate(part)] for part in parts]
    labels = torch.cat([y for part in parts for _, y in part]).unique()  # those there are, without gaps
    train, test = (Part(_bytes(torch.cat([x for x, _ in p])), _ranks(p, labels)) for p in parts)
    numbers = [torch.cat([torch.full_like(y, t) for t, (_, y) in enumerate(p)]) for p in parts]
    if train.x.dtype != test.x.dtype:
        train, test = (Part(p.x.float() / 255 if p.x.dtype == torch.uint8 else p.x, p.y) for p in (train, test))
    return Dataset(train, test, tuple(str(int(label)) for label in labels), (numbers[0], numbers[1]))


def stream_of(made: Any, protocol: Protocol = "class") -> Stream:
    """Any Avalanche benchmark with a train and a test stream as one of ours.

    made: what `avalanche.benchmarks` makes. Raises DataError where the two streams do not go together.
    """
    dataset = dataset_of(made, protocol)
    return Assigned(_Made(), protocol).arrange(dataset)


def benchmark_of(stream: Stream) -> Any:
    """An Avalanche benchmark with the experiences of a stream, as float tensors in memory.

    Samples bear their task in a task-incremental stream, else 0, as Avalanche does it.
    """
    from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline, with_task_labels

    train, test = (
        [tensors(split, stream.protocol) for split in splits] for splits in zip(*_splits(stream), strict=True)
    )
    return with_task_labels(with_classes_timeline(benchmark_from_datasets(train=train, test=test)))


def tensors(split: Split, protocol: Protocol) -> Any:
    """A split as an Avalanche data set."""
    batch = split.batch(torch.arange(len(split), device=split.device))
    return taskaware(
        batch.x.cpu(), batch.y.cpu(), batch.task.cpu() if protocol == "task" else torch.zeros_like(batch.y)
    )


def taskaware(x: Tensor, y: Tensor, task: Tensor) -> Any:
    """(N, ...) float inputs, (N,) labels and (N,) tasks as an Avalanche data set."""
    from avalanche.benchmarks.utils import classification_dataset

    make: Any = classification_dataset._make_taskaware_tensor_classification_dataset
    own = task.unique().tolist()
    return make(x, y, task_labels=own[0] if len(own) == 1 else task.tolist())  # Avalanche joins like with like only


@dataclass(frozen=True)
class _Made(Source):
    """A benchmark that was made already."""

    def load(self, places: Places) -> Dataset:
        raise DataError("this benchmark was handed over in Python; it cannot be loaded by its text")


def _splits(stream: Stream) -> Sequence[tuple[Split, Split]]:
    return [(e.train, e.test) for e in stream]


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    """x (N, ...) and y (N,) of an Avalanche data set, one sample after the other through its transforms for tests."""
    samples = [sample[:2] for sample in dataset.eval()]
    if not samples:
        raise DataError("an experience of the benchmark is empty")
    return torch.stack([torch.as_tensor(x) for x, _ in samples]).float(), torch.tensor([int(y) for _, y in samples])


def _ranks(parts: list[tuple[Tensor, Tensor]], labels: Tensor) -> Tensor:
    return torch.searchsorted(labels, torch.cat([y for _, y in parts]))


def _bytes(x: Tensor) -> Tensor:
    """Images in [0, 1] that were bytes as bytes again; anything else as it is."""
    whole = (255 * x).round()
    if x.ndim == 4 and x.min() >= 0 and x.max() <= 1 and torch.allclose(whole / 255, x, atol=1e-6, rtol=0):
        return whole.to(torch.uint8)
    return x

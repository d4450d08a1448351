"""The training loop against a bare PyTorch loop and against Avalanche's, on split Fashion-MNIST.

One thread, mlp 784-400-400-10, batch 128, Adam 1e-3, five experiences, one epoch each. The same data, model
and number of steps for everybody, nobody evaluates. `python -m benchmarks.loop`
"""

import gzip
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.learner import Learner
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Lazy, Split, Stream
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from .table import show, side_by_side

MEMORY = 2000
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def main(rounds: int = 5) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    recipe = stream_recipe("split(fashion_mnist)")
    stream = untested(recipe.arrange(recipe.source().load(Places())))
    rows = [
        _row("naive, against a bare loop", "<= 1.05 x", lambda: ours(stream, "naive"), lambda: bare(stream), rounds)
    ]
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        own, tensors = avalanche_benchmark(folder), tensor_benchmark(stream)
        for text, reach in (("naive", "2.8"), (f"rehearsal({MEMORY})", "2.5"), ("ewc", "3")):
            for what, benchmark, asked in (("", own, f">= {reach} x faster"), (", its data as tensors", tensors, "")):
                against = partial(avalanche, benchmark, text)
                rows.append(
                    _row(f"{text}, against Avalanche{what}", asked, partial(ours, stream, text), against, rounds)
                )
    show("Loop: split Fashion-MNIST, one epoch", ("what", "ours s", "theirs s", "ratio", "reach"), rows)
    show("Replay cost", ("what", "ratio", "reach"), [_replay_cost(stream)])


def ours(stream: Stream, text: str) -> list:
    torch.manual_seed(0)
    learner = Learner(network(), Adam(1e-3), Rng(0))
    return list(learn(stream, learner, strategy(text), Plan(epochs=1, batch_size=128)))


def bare(stream: Stream) -> None:
    """What one would write by hand, with the data in memory."""
    torch.manual_seed(0)
    net = network()
    for experience in stream:
        x, y, _ = experience.train.everything()
        optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
        for index in torch.randperm(len(y)).split(128):
            loss = F.cross_entropy(net(x[index].float().div_(255)), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def avalanche(benchmark, text: str) -> None:
    from avalanche.training.supervised import EWC, Naive, Replay

    warnings.simplefilter("ignore")  # its import has set other filters
    torch.manual_seed(0)
    net = network()
    common = {"train_mb_size": 128, "train_epochs": 1, "eval_mb_size": 512, "evaluator": None}
    given = (net, torch.optim.Adam(net.parameters(), 1e-3), nn.CrossEntropyLoss())
    if text.startswith("rehearsal"):
        method = Replay(*given, mem_size=MEMORY, **common)
    elif text == "ewc":
        method = EWC(*given, ewc_lambda=100.0, **common)
    else:
        method = Naive(*given, **common)
    for experience in benchmark.train_stream:
        method.train(experience, num_workers=0)


def _row(name, reach, ours_, theirs, rounds):
    a, b, ratio = side_by_side(ours_, theirs, rounds)
    shown = f"{ratio:.3f} x" if "bare" in name else f"{1 / ratio:.2f} x faster"
    return name, f"{a:.2f}", f"{b:.2f}", shown, reach


def _replay_cost(stream: Stream):
    seconds = [[m.seconds for m in ours(stream, f"rehearsal({MEMORY})")] for _ in range(5)]
    ratio = sorted(s[4] / s[1] for s in seconds)[2]
    return f"experience 5 over experience 2, rehearsal({MEMORY})", f"{ratio:.2f} x", "<= 1.1 x"


def network() -> nn.Module:
    return model("mlp(400, 400)").build((1, 28, 28), 10)


def untested(stream: Stream) -> Stream:
    """The stream with one test sample each: what is timed is training."""
    one = torch.zeros(1, dtype=torch.int64)
    experiences = [replace(e, test=e.test.part(one)) for e in stream]
    return Stream(Lazy(len(stream), lambda i: experiences[i]), stream.classes, stream.protocol)


def avalanche_benchmark(folder: str):
    """Avalanche's own split of the same images, as its users meet it."""
    from avalanche.benchmarks.classic import SplitFMNIST
    from torchvision.transforms import ToTensor

    raw = Path(folder, "FashionMNIST", "raw")
    raw.mkdir(parents=True)
    for packed in DEBIAN.glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    order = {"fixed_class_order": list(range(10)), "train_transform": ToTensor(), "eval_transform": ToTensor()}
    return SplitFMNIST(5, dataset_root=folder, **order)


def tensor_benchmark(stream: Stream):
    """The kindest form for it: float tensors in memory, no image decoding, no transforms."""
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_tensor_classification_dataset

    def tensors(split: Split):
        x, y, _ = split.everything()
        return _make_taskaware_tensor_classification_dataset(x.float().div_(255), y, task_labels=0)

    return benchmark_from_datasets(train=[tensors(e.train) for e in stream], test=[tensors(e.test) for e in stream])


if __name__ == "__main__":
    main()

"""One GPU: captured steps, bfloat16 and channels last against plain loops. `python benchmarks/gpu.py`

It needs torch alone: no Ray, no MLflow, no torchvision, no data set (pixels are drawn; what is timed does not depend on
what they show). Where there is no GPU every row says "not measured"; `--rehearse` then walks the same path on the CPU
at tiny sizes, and shows that it works, not how fast it is.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file, on a machine where nothing is installed but torch
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # not beside it, where platform.py hides Python's own

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.table import show
from perdure.strategies.base import Naive
from perdure.strategies.learner import Learner
from perdure.strategies.models.device import placed
from perdure.strategies.models.mlp import MLP
from perdure.strategies.models.resnet import ResNet18
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.replicas.loop import learn_together
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Experience, Split, Stream

MISSING = "not measured"


@dataclass(frozen=True)
class Sizes:
    """How much is timed."""

    widths: tuple[int, ...] = (400, 400)
    samples: int = 128_000  # for the perceptron: a thousand steps
    images: int = 25_600  # of 32 x 32 for the residual network
    resnet: int = 64  # its width
    batch: int = 128
    seeds: int = 64
    rounds: int = 5
    warm: int = 2  # rounds before
    workers: int = 4  # of the data loader


TINY = Sizes((16,), 64, 16, 2, 8, 3, 1, 0, 0)
HEAD = ("what", "ours", "theirs", "ratio", "reach")


def main(rehearse: bool = False) -> None:
    print(f"torch {torch.__version__}, {_device_name()}")
    if not torch.cuda.is_available() and not rehearse:
        rows = [(what, MISSING, MISSING, MISSING, reach) for what, reach in ROWS]
        show("GPU: no CUDA device here", HEAD, rows)
        return
    device, sizes = ("cpu", TINY) if rehearse else ("cuda", Sizes())
    show("GPU" if not rehearse else "Rehearsal on a CPU: no figures", HEAD, measured(torch.device(device), sizes))


ROWS = (
    ("mlp 400-400, batch 128: 64 seeds together against one at a time in a plain loop", ">= 20 x"),
    ("mlp 400-400, batch 128: a captured run against a plain loop", ">= 4 x"),
    ("resnet18, 32 x 32, bfloat16, against a plain loop with DataLoader in float32", ">= 3 x"),
    ("the same, against the plain loop in bfloat16", ""),
    ("the same: share of the device's matrix rate on the shapes of its convolutions", ">= 60 %"),
)


def measured(device: torch.device, sizes: Sizes) -> list[tuple[str, ...]]:
    """A line for every one of ROWS."""
    torch.backends.cudnn.benchmark = True  # for everybody alike
    ours, plain = _captured_steps(device, sizes)
    lines = [_ratio((_together_steps(device, sizes), sizes.seeds * plain)), _ratio((ours, plain))]
    ours, plain, half = _residual_steps(device, sizes)
    lines += [_ratio((ours, plain)), _ratio((ours, half))]
    best = _matrix_seconds(device, sizes)
    lines.append((f"{1e3 * ours:.3f} ms", f"{1e3 * best:.3f} ms", f"{100 * best / ours:.0f} %"))
    return [(what, *line, reach) for (what, reach), line in zip(ROWS, lines, strict=True)]


def _ratio(pair: tuple[float, float]) -> tuple[str, str, str]:
    ours, theirs = pair
    return f"{1e3 * ours:.3f} ms", f"{1e3 * theirs:.3f} ms", f"{theirs / ours:.2f} x"


def _captured_steps(device: torch.device, sizes: Sizes) -> tuple[float, float]:
    """Seconds of a step: ours, and a loop as one writes it by hand, data on the device."""
    stream = drawn((1, 28, 28), sizes.samples, device)
    steps = sizes.samples // sizes.batch

    def ours() -> None:
        one = Learner(placed(MLP(sizes.widths).build((1, 28, 28), 10), device), Adam(1e-3), Rng(0))
        list(learn(stream, one, Naive(), Plan(batch_size=sizes.batch)))
        _expect_captured(one)

    def theirs() -> None:
        x, y, _ = stream[0].train.everything()
        net = MLP(sizes.widths).build((1, 28, 28), 10).to(device)
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for index in torch.randperm(len(y), device=device).split(sizes.batch):
            loss = F.cross_entropy(net(x[index].float().div_(255)), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return _seconds(ours, device, sizes) / steps, _seconds(theirs, device, sizes) / steps


def _together_steps(device: torch.device, sizes: Sizes) -> float:
    """Seconds of a step of all seeds at once."""
    stream = drawn((1, 28, 28), sizes.samples, device)

    def ours() -> None:
        nets = [placed(MLP(sizes.widths).build((1, 28, 28), 10), device) for _ in range(sizes.seeds)]
        learners = [Learner(net, Adam(1e-3), Rng(seed)) for seed, net in enumerate(nets)]
        list(learn_together(stream, learners, [Naive()] * sizes.seeds, Plan(batch_size=sizes.batch)))

    return _seconds(ours, device, sizes) / (sizes.samples // sizes.batch)


def _residual_steps(device: torch.device, sizes: Sizes) -> tuple[float, float, float]:
    """Seconds of a step: ours in bfloat16, and a plain loop with a DataLoader in float32 and in bfloat16."""
    shape, steps = (3, 32, 32), sizes.images // sizes.batch
    stream = drawn(shape, sizes.images, device)
    x, y, _ = stream.to("cpu")[0].train.everything()
    dataset = TensorDataset(x.float().div_(255), y)

    def ours() -> None:
        one = Learner(placed(ResNet18(sizes.resnet).build(shape, 10), device), SGD(0.1, momentum=0.9), Rng(0))
        list(learn(stream, one, Naive(), Plan(batch_size=sizes.batch, precision="bfloat16")))
        _expect_captured(one)

    def theirs(half: bool) -> None:
        net = ResNet18(sizes.resnet).build(shape, 10).to(device)
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        pinned = device.type == "cuda"
        for a, b in DataLoader(dataset, sizes.batch, shuffle=True, num_workers=sizes.workers, pin_memory=pinned):
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                out = net(a.to(device, non_blocking=True))
            loss = F.cross_entropy(out.float(), b.to(device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    calls = (ours, lambda: theirs(False), lambda: theirs(True))
    a, b, c = (_seconds(call, device, sizes) / steps for call in calls)
    return a, b, c


def _matrix_seconds(device: torch.device, sizes: Sizes) -> float:
    """Seconds that the multiplications of one step's convolutions take, forwards and twice backwards, as plain matrix
    products of the same shapes in bfloat16 at the rate that is measured here."""
    net, shapes = ResNet18(sizes.resnet).build((3, 32, 32), 10), []

    def note(layer: nn.Conv2d, given: tuple[Tensor, ...], out: Tensor) -> None:
        rows, inner = sizes.batch * out.shape[2] * out.shape[3], layer.weight[0].numel()
        shapes.append((rows, inner, out.shape[1]))

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, 32, 32))
    total = 0.0
    for rows, inner, out in shapes:
        for m, k, n in ((rows, inner, out), (rows, out, inner), (inner, rows, out)):  # outputs, then both gradients
            a, b = (torch.randn(*s, device=device, dtype=torch.bfloat16) for s in ((m, k), (k, n)))
            total += _seconds(lambda a=a, b=b: [a @ b for _ in range(20)], device, sizes) / 20
    return total


def drawn(shape: tuple[int, ...], count: int, device: torch.device) -> Stream:
    """One experience of images that show nothing, resident on the device."""
    rng = Rng(0)["pixels"]
    x = torch.randint(0, 256, (count, *shape), generator=rng, dtype=torch.uint8)
    y, zero = torch.randint(10, (count,), generator=rng), torch.zeros(count, dtype=torch.int64)
    train = Split(x, y, zero, torch.arange(count))
    experience = Experience(0, 0, train, train.part(torch.zeros(1, dtype=torch.int64)))
    return Stream([experience], torch.ones(1, 10, dtype=torch.bool), "domain").to(device)


def _expect_captured(one: Learner) -> None:
    if one.device.type == "cuda" and one.uncaptured:
        raise RuntimeError(f"the steps were to be captured, but {one.uncaptured}")


def _seconds(call: Callable[[], object], device: torch.device, sizes: Sizes) -> float:
    """The median of some rounds after those that warm up; the device has finished when the clock is read."""
    spent = []
    for _ in range(sizes.warm + sizes.rounds):
        _finished(device)
        start = time.perf_counter()
        call()
        _finished(device)
        spent.append(time.perf_counter() - start)
    return sorted(spent[sizes.warm :])[sizes.rounds // 2]


def _finished(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"


if __name__ == "__main__":
    main("--rehearse" in sys.argv[1:])

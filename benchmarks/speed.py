"""What bfloat16, torch.compile and channels last bring a step on this CPU, and whether bfloat16 learns as much.

One thread, batch 128, Adam 1e-3. Milliseconds are of a bare step, kinds taken in turns, compiling told apart; accuracy
is the mean over three seeds of task-incremental split Fashion-MNIST, in our loop. bfloat16 is fast where the processor
multiplies it (avx512_bf16 or amx_bf16 in /proc/cpuinfo). `python -m benchmarks.speed`
"""

import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from perdure.strategies.learner import Learner, Precision
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Stream
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from .table import show

KINDS = {  # bfloat16, compiled, channels last
    "plain": (False, False, False),
    "bfloat16": (True, False, False),
    "compiled": (False, True, False),
    "bfloat16, compiled": (True, True, False),
    "channels last": (False, False, True),
    "bfloat16, channels last": (True, False, True),
}
STEPS = {"mlp(400, 400)": (40, 100), "convnet": (40, 20)}  # that are timed, and of each experience that is judged


def main(part: str = "all") -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if part in ("all", "steps"):
        rows = [row for text in STEPS for row in _timed(text)]
        show(f"A step on a CPU with {_flags()}", ("model", "how", "ms", "plain / it", "s to begin with"), rows)
    if part in ("all", "accuracy"):
        recipe = stream_recipe("split(fashion_mnist, protocol='task')")
        stream = recipe.arrange(recipe.source().load(Places()))
        rows = [row for text in STEPS for row in _judged(stream, text)]
        show("Accuracy in %, mean and deviation over seeds", ("model", "how", "accuracy"), rows)


def _timed(text: str, rounds: int = 5) -> list[tuple[str, ...]]:
    count = STEPS[text][0]
    kinds = {name: options for name, options in KINDS.items() if "conv" in text or not options[2]}
    steps = {name: _steps(text, *options) for name, options in kinds.items()}
    first = {name: _seconds(take, 3) for name, take in steps.items()}
    spent = [{name: _seconds(take, count) for name, take in steps.items()} for _ in range(rounds)]
    rows = []
    for name in kinds:
        each = statistics.median(s[name] for s in spent)
        ratio = statistics.median(s["plain"] / s[name] for s in spent)
        rows.append((text, name, f"{1e3 * each / count:.2f}", f"{ratio:.2f} x", f"{first[name]:.1f}"))
    return rows


def _steps(text: str, half: bool, compiled: bool, last: bool) -> Callable[[int], None]:
    torch.manual_seed(0)
    net = model(text).build((1, 28, 28), 10)
    net = net.to(memory_format=torch.channels_last) if last else net  # pyright: ignore
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    x, y = torch.randint(0, 256, (12_000, 1, 28, 28), dtype=torch.uint8), torch.randint(10, (12_000,))

    def loss_of(some: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = net(some)
        return F.cross_entropy(out.float(), labels)

    loss = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def take(count: int) -> None:
        for _ in range(count):
            index = torch.randint(len(y), (128,))
            some = x[index].float().div_(255)
            some = some.contiguous(memory_format=torch.channels_last) if last else some
            loss(some, y[index]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return take


def _seconds(take: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    take(count)
    return time.perf_counter() - start


def _judged(stream: Stream, text: str, seeds: int = 3) -> list[tuple[str, ...]]:
    rows = []
    kinds: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in kinds:
        right = [_accuracy(stream, text, seed, precision) for seed in range(seeds)]
        told = f"{100 * statistics.mean(right):.1f} ± {100 * statistics.stdev(right):.1f}"
        rows.append((text, precision, told))
    return rows


def _accuracy(stream: Stream, text: str, seed: int, precision: Precision) -> float:
    torch.manual_seed(seed)
    one = Learner(model(text).build((1, 28, 28), 10), Adam(1e-3), Rng(seed))
    plan = Plan(steps=STEPS[text][1], batch_size=128, precision=precision)
    last = list(learn(stream, one, strategy("rehearsal(200)"), plan))[-1].accuracy
    return sum(last) / len(last)


def _flags() -> str:
    known = re.findall(r"avx512_bf16|amx_bf16", Path("/proc/cpuinfo").read_text())
    return ", ".join(sorted(set(known))) or "no bfloat16 of its own"


if __name__ == "__main__":
    main(*sys.argv[1:2])

"""Six methods against Avalanche's of the same name, and against their own arithmetic in a bare loop.

Split Fashion-MNIST, one thread, mlp 784-400-400-10, batch 128, Adam 1e-3, one epoch an experience; nobody
evaluates. `python -m benchmarks methods`
"""

import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from io import StringIO
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perdure.strategies.blocks.fisher import diagonal_fisher
from perdure.strategies.learner import Learner
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import Adam
from perdure.streams.experience import Experience, Stream
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from .loop import avalanche_benchmark, network, ours, tensor_benchmark, untested
from .table import show, side_by_side

METHODS = {  # ours, Avalanche's name and arguments
    "rehearsal(2000)": ("Replay", {"mem_size": 2000}),
    "ewc": ("EWC", {"ewc_lambda": 100.0}),
    "lwf": ("LwF", {"alpha": 1.0, "temperature": 2.0}),
    "agem(2000)": ("AGEM", {"patterns_per_exp": 400, "sample_size": 128}),
    "si": ("SynapticIntelligence", {"si_lambda": 1.0}),
    "der(2000)": ("DER", {"mem_size": 2000, "alpha": 0.5, "beta": 0.0}),
}


def main(rounds: int = 3) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    recipe = stream_recipe("split(fashion_mnist)")
    stream, rows = untested(recipe.arrange(recipe.source().load(Places()))), []
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        own, tensors = avalanche_benchmark(folder), tensor_benchmark(stream)
        for text, (name, arguments) in METHODS.items():
            mine = partial(ours, stream, text)
            plain = side_by_side(mine, partial(bare, stream, BARE[text]), 5)[2]
            against = [side_by_side(mine, partial(avalanche, b, name, arguments), rounds) for b in (own, tensors)]
            faster = [f"{1 / ratio:.2f} x" for _, _, ratio in against]
            rows.append((text, f"{against[0][0]:.2f}", *faster, f"{plain:.2f} x"))
    head = ("method", "ours s", "Avalanche's, its own data", "its data as tensors", "over bare arithmetic")
    show("Methods: split Fashion-MNIST, one epoch; reach: >= 2.5 x faster, <= 1.1 x bare", head, rows)


def avalanche(benchmark: Any, name: str, arguments: dict[str, Any]) -> None:
    from avalanche.training import supervised

    torch.manual_seed(0)
    model = network()
    method = vars(supervised)[name](
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), 1e-3),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=128,
        train_epochs=1,
        evaluator=None,
        **arguments,
    )
    with warnings.catch_warnings(record=True, action="ignore"):  # it deprecates itself
        for experience in benchmark.train_stream:
            method.train(experience, num_workers=0)


class Bare:
    """What one would write by hand around a step, with the data in memory."""

    def __init__(self, model: nn.Module):
        self.model = model

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.model(x), y)

    def after_backward(self) -> None: ...

    def after_experience(self, experience: Experience, x: Tensor, y: Tensor) -> None: ...


def bare(stream: Stream, method: Callable[[nn.Module], Bare]) -> None:
    torch.manual_seed(0)
    model = network()
    steps = method(model)
    for experience in stream:
        x, y, _ = experience.train.everything()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        for index in torch.randperm(len(y)).split(128):
            steps.loss(pixels(x[index]), y[index]).backward()
            steps.after_backward()
            optimizer.step()
            optimizer.zero_grad()
        steps.after_experience(experience, x, y)


def pixels(x: Tensor) -> Tensor:
    return x.float().div_(255)


class Memory(Bare):
    """Two thousand samples, an equal share of each experience; a draw from them."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.parts: list[tuple[Tensor, ...]] = []
        self.held: tuple[Tensor, ...] = ()

    def draw(self) -> tuple[Tensor, ...]:
        index = torch.randint(len(self.held[0]), (128,))
        return tuple(part[index] for part in self.held)

    def after_experience(self, experience, x, y):
        index = torch.randperm(len(y))[:2000]
        self.parts.append((x[index], y[index], *self.more(x[index])))
        share = 2000 // len(self.parts)
        self.held = tuple(map(torch.cat, zip(*(tuple(p[:share] for p in part) for part in self.parts), strict=True)))

    def more(self, x: Tensor) -> tuple[Tensor, ...]:
        return ()


class Replay(Memory):
    def loss(self, x, y):
        if self.held:
            past = self.draw()
            x, y = torch.cat([x, pixels(past[0])]), torch.cat([y, past[1]])
        return super().loss(x, y)


class Dark(Memory):
    @torch.no_grad()
    def more(self, x):
        return (self.model(pixels(x)),)

    def loss(self, x, y):
        loss = super().loss(x, y)
        if self.held:
            x, _, outputs = self.draw()
            loss = loss + 0.5 * F.mse_loss(self.model(pixels(x)), outputs)
        return loss


class AGEM(Memory):
    def after_backward(self):
        if not self.held:
            return
        x, y = self.draw()
        params = list(self.model.parameters())
        past = torch.cat([g.flatten() for g in torch.autograd.grad(F.cross_entropy(self.model(pixels(x)), y), params)])
        now = torch.cat([p.grad.flatten() for p in params if p.grad is not None])
        at = now @ past
        if at < 0:
            now -= at / (past @ past) * past
            for p, g in zip(params, now.split([p.numel() for p in params]), strict=True):
                p.grad = g.view_as(p)


class EWC(Bare):
    def __init__(self, model):
        super().__init__(model)
        self.weight: list[Tensor] = []
        self.centre: list[Tensor] = []

    @torch.no_grad()
    def after_backward(self):
        for p, weight, centre in zip(self.model.parameters(), self.weight, self.centre, strict=False):
            if p.grad is not None:
                p.grad.addcmul_(weight, p - centre, value=100.0)

    def after_experience(self, experience, x, y):
        learner = Learner(self.model, Adam(), Rng(0))
        fisher = diagonal_fisher(learner, experience.train.everything(), Rng(0)["fisher"], "model")
        now, new = [p.detach() for p in self.model.parameters()], list(fisher.values())
        old = self.weight or [torch.zeros_like(p) for p in now]
        total = [a + b for a, b in zip(old, new, strict=True)]
        before = self.centre or now
        parts = zip(old, before, new, now, total, strict=True)
        self.centre = [(a * c + b * p) / t.clamp(min=1e-30) for a, c, b, p, t in parts]
        self.weight = total


class LwF(Bare):
    old: nn.Module | None = None

    def loss(self, x, y):
        outputs = self.model(x)
        loss = F.cross_entropy(outputs, y)
        if self.old is not None:
            with torch.no_grad():
                before = self.old(x)
            loss = loss + 4 * F.kl_div((outputs / 2).log_softmax(1), (before / 2).softmax(1), reduction="batchmean")
        return loss

    def after_experience(self, experience, x, y):
        self.old = deepcopy(self.model).requires_grad_(False)


class SI(Bare):
    @torch.no_grad()
    def __init__(self, model):
        super().__init__(model)
        self.params = list(model.parameters())
        self.start, self.came = ([p.clone() for p in self.params] for _ in range(2))
        self.path, self.slope, self.weight = ([torch.zeros_like(p) for p in self.params] for _ in range(3))

    @torch.no_grad()
    def after_backward(self):
        self.go_on()
        for p, slope, weight, start in zip(self.params, self.slope, self.weight, self.start, strict=True):
            if p.grad is not None:
                slope.copy_(p.grad)
                p.grad.addcmul_(weight, p - start, value=2.0)

    def go_on(self):
        for p, came, slope, path in zip(self.params, self.came, self.slope, self.path, strict=True):
            path.addcmul_(slope, p - came, value=-1)
            came.copy_(p)

    @torch.no_grad()
    def after_experience(self, experience, x, y):
        self.go_on()
        for p, path, start, weight in zip(self.params, self.path, self.start, self.weight, strict=True):
            weight += (path / ((p - start).square() + 0.1)).clamp(min=0)
            path.zero_()
            start.copy_(p)


BARE = {"rehearsal(2000)": Replay, "ewc": EWC, "lwf": LwF, "agem(2000)": AGEM, "si": SI, "der(2000)": Dark}


if __name__ == "__main__":
    main()

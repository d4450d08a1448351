"""A learner as attacks see it: how it answers, and the samples that it is attacked on."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...strategies.attacks import names
from ...strategies.attacks.base import Attack
from ...strategies.attacks.evaluate import CHUNK, Attacked, attacked, learned, refuse_samples
from ...strategies.attacks.feature_space import hidden
from ...strategies.attacks.logits import settled
from ...strategies.attacks.oracles import MaskedGradients, in_chunks
from ...strategies.attacks.repeatable import refuse_unrepeatable
from ...strategies.attacks.threats import Threat
from ...strategies.base import OwnLoop, State, Strategy
from ...strategies.learner import Learner
from ...strategies.numerics.rng import Rng
from ...streams.evaluation import ALL
from ...streams.experience import Batch, Stream
from ..runs.journal import Row
from ..runs.run import Run


@dataclass(frozen=True, eq=False)
class Target:
    """N samples of a stream, and a learner's answers to them and to whatever is made of them."""

    answer: Callable[[Tensor, Tensor], Tensor]  # inputs (n, ...) and their rows (n,) to (n, C), shut classes at -1e9
    features: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    ids: Tensor  # (N,) what each draws its random numbers by
    experience: Tensor  # (N,) of every sample
    learn_from: "Target | None" = None  # training samples, for attacks that learn

    @staticmethod
    def of(
        stream: Stream, learner: Learner, strategy: Strategy, state: State, now: int, samples: int, seed: int
    ) -> "Target":
        """On `samples` test samples of every experience met up to `now` that is tested.

        Raises ValueError for strategies that keep their model to themselves, and samples that cannot be attacked.
        """
        refuse_own_loops(strategy)

        def on(train: bool) -> Target:
            x, y, task, experience = _samples(stream, now, samples, seed, train)
            refuse_samples(x, y)

            def answer(z: Tensor, rows: Tensor) -> Tensor:
                learner.pulse()
                own = task[rows]
                batch = Batch(z, y[rows], own, torch.ones(len(own), device=own.device))
                return learner.masked(strategy.answer(learner, batch, learner.outputs(z, own), state), own)

            def features(z: Tensor, rows: Tensor) -> Tensor:
                learner.pulse()
                learner.task = task[rows]
                return hidden(learner.model, z)

            return Target(answer, features, x, y, torch.arange(len(x), device=x.device), experience)

        return replace(on(train=False), learn_from=on(train=True))

    def prepared(self, attack: Attack, seed: int) -> tuple[Attack, int]:
        """The attack once it has learned what it learns from training samples, everything seen; and its questions."""
        some = self.learn_from
        return (attack, 0) if some is None else learned(attack, some.answer, some.x, some.y, seed)

    def refuse_unrepeatable(self) -> None:
        """Raise ValueError where samples are answered otherwise when they are asked again."""
        answer, rows = settled(self.answer), torch.arange(len(self.x), device=self.x.device)
        with torch.no_grad():
            logits = in_chunks(answer, self.x, rows, CHUNK)
        refuse_unrepeatable(answer, self.x, rows, logits, CHUNK)

    def part(self, rows: Tensor) -> "Target":
        """Some of the samples: what comes of each is the same to the bit."""
        kept = {k: getattr(self, k)[rows] for k in ("x", "y", "ids", "experience")}
        return replace(self, answer=_shifted(self.answer, rows), features=_shifted(self.features, rows), **kept)

    @staticmethod
    def mean(targets: "Sequence[Target]") -> "Target":
        """The first, answering with the mean of what all answer."""
        answers, first = [t.answer for t in targets], targets[0]
        some = [t.learn_from for t in targets if t.learn_from]
        return replace(
            first,
            answer=lambda x, rows: torch.stack([a(x, rows) for a in answers]).mean(0),
            learn_from=Target.mean(some) if some else None,
        )

    def attacked(  # by an attack that is prepared
        self, attack: Attack, threat: Threat | None = None, seed: int = 0, surrogate: "Target | None" = None
    ) -> Attacked:
        return attacked(
            self.answer,
            self.x,
            self.y,
            attack,
            threat,
            seed=seed,
            samples=self.ids,
            surrogate=surrogate and surrogate.answer,
            features=(surrogate or self).features,
        )

    def shares(self, which: Tensor) -> tuple[float, ...]:
        """The share of (N,) bool on each experience."""
        return tuple(which[self.experience == j].double().mean().item() for j in self.experience.unique())


def robustness(run: Run, stream: Stream, learner: Learner, strategy: Strategy, state: State, now: int) -> Row:
    """What the run's attacks leave after experience `now`: for each its robust accuracy on every experience met so
    far that is tested on now, None for the others, and the share of its samples that it fooled; None where there was
    none to fool.
    """
    if not any(j <= now for j in stream.tested(now)):
        return {text: {"robust": [], "success": None} for text in run.attacks}
    with learner.resting(), swift(learner.model):
        target = Target.of(stream, learner, strategy, state, now, run.attack_samples, run.seed)
        told = {}
        for text in run.attacks:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", MaskedGradients)
                attack, _ = target.prepared(names.attack(text), run.seed)
                got = target.attacked(attack, seed=run.seed)
            success = got.success if got.tried.any() else None
            told[text] = {"robust": _row(stream, now, target.shares(got.still)), "success": success}
            if caught:
                told[text]["caution"] = str(caught[-1].message)
    return told


def refuse(run: Run, stream: Stream, learner: Learner, strategy: Strategy, state: State) -> None:
    """Raise ValueError where the run's attacks do not fit it, before anything is learned."""
    stream = replace(stream, evaluation=ALL)
    target = Target.of(stream, learner, strategy, state, stream.marks[0], run.attack_samples, run.seed)
    with learner.resting():
        target.refuse_unrepeatable()
    for text in run.attacks:
        attack, classes = names.attack(text), stream.classes.shape[1]
        if attack.of_images and target.x.dim() != 4:
            raise ValueError(f"{text} is for images, and {run.stream} has samples of shape {stream.shape}")
        if attack.aims_at is not None and attack.aims_at >= classes:
            raise ValueError(f"{text} aims at class {attack.aims_at}, and {run.stream} has 0 to {classes - 1}")


def refuse_own_loops(strategy: Strategy) -> None:
    if isinstance(strategy, OwnLoop):
        raise ValueError("a run with a loop of its own keeps its model to itself; it cannot be attacked")


@contextmanager
def swift(model: nn.Module) -> Iterator[None]:
    """Weights of convolutions laid out as a CPU reads them fastest for a while; the same tensors after it."""
    were = [(p, p.data) for p in model.parameters() if p.dim() == 4]
    for p, _ in were:
        p.data = p.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for p, data in were:
            p.data = data


def _row(stream: Stream, now: int, shares: Sequence[float]) -> list[float | None]:
    """What was left on each experience met so far, in its column."""
    columns = [stream.marks.index(j) for j in stream.tested(now) if j <= now]
    row: list[float | None] = [None] * (1 + max(columns))
    for column, share in zip(columns, shares, strict=True):
        row[column] = share
    return row


def _samples(stream: Stream, now: int, count: int, seed: int, train: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y, task and experience of as many samples of each experience."""
    parts = []
    for j in (j for j in stream.tested(now) if j <= now):
        split = stream[j].train if train else stream[j].test
        order = torch.randperm(len(split), generator=Rng(seed, "attack")[f"{j}"])[:count]
        batch = split.batch(order.to(split.device))
        parts.append((batch.x, batch.y, batch.task, torch.full_like(batch.y, j)))
    x, y, task, experience = (torch.cat(column) for column in zip(*parts, strict=True))
    return x, y, task, experience


def _shifted(answer: Callable[[Tensor, Tensor], Tensor], rows: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, own: answer(z, rows[own])

"""What an attack comes to: samples verified by a fresh forward pass, how far they moved, how much was asked."""

import time
from dataclasses import dataclass, replace
from math import nan

import torch
from torch import Tensor, nn

from ..numerics.rng import Rng
from ..numerics.shape_errors import finite, refuse, said
from . import inputs
from .base import Attack, perturbed
from .logits import settled
from .norms import NORMS
from .oracles import Answer, Victim, beaten, in_chunks
from .oracles import White as Open
from .repeatable import refuse_unrepeatable
from .sample_rng import Chance
from .threats import Threat, White

CHUNK = 64  # samples in a forward pass: on a CPU larger ones fall out of its caches
BLOCK = 2048  # samples attacked at once: what an attack keeps of each has to fit into memory


@dataclass(frozen=True, eq=False)
class Attacked:
    """N samples and what became of them. A sample that could not be fooled stands here as it was."""

    clean: Tensor  # (N, ...) in [0, 1]
    x: Tensor  # (N, ...) adversarial samples
    y: Tensor  # (N,) true classes
    before: Tensor  # (N,) answers to the clean samples
    after: Tensor  # (N,) answers to the adversarial ones, by a forward pass of their own
    right: Tensor  # (N,) bool: right at first
    tried: Tensor  # (N,) bool: attacked: right at first, and not of the class that a targeted attack aims at
    fooled: Tensor  # (N,) bool: right at first and wrong now; under a targeted attack: answered with the target now
    queries: Tensor  # (N,) int64 questions about each sample
    seconds: float
    learning: int = 0  # questions about other samples, which the attack has learned from

    @property
    def accuracy(self) -> float:
        return self.right.double().mean().item()

    @property
    def robust_accuracy(self) -> float:
        """Share still right under the attack."""
        return self.still.double().mean().item()

    @property
    def still(self) -> Tensor:
        """(N,) bool: right at first, and still right under the attack."""
        return self.right & (self.after == self.y)

    @property
    def success(self) -> float:
        """Share fooled of those that were attacked; NaN where there was none."""
        return self._mean(self.fooled[self.tried])

    def sizes(self) -> dict[str, Tensor]:
        """(N,) perturbations in L0 (pixels, all channels of one together), L1, L2 and L-infinity."""
        delta = self.x - self.clean
        changed = (delta != 0).flatten(2).any(1) if delta.dim() == 4 else delta != 0
        sizes = {name: NORMS[name].size(delta) for name in ("l1", "l2", "linf")}
        return {"l0": changed.flatten(1).sum(1).to(delta.dtype)} | sizes

    def measures(self) -> dict[str, float]:
        """Shares of all samples; sizes are means over the fooled ones, queries over the attacked ones.

        What was asked about other samples, to learn from them, is shared out among the attacked ones.
        """
        sizes = {f"mean_{name}": self._mean(size[self.fooled]) for name, size in self.sizes().items()}
        told = {"accuracy": self.accuracy, "robust_accuracy": self.robust_accuracy, "success": self.success}
        tried = int(self.tried.sum())
        return told | sizes | {"queries": (self.queries.sum().item() + self.learning) / tried if tried else nan}

    @staticmethod
    def _mean(values: Tensor) -> float:
        return values.double().mean().item()

    @staticmethod
    def union(parts: "list[Attacked]") -> "Attacked":
        """Shards in order; their seconds add up."""
        names = ("clean", "x", "y", "before", "after", "right", "tried", "fooled", "queries")
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        seconds, learning = sum(part.seconds for part in parts), sum(part.learning for part in parts)
        return Attacked(**joined, seconds=seconds, learning=learning)


def attacked(
    answer: Answer,
    x: Tensor,
    y: Tensor,
    attack: Attack,
    threat: Threat | None = None,
    *,
    seed: int = 0,
    samples: Tensor | None = None,
    surrogate: Answer | None = None,
    features: Answer | None = None,
    chunk: int = CHUNK,
) -> Attacked:
    """Attack float samples x (N, ...) in [0, 1] of classes y (N,); judge what comes back anew.

    answer: from inputs (n, ...) and their rows (n,) to logits (n, C); in evaluation mode. Neither what all logits have
    in common nor how far below a mask puts its classes, at -1e3 or at -inf, makes a difference: see `settled`.
    samples: (N,) int64 numbers that tell the samples apart and give each its random numbers; 0 to N - 1 by default.
    With them, nothing depends on how samples are dealt out to batches or processes.
    surrogate: another classifier, where the threat wants one.

    Clean samples are answered twice. Raises ValueError where the second answer is another, for samples that are no
    floats in [0, 1], classes that are not there, answers that are no logits, and attacks that the threat leaves nothing
    to; Diverged (an ArithmeticError) where the model's answer is not a number.
    """
    refuse_samples(x, y)
    with torch.inference_mode(False):  # in which there would be no gradients
        x, y = (part.clone() if part.is_inference() else part.detach() for part in (x, y))
        other = None if surrogate is None else settled(surrogate)
        return _attacked(settled(answer), x, y, attack, threat, seed, samples, other, features, chunk)


def _attacked(answer, x, y, attack, threat, seed, samples, surrogate, features, chunk) -> Attacked:
    if attack.of_images and x.dim() != 4:
        raise ValueError(f"{type(attack).__name__} is for images (N, C, H, W), got {tuple(x.shape)}")
    if surrogate is None and not (threat or White()).asks_itself:
        raise ValueError(f"{type(threat).__name__} attacks a surrogate, and there is none; give one")
    start = time.perf_counter()
    ids = torch.arange(len(x), device=x.device) if samples is None else samples.to(x.device)
    numbers = Chance.of(Rng(seed).integer("attack"), ids)
    seen = surrogate or answer

    def victim(rows: Tensor, classes: int) -> Victim:
        shown = None if features is None else _of_rows(features, rows)
        of = answer if (threat or White()).asks_itself else seen
        of = of if of is answer else _of_classes(of, classes)
        return (threat or White()).victim(
            _of_rows(of, rows), numbers.at(rows), len(rows), x.device, classes, chunk, shown
        )

    parts = []
    for rows in torch.arange(len(x), device=x.device).split(BLOCK):
        with torch.no_grad():
            logits = in_chunks(answer, x[rows], rows, chunk)
        _refuse_classes(logits, y[rows], attack)
        refuse_unrepeatable(answer, x[rows], rows, logits, chunk)
        parts.append(_block(victim, answer, x, y, rows, logits, attack, numbers, chunk))
    whole = Attacked.union(parts)
    return replace(whole, seconds=time.perf_counter() - start)


def _block(victim, answer, x, y, rows, logits, attack, numbers, chunk) -> Attacked:
    clean, labels = x[rows], y[rows]
    before, target = logits.argmax(1), attack.aims_at
    right = before == labels
    worth = right if target is None else right & (labels != target)
    todo = rows[worth]
    moved, spent = clean.clone(), torch.zeros_like(labels)
    if len(todo):
        one = victim(todo, logits.shape[1])
        found = perturbed(attack, one, x[todo], y[todo], numbers.at(todo))
        if not finite(found):
            refuse(attack, "perturb", "finite samples", "NaN or an infinity among them")
        moved[worth] = found
        spent[worth] = one.spent
    with torch.no_grad():
        told = in_chunks(answer, moved, rows, chunk)
    fooled = worth & (beaten(told, labels) if target is None else told.argmax(1) == target)
    moved[~fooled] = clean[~fooled]
    after = torch.where(fooled, told.argmax(1), before)
    return Attacked(clean, moved, labels, before, after, right, worth, fooled, spent, 0.0)


def _of_rows(answer: Answer, rows: Tensor) -> Answer:
    """An answer for some samples under numbers of their own."""
    return lambda x, own: answer(x, rows[own])


def _of_classes(surrogate: Answer, classes: int) -> Answer:
    def told(x: Tensor, rows: Tensor) -> Tensor:
        logits = surrogate(x, rows)
        if logits.shape[1] != classes:
            raise ValueError(f"expected a surrogate that knows {classes} classes as the model, got {logits.shape[1]}")
        return logits

    return told


def prepared(attack: Attack, answer: Answer, x: Tensor, y: Tensor, seed: int = 0, chunk: int = CHUNK) -> Attack:
    """The attack once it has learned what it learns from samples x (M, ...) of classes y (M,); most learn nothing.

    answer: to these samples, by their rows; everything is seen of it. An attack that is not prepared learns from the
    samples it is made on, by what the threat lets it ask about them.
    """
    return learned(attack, answer, x, y, seed, chunk)[0]


def learned(
    attack: Attack, answer: Answer, x: Tensor, y: Tensor, seed: int = 0, chunk: int = CHUNK
) -> tuple[Attack, int]:
    """The attack as `prepared`, and how many questions about the samples that took."""
    chance = Chance.of(Rng(seed).integer("learn"), torch.arange(len(x), device=x.device))
    victim = Open(settled(answer), len(x), x.device, chunk)
    made = attack.prepared(victim, x, y, chance)
    if not isinstance(made, Attack):
        refuse(attack, "prepared", "an attack", said(made))
    return made, int(victim.spent.sum())


def attack(
    model: inputs.Model,
    x: Tensor,
    y: Tensor,
    how: Attack | str = "pgd",
    threat: Threat | str | None = None,
    *,
    surrogate: inputs.Model | None = None,
    seed: int = 0,
    chunk: int = CHUNK,
) -> Attacked:
    """Attack any classifier of images: a torch module or a function from (n, ...) inputs to (n, C) logits.

    x, y: float32 or float64 samples (N, ...) in [0, 1] and their classes (N,), as tensors or NumPy arrays.
    how: the attack, as text (`"pgd(eps=8/255)"` is not in the notation; write `"pgd(eps=0.0314)"`) or as an object.
    threat: what it may see, as `"black(1000)"`; everything by default. A module is put into evaluation mode meanwhile,
    a function must answer the same way every time.

    >>> import perdure, torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    >>> x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    >>> perdure.attack(model, x, y, "pgd(eps=0.1, steps=5)").robust_accuracy
    0.0

    Raises as `attacked` does, and NotationError for a text that cannot be read.
    """
    from . import names
    from .feature_space import hidden

    one = names.attack(how) if isinstance(how, str) else how
    asked = names.threat(threat) if isinstance(threat, str) else threat
    refuse_other_kinds(one, asked, chunk)
    x = inputs.samples(x, model)
    y = inputs.classes(y, x.device)
    seen = surrogate or model
    with torch.inference_mode(False), inputs.resting(model), inputs.resting(surrogate):  # without it no gradients
        own, other = inputs.answering(model), None if surrogate is None else inputs.answering(surrogate)
        inner = other or own
        shown = (lambda x, rows: hidden(seen, x, lambda z: inner(z, rows))) if isinstance(seen, nn.Module) else None
        return attacked(own, x, y, one, asked, seed=seed, surrogate=other, features=shown, chunk=chunk)


def refuse_other_kinds(attack: object, threat: object, chunk: int) -> None:
    if not isinstance(attack, Attack):
        raise ValueError(f"expected an attack, as 'pgd(eps=0.1)' or PGD(eps=0.1), got {attack!r}")
    if not isinstance(threat, Threat | None):
        raise ValueError(f"expected a threat model, as 'black(1000)' or Black(1000), got {threat!r}")
    if chunk < 1:
        raise ValueError(f"expected chunks of at least 1 sample, got {chunk}")


def refuse_samples(x: Tensor, y: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"expected float samples in [0, 1], got {x.dtype}; divide images of 0 to 255 by 255")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"expected float32 or float64 samples in [0, 1], got {x.dtype}, which rounds small perturbations away; "
            "pass x.float() to a model in float32"
        )
    if x.dim() < 2:
        raise ValueError(f"expected samples (N, ...), as images (N, C, H, W), got {tuple(x.shape)}; one is x[None]")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(
            f"expected ({len(x)},) int64 classes, got {tuple(y.shape)} {y.dtype}; pass one whole number for each "
            "sample, of one-hot rows y.argmax(1)"
        )
    if not x.numel():
        raise ValueError(f"expected a sample at least, got none: {tuple(x.shape)}")
    low, high = x.amin().item(), x.amax().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"expected samples in [0, 1], got values from {low:g} to {high:g}; scale them, and let the model "
            "standardize its inputs itself, as standardized(mlp, mean, std) does"
        )


def _refuse_classes(logits: Tensor, y: Tensor, attack: Attack) -> None:
    classes = logits.shape[1]
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"expected classes from 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}")
    if attack.aims_at is not None and attack.aims_at >= classes:
        raise ValueError(f"the model knows classes 0 to {classes - 1}; there is no target {attack.aims_at}")

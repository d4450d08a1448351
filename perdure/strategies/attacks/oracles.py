"""What an attack may ask of the classifier under attack: gradients, scores, or labels; every question is counted."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics.divergence import Diverged
from .sample_rng import Chance

Answer = Callable[[Tensor, Tensor], Tensor]  # (n, ...) inputs, (n,) rows of the samples they are made of: (n, C) logits
Loss = Callable[[Tensor, Tensor], Tensor]  # (n, C) logits and (n,) rows: (n,) to climb
SHUT = -1e8  # logits below are of classes that a sample may not be answered with
SLACK = 1e-5  # lead that counts, in units of the spread of open classes: less is gone where a batch rounds otherwise
NEAR = 100.0  # logits apart, classes still compete in a softmax of float32
GULF, FAR = 400.0, 8  # logits, and spreads of the classes above, from which on a gap below them is a mask's
GRAIN = 16  # samples at least in a forward pass: kernels round smaller batches in other ways


class MaskedGradients(UserWarning):
    """Gradients are all zero: an attack that climbs them finds nothing, however weak the defence."""


class Victim(ABC):
    """Who is attacked, as an attack sees it: rows say which sample a question is about.

    spent: (N,) int64, questions asked about each sample. price, toll: questions that a gradient and a score cost.
    early: whether a sample that is fooled is left alone from then on; training wants it fooled still more.
    exact: whether gradients are those of the classifier, and not estimates. shows_features: of layers within.
    """

    price = 1
    toll = 1
    early = True
    exact = False
    shows_features = False

    def __init__(self, count: int, device: torch.device, queries: int | None):
        self.queries = queries
        self.spent = torch.zeros(count, dtype=torch.int64, device=device)

    @abstractmethod
    def scores(self, x: Tensor, rows: Tensor) -> Tensor:
        """(n, C) logits, or what comes nearest to them."""

    @abstractmethod
    def jacobian(self, x: Tensor, rows: Tensor, losses: Loss) -> tuple[Tensor, Tensor]:
        """(n, K, ...) gradients of (n, K) `losses` with respect to x, and the (n, C) logits at x."""

    def labels(self, x: Tensor, rows: Tensor) -> Tensor:
        """(n,) answers."""
        return self.scores(x, rows).argmax(1)

    def gradient(self, x: Tensor, rows: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """(n, ...) gradient of every sample's own loss, and the (n, C) logits at x."""
        slopes, logits = self.jacobian(x, rows, lambda z, r: loss(z, r)[:, None])
        return slopes[:, 0], logits

    def features(self, x: Tensor, rows: Tensor) -> Tensor:
        """(n, F) hidden features, where they are shown."""
        raise NotImplementedError

    def feature_gradient(self, x: Tensor, rows: Tensor, loss: Loss) -> Tensor:
        """(n, ...) gradient of a loss (n,) of features (n, F) and rows, where they are shown."""
        raise NotImplementedError

    def left(self, rows: Tensor) -> Tensor:
        """(n,) int64 questions that may still be asked about each."""
        if self.queries is None:
            return torch.full_like(rows, 1 << 62)
        return self.queries - self.spent[rows]

    def affords(self, rows: Tensor, questions: int) -> Tensor:
        """(n,) bool"""
        return self.left(rows) >= questions

    def _count(self, rows: Tensor) -> None:
        """Raises RuntimeError where more is asked than is granted: no answer is given then."""
        asked = torch.zeros_like(self.spent).index_add_(0, rows, torch.ones_like(rows))
        if self.queries is not None and (self.spent + asked > self.queries).any():
            raise RuntimeError(f"an attack asked more than {self.queries} questions about a sample")
        self.spent += asked


class White(Victim):
    """Everything is seen: logits, gradients and, where they are given, hidden features.

    chunk: samples in a forward pass. features: as `answer`, to (n, F).
    """

    exact = True

    def __init__(
        self,
        answer: Answer,
        count: int,
        device: torch.device,
        chunk: int = 64,
        early: bool = True,
        features: Answer | None = None,
    ):
        super().__init__(count, device, None)
        self._answer, self._chunk, self._features = answer, max(chunk, GRAIN), features
        self.early, self.shows_features = early, features is not None

    def scores(self, x, rows):
        self._count(rows)
        with torch.no_grad():
            return in_chunks(self._answer, x, rows, self._chunk)

    def jacobian(self, x, rows, losses):
        self._count(rows)
        slopes, logits = self._slopes(self._answer, x, rows, losses)
        return slopes, expect_finite(logits, rows)

    def features(self, x, rows):
        assert self._features
        with torch.no_grad():
            return in_chunks(self._features, x, rows, self._chunk)

    def feature_gradient(self, x, rows, loss):
        assert self._features
        return self._slopes(self._features, x, rows, lambda seen, own: loss(seen, own)[:, None])[0][:, 0]

    def _slopes(self, told: Answer, x: Tensor, rows: Tensor, losses: Loss) -> tuple[Tensor, Tensor]:
        slopes, values = [], []
        with torch.enable_grad():
            for part, own, n in _chunks(x, rows, self._chunk):
                part = part.detach().requires_grad_()
                value = told(part, own)
                slopes.append(_jacobian(losses(value, own), part)[:n])
                values.append(value.detach()[:n])
        return torch.cat(slopes), torch.cat(values)


class Black(Victim):
    """Scores alone, or labels alone, of as many questions as are granted; there is no way to the classifier itself.

    Attacks that climb gradients get them estimated by differences along `draws` random directions and their
    opposites (Ilyas et al. 2018, arXiv:1804.08598, eq. 2). Where only labels are told, a score is the share of `votes`
    among noisy copies (section 2.4 there).
    """

    def __init__(
        self,
        answer: Answer,
        chance: Chance,
        queries: int,
        classes: int,
        labels_only: bool = False,
        draws: int = 10,
        sigma: float = 0.01,
        votes: int = 10,
        chunk: int = 64,
    ):
        super().__init__(len(chance.keys), chance.keys.device, queries)
        self._chance, self._classes, self._draws, self._sigma = chance, classes, draws, sigma
        self._votes = votes if labels_only else 0
        self.toll = max(self._votes, 1)
        self.price = (2 * draws + 1) * self.toll

        def ask(x: Tensor, rows: Tensor) -> Tensor:
            self._count(rows)
            with torch.inference_mode():
                told = in_chunks(answer, x.detach().clone(), rows, chunk)
                return told.argmax(1) if labels_only else told

        self._ask = ask

    def scores(self, x, rows):
        if not self._votes:
            return self._ask(x, rows).clone()
        noisy, times = self._noisy(x, rows, self._votes, "votes")
        labels = self._ask(noisy, times).clone().view(len(x), self._votes)
        return F.one_hot(labels, self._classes).to(x.dtype).mean(1).add(0.1 / self._votes).log()

    def labels(self, x, rows):
        told = self._ask(x, rows).clone()
        return told if self._votes else told.argmax(1)

    def jacobian(self, x, rows, losses):
        logits = self.scores(x, rows)
        noise = self._directions(x, rows, self._draws, "directions")  # (n, S, ...)
        both = torch.stack([noise, -noise], 2).flatten(1, 2)  # (n, 2 S, ...)
        times = rows.repeat_interleave(2 * self._draws)
        near = x.repeat_interleave(2 * self._draws, 0) + self._sigma * both.flatten(0, 1)
        told = losses(self.scores(near, times), times)  # (n 2 S, K)
        rise = told.view(len(x), self._draws, 2, -1).diff(dim=2)[:, :, 0].neg()  # (n, S, K)
        slopes = torch.einsum("nsk,nsd->nkd", rise, noise.flatten(2)) / (2 * self._draws * self._sigma)
        return slopes.view(len(x), -1, *x.shape[1:]), logits

    def _directions(self, x: Tensor, rows: Tensor, count: int, what: str) -> Tensor:
        """(n, count, ...) standard normal, other ones for every question; rows may repeat."""
        turn = _turns(rows)
        asked = Chance.of(0, self.spent[rows] + turn * (1 << 40))
        return Chance(self._chance.keys[rows] ^ asked.keys).normal((count, *x.shape[1:]), what).to(x.dtype)

    def _noisy(self, x: Tensor, rows: Tensor, count: int, what: str) -> tuple[Tensor, Tensor]:
        near = x[:, None] + self._sigma * self._directions(x, rows, count, what)
        return near.flatten(0, 1), rows.repeat_interleave(count)


class Within(Victim):
    """Some samples (n,) of a victim, under numbers of their own; questions are counted there."""

    def __init__(self, victim: Victim, rows: Tensor):
        super().__init__(len(rows), rows.device, victim.queries)
        self._victim, self._rows = victim, rows
        self._back = torch.empty_like(victim.spent).index_copy_(0, rows, torch.arange(len(rows), device=rows.device))
        self.price, self.toll, self.early = victim.price, victim.toll, victim.early
        self.exact, self.shows_features = victim.exact, victim.shows_features

    def scores(self, x, rows):
        return self._victim.scores(x, self._rows[rows])

    def labels(self, x, rows):
        return self._victim.labels(x, self._rows[rows])

    def jacobian(self, x, rows, losses):
        return self._victim.jacobian(x, self._rows[rows], lambda z, r: losses(z, self._back[r]))

    def features(self, x, rows):
        return self._victim.features(x, self._rows[rows])

    def feature_gradient(self, x, rows, loss):
        return self._victim.feature_gradient(x, self._rows[rows], lambda seen, r: loss(seen, self._back[r]))

    def left(self, rows):
        return self._victim.left(self._rows[rows])


def _jacobian(each: Tensor, x: Tensor) -> Tensor:
    """(n, K, ...) gradients of (n, K) with respect to x (n, ...), sample by sample."""
    last, slopes = each.shape[1] - 1, []
    for k in range(last + 1 if each.requires_grad else 0):
        (slope,) = torch.autograd.grad(each[:, k].sum(), x, retain_graph=k < last, allow_unused=True)
        slopes.append(slope)
    if not slopes or any(slope is None for slope in slopes):
        raise ValueError(
            "expected logits that have a gradient with respect to the samples, and the model's have none; let it "
            "compute in torch, without no_grad, detach or NumPy, or attack it as a black box: threat='black(1000)'"
        )
    return torch.stack(slopes, 1)


def in_chunks(answer: Answer, x: Tensor, rows: Tensor, chunk: int) -> Tensor:
    """(n, C) logits, a chunk at a time. Raises Diverged where one is not a number."""
    parts = [answer(part, own)[:n] for part, own, n in _chunks(x, rows, chunk)]
    return expect_finite(torch.cat(parts), rows)


def expect_finite(logits: Tensor, rows: Tensor) -> Tensor:
    fine = logits.isfinite().all(1)
    if not fine.all():
        raise Diverged(
            f"the model's answer to sample {int(rows[~fine][0])} is not a number; no attack makes sense of it"
        )
    return logits


def warn_of_masks(grad: Tensor) -> None:
    """(n, ...) gradients of samples that are still to be fooled."""
    flat = grad.flatten(1).abs().amax(1) == 0
    if len(flat) and flat.double().mean() > 0.5:
        warnings.warn(
            f"the gradient of {int(flat.sum())} of {len(flat)} samples is zero everywhere: what climbs it proves "
            "nothing. Take loss='margin' (a saturated softmax has no slope), or attacks that see answers alone: "
            "square, hop_skip_jump",
            MaskedGradients,
            stacklevel=3,
        )


def lead(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) by how much the best other class is above (n,) `labels`: above 0 where another one is answered."""
    own = labels[:, None]
    return logits.scatter(1, own, -torch.inf).amax(1) - logits.gather(1, own)[:, 0]


def beaten(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) bool: another class than `labels` is answered, and leads by more than rounding."""
    return (logits.argmax(1) != labels) & _clear(lead(logits, labels), logits)


def won(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) bool: `labels` are answered, and lead by more than rounding."""
    return (logits.argmax(1) == labels) & _clear(-lead(logits, labels), logits)


def slack(logits: Tensor) -> Tensor:
    """(n,) lead up to which rounding may decide: a share of the spread of the classes that compete. Neither a mask nor
    what is common to all logits changes it."""
    open_ = open_classes(logits)
    return SLACK * (logits.amax(1) - logits.masked_fill(~open_, torch.inf).amin(1))


def open_classes(logits: Tensor) -> Tensor:
    """(n, C) bool: classes that a sample may be answered with.

    A class is masked where its logit is 1e8 below the best, or where a gulf lies above it: 400 logits at least, and 8
    times the spread of the classes on the other side, which are two or more and no more than 100 apart.
    """
    order = logits.sort(1, descending=True).values
    above, below = order[:, 1:-1], order[:, 2:]
    gulf = above - below
    spread = order[:, :1] - above
    cut = (gulf > GULF) & (gulf > FAR * spread) & (spread < NEAR)
    last = above.masked_fill(~cut, -torch.inf)  # of the classes above a gulf; the highest gulf counts
    lowest = order[:, :1] + SHUT
    return logits >= torch.cat([last, lowest], 1).amax(1, keepdim=True)


def _clear(ahead: Tensor, logits: Tensor) -> Tensor:
    """(n,) bool: leads above rounding. An exact tie is no rounding but the end of a float's digits, as they are under
    a large common offset: the answer is the first of the two, as argmax says."""
    return (ahead > slack(logits)) | (ahead == 0)


def _chunks(x: Tensor, rows: Tensor, chunk: int):
    """Parts of at least GRAIN samples, the last filled up with its first: (part, rows, how many count).

    Images lie as convolutions read them fastest.
    """
    for start in range(0, max(len(x), 1), chunk):
        part, own = x[start : start + chunk], rows[start : start + chunk]
        n = len(part)
        if 0 < n < GRAIN:
            fill = torch.arange(GRAIN, device=x.device).clamp(max=n - 1)
            part, own = part[fill], own[fill]
        if part.dim() == 4:
            part = part.clone(memory_format=torch.channels_last)
        yield part, own, n


def _turns(rows: Tensor) -> Tensor:
    """(n,) how many equal rows stand before each."""
    order = rows.argsort(stable=True)
    ordered = rows[order]
    first = torch.searchsorted(ordered, ordered)
    return torch.empty_like(rows).scatter_(0, order, torch.arange(len(rows), device=rows.device) - first)

"""Attacks on finished runs: what is left of their accuracy, and pictures of what fooled them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..strategies import names as strategies
from ..strategies.attacks import names
from ..strategies.attacks.evaluate import Attacked, attacked
from ..strategies.attacks.feature_space import hidden
from ..strategies.attacks.threats import Gray, Threat, Transfer
from ..strategies.base import OwnLoop
from ..strategies.loop import restored
from ..strategies.rng import Rng
from ..streams.experience import Batch, Stream
from . import plugins
from .api import found
from .events import Failed
from .execute import execute, finished
from .executor import Data
from .figures import sheet, wrapped
from .run import Run, build
from .site import Site
from .store import Store, write

SHOWN = 8  # samples in a picture
WORDS = {
    "accuracy": "share of the samples that were right at first",
    "robust_accuracy": "share still right under the attack",
    "success": "share fooled of those that were right",
    "mean_l0": "pixels changed of those fooled, on average",
    "mean_l1": "size of what was changed, in L1",
    "mean_l2": "the same in L2",
    "mean_linf": "the same in L-infinity",
    "queries": "questions about each sample that was attacked, on average",
    "seconds": "of the attack",
}


@dataclass(frozen=True, eq=False)
class Assault:
    """One attack on one run. robust: its accuracy on every experience, under the attack."""

    run: Run
    attack: str
    threat: str
    measures: dict[str, float]
    clean: tuple[float, ...]  # accuracy on the same samples of every experience
    robust: tuple[float, ...]
    picture: Path | None


@dataclass(frozen=True, eq=False)
class _Target:
    """A finished run as it answers, and the samples that it is attacked on."""

    answer: Callable[[Tensor, Tensor], Tensor]
    features: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    experience: Tensor  # (N,) of every sample
    learn_from: tuple[Tensor, Tensor]


def assault(
    id: str,
    attacks: Sequence[str],
    threat: str = "white",
    *,
    home: str = "perdure-runs",
    data: str | None = None,
    samples: int = 1000,
    seed: int = 0,
    plugin: Sequence[str] = (),
) -> list[Assault]:
    """Attack a finished run by (the beginning of) its id, on at most `samples` test samples.

    Surrogates of gray and transfer threats are learned here, as runs like any other, unless they are known.

    Raises ValueError for runs that are not finished or have no model of ours, and for what cannot be attacked;
    NotationError for texts that cannot be read.
    """
    plugins.load(plugin)
    run, site = found(id, home), Site(home, data, tuple(plugin))
    if not finished(run, site):
        raise ValueError(f"run {run.id} is not finished; go on with it first: perdure resume {run.id}")
    chosen, asked = [names.attack(text) for text in attacks], names.threat(threat)
    torch.set_num_threads(run.threads)
    sets = Data(site)
    target = _target(run, site, sets, samples)
    surrogate = _surrogate(run, asked, site, sets, samples)
    told = []
    for text, one in zip(attacks, chosen, strict=True):
        got = attacked(
            target.answer,
            target.x,
            target.y,
            one,
            asked,
            seed=seed,
            surrogate=surrogate.answer if surrogate else None,
            features=(surrogate or target).features,
            learn_from=target.learn_from,
        )
        told.append(_told(run, site, text, threat, got, target.experience))
    return told


def _target(run: Run, site: Site, data: Data, samples: int) -> _Target:
    stream, learner, strategy = build(run, data.of(run))
    if isinstance(strategy, OwnLoop):
        raise ValueError("a run with a loop of its own keeps its model to itself; it cannot be attacked here")
    checkpoint = Store(site.folder(run)).load()
    assert checkpoint is not None  # of a finished run
    state = restored(strategy, stream, learner, checkpoint)
    learner.model.eval().to(memory_format=torch.channels_last)
    x, y, task, experience = _samples(stream, samples, run.seed, train=False)

    def answer(z: Tensor, rows: Tensor) -> Tensor:
        own = task[rows]
        batch = Batch(z, y[rows], own, torch.ones(len(own), device=own.device))
        return learner.masked(strategy.answer(learner, batch, learner.outputs(z, own), state), own)

    def features(z: Tensor, rows: Tensor) -> Tensor:
        learner.task = task[rows]
        return hidden(learner.model, z)

    some = _samples(stream, samples, run.seed, train=True)
    return _Target(answer, features, x, y, experience, (some[0], some[1]))


def _samples(stream: Stream, count: int, seed: int, train: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y, task and experience of as many samples of each experience."""
    tested = stream.tested(stream.marks[-1])
    parts = []
    for j in tested:
        split = stream[j].train if train else stream[j].test
        order = torch.randperm(len(split), generator=Rng(seed, "attack")[f"{j}"])[: max(1, count // len(tested))]
        batch = split.batch(order.to(split.device))
        parts.append((batch.x, batch.y, batch.task, torch.full_like(batch.y, j)))
    x, y, task, experience = (torch.cat(column) for column in zip(*parts, strict=True))
    return x, y, task, experience


def _surrogate(run: Run, threat: Threat, site: Site, data: Data, samples: int) -> _Target | None:
    if threat.asks_itself:
        return None
    assert isinstance(threat, Gray | Transfer)
    model = strategies.spelled(threat.model) if isinstance(threat, Transfer) else run.model
    others = [_target(_made(replace(run, seed=s, model=model), site, data), site, data, samples) for s in threat.seeds]
    first = others[0]
    return replace(first, answer=lambda x, rows: torch.stack([o.answer(x, rows) for o in others]).mean(0))


def _made(run: Run, site: Site, data: Data) -> Run:
    """A run that is finished: known, or made now."""
    run = run.normal()
    for event in execute(run, site, data.of(run)):
        if isinstance(event, Failed):
            raise ValueError(f"the surrogate {run.model} seed {run.seed} failed: {event.message}")
    return run


def _told(run: Run, site: Site, attack: str, threat: str, got: Attacked, experience: Tensor) -> Assault:
    still = got.right & (got.after == got.y)
    clean, robust = (
        tuple(which[experience == j].double().mean().item() for j in experience.unique())
        for which in (got.right, still)
    )
    measures = got.measures() | {"seconds": got.seconds}
    folder = site.folder(run) / "attacks"
    folder.mkdir(exist_ok=True)
    name = "".join(c if c.isalnum() or c in ".-" else "_" for c in f"{attack}_{threat}").strip("_")
    picture = None
    if got.x.dim() == 4 and got.x.shape[1] in (1, 3) and got.fooled.any():
        picture = folder / f"{name}.png"
        drawn(got, attack).savefig(picture, dpi=120)
    known = {"run": run.id, "attack": attack, "threat": threat, "clean": clean, "robust": robust}
    known["measures"] = {k: None if isnan(v) else v for k, v in measures.items()}
    write(folder / f"{name}.json", json.dumps(known, indent=1).encode())
    return Assault(run, attack, threat, measures, clean, robust, picture)


def drawn(got: Attacked, title: str = "") -> Any:
    """A figure: samples that were fooled with the answers to them above, what was added, amplified to full contrast,
    and what came of it with the answers below.
    """
    rows = got.fooled.nonzero().flatten()[:SHOWN]
    clean, moved = got.clean[rows], got.x[rows]
    delta = moved - clean
    most = delta.abs().amax().clamp(min=1e-12)
    labels = ["clean", f"x {0.5 / most.item():.2g}", "attacked"]
    figure = sheet([clean, 0.5 + 0.5 * delta / most, moved], len(rows), labels)
    figure.axes[0].set_title(wrapped(title), pad=16)
    axes, (height, width) = figure.axes[0], clean.shape[2:]
    for n, row in enumerate(rows.tolist()):
        middle = n * (width + 1) + width / 2
        axes.text(middle, -0.6, str(got.before[row].item()), ha="center", va="bottom", fontsize=7)
        axes.text(middle, 3 * (height + 1), str(got.after[row].item()), ha="center", va="top", fontsize=7, color="C3")
    return figure

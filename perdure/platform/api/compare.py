"""Learn a stream with several strategies from several seeds, and compare them."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ...notation import spell
from ...strategies import names
from ...strategies.attacks.base import Attack
from ...strategies.attacks.names import ATTACKS
from ...strategies.base import Strategy
from ...strategies.learner import Precision
from ...strategies.training.plan import Plan
from ...streams.names import DATASETS, STREAMS
from ...streams.recipe import Recipe
from ..reports.comparison import Comparison
from ..reports.kinds import reporting
from ..runs import dry_run, plugins
from ..runs.lookup import found
from ..runs.study import Command, seeds_of
from ..studies.make import make
from ..studies.runner import Watch, nobody
from ..studies.settings import How
from .texts import as_texts


def compare(
    strategies: Sequence[str | Strategy] = ("naive", "ewc", "rehearsal(200)", "rehearsal(200) + ewc(1)", "joint"),
    on: str | Recipe = "split(digits)",
    seeds: int | Sequence[int] = 3,
    *,
    model: str = "mlp(64, 64)",
    optimizer: str = "adam",
    epochs: int = 20,
    batch_size: int = 32,
    steps: int | None = None,
    accumulate: int = 1,
    precision: Precision = "float32",
    compiled: bool = False,
    threads: int = 1,
    workers: int = 1,
    device: str = "cpu",
    attacks: Sequence[str | Attack] = (),
    attack_samples: int = 200,
    start: str = "",
    evaluate: str = "",
    again: bool = False,
    watch: Watch = nobody,
    **how: Any,
) -> Comparison:
    """Learn a stream with every strategy from every seed, and compare what came out.

    strategies: as text, `"rehearsal(500) + ewc(100)"`, or as objects. seeds: how many, or which.
    steps: batches of each experience, instead of epochs. accumulate, precision, compiled: as in `Plan`. workers:
    processes that share every batch of a run, by Ray Train. attacks: made after every experience, on `attack_samples`
    test samples of each experience met so far, as `"pgd(eps=0.1)"`. start: (the beginning of) the id of a finished run,
    whose weights are begun from: what it has meta-learned, or what it had learned of its stream. evaluate: which
    experiences are tested on along the stream, as `Evaluation` has it: "every 10", "seen 20" or "last 5"; by default
    all after each, which is T² tests. again: make runs anew; those that were made before come back where that fails.
    how: fields of `How`, where and by whom runs are made.

    Raises NotationError (a ValueError) for texts that cannot be read, ValueError for what does not fit
    together, DataNotFound (a FileNotFoundError), and TooFew where a cluster has less than is asked for.
    Runs that fail raise nothing: see `Comparison.failed`.

    >>> import perdure, tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     result = perdure.compare(["naive"], seeds=1, epochs=1, home=home, here=True, tracking=False)
    >>> [standing.strategy for standing in result.league]
    ['naive']
    """
    where = How(**how)
    plugins.load(where.plugins)
    plan = Plan(epochs, batch_size, steps, accumulate, precision, compiled)
    texts = as_texts(strategies, Strategy, "strategies", names.spelled)
    chosen = seeds_of(seeds, len(texts))
    stream = on if isinstance(on, str) else spell(on, STREAMS | DATASETS)
    made = tuple(as_texts(attacks, Attack, "attacks", lambda a: spell(a, ATTACKS), 0))
    common = {"stream": stream, "model": model, "optimizer": optimizer, "plan": plan, "threads": threads}
    common |= {"workers": workers, "device": device, "attacks": made, "attack_samples": attack_samples}
    common |= {"start": found(start, where.home).id if start and not dry_run.asked() else "", "evaluate": evaluate}
    asked = Command.grid(texts, chosen, **common)
    dry_run.ends((run.source() for run in asked.runs), data=where.data)
    line = reporting(asked.runs[0]).line(asked.methods, asked.runs[0], chosen, asdict(where.settled()))
    return make(replace(asked, line=line), where, again, watch, typed=True)

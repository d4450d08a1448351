"""Records what a small run of everything comes to: python -m tests.platform.runs.recorded, after NUMERICS was raised.

The numbers hold on other machines to rounding, for which the runs are short; a formula, a default or an order of random
draws that changed shows in the third digit and before.
"""

import json
import sys
from pathlib import Path

import torch

from perdure.platform.execution.execute import execute
from perdure.platform.runs.any_run import AnyRun
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.meta_run import MetaRun
from perdure.platform.runs.numerics import NUMERICS
from perdure.platform.runs.record import ended
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.strategies.meta.loop import MetaPlan
from perdure.strategies.training.plan import Plan
from tests.examples import EXAMPLES, NEEDS_TASKS, PLAIN, WINNERS

FILE = Path(__file__).with_name("recorded.json")
STREAMS = (
    "split(digits, 5)", "permuted(digits, 2)", "rotated(digits, 2)", "swiss_roll(2)", "blurry(split(digits, 5), 0.2)",
    "online(split(digits, 2), 64)", "noisy(split(digits, 2), 0.2)", "long_tailed(split(digits, 2), 10)",
    "flipped(split(digits, 2), 0.1)", "backdoored(split(digits, 2), 0)", "validated(split(digits, 2))",
)  # fmt: skip
MODELS = ("mlp(16, winners=0.5)", "convnet(4)", "standardized(mlp(8))", "resnet18(2)")
OPTIMIZERS = ("sgd(0.1, momentum=0.9)", "adamw", "adam(keep=True)")
LEARNERS = (
    "maml", "maml(0.1, 2, order=1)", "anil(0.1)", "meta_sgd", "scheduled_maml(0.1, 2)", "reptile(0.1, 2)",
    "learned_optimizer", "protonets", "evolution(0.1)",
)  # fmt: skip
PLAN = Plan(steps=4, batch_size=16)
META_PLAN = MetaPlan(iterations=3, batch=2, every=3, judged=4)


def runs() -> dict[str, AnyRun]:
    """By what each is of."""
    made: dict[str, AnyRun] = {}
    for text in EXAMPLES:
        stream = "split(digits, 5, protocol='task')" if text in NEEDS_TASKS else "split(digits, 5)"
        model = "mlp(16, winners=0.5)" if text in WINNERS else "mlp(16)"
        made[text] = Run(text, stream, model, "sgd(0.1)" if text in PLAIN else "adam", plan=PLAN)
    made |= {text: Run("rehearsal(20)", text, "mlp(16)", plan=PLAN) for text in STREAMS}
    made |= {text: Run("naive", "split(digits, 5)", text, plan=PLAN) for text in MODELS}
    made |= {text: Run("naive", "split(digits, 5)", "mlp(16)", text, plan=PLAN) for text in OPTIMIZERS}
    for text in LEARNERS:
        on, model = "few_shot(strokes(20, 8), 3, 1, 3)", "mlp(16)"
        made[f"{text} on strokes"] = MetaRun(text, on, model, plan=META_PLAN, tested=4, adapted=(1,))
    made["maml on sinusoid"] = MetaRun(plan=META_PLAN, tested=4, adapted=(0, 2))
    return made


def come_to(run: AnyRun, home: str) -> dict[str, list[float]]:
    """The numbers of a run's last row, and the length of its weights."""
    site = Site(home)
    events = list(execute(run, site, Data(site).of(run)))
    row = Journal(site.folder(run)).final().rows[-1] if type(events[-1]).__name__ == "Finished" else events[-1]
    if not isinstance(row, dict):
        raise AssertionError(f"{run}: {row}")
    kept = ended(run, site)
    weights = kept["learned"] if isinstance(run, MetaRun) else {"model": kept["model"]}
    lengths = [
        torch.linalg.vector_norm(value.double()).item()
        for part in weights.values()
        for value in part.values()
        if torch.is_tensor(value) and value.is_floating_point()
    ]
    numbers = [row["loss"], *row.get("accuracy", []), *(v for values in row.get("judged", {}).values() for v in values)]
    return {"row": [v for v in numbers if v is not None], "weights": lengths}


def main() -> None:
    from tempfile import TemporaryDirectory

    torch.set_num_threads(1)
    with TemporaryDirectory() as home:
        known = {name: come_to(run, home) for name, run in runs().items()}
    FILE.write_text(json.dumps({"numerics": NUMERICS, "runs": known}, indent=1) + "\n")
    sys.stdout.write(f"{len(known)} runs recorded with numerics {NUMERICS}\n")


if __name__ == "__main__":
    main()

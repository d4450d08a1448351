"""The command line that reproduces runs of strategies."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .run import PLAIN, Run


def line(strategies: Sequence[str], run: Run, seeds: Sequence[int], how: Mapping[str, Any] | None = None) -> str:
    """What to type for runs like `run`, of these strategies from these seeds, with every setting that counts."""
    parts = ["--on", run.stream, "--model", run.model, "--optimizer", run.optimizer]
    plan = {k: v for k, v in asdict(run.plan).items() if v is not None and v != PLAIN.get(k)}
    if run.plan.steps is not None:
        del plan["epochs"]
    parts += ["--compiled"] * plan.pop("compiled", False)
    others = {k: v for k in ("threads", "device", "workers") if (v := getattr(run, k)) != getattr(Run(), k)}
    for name, value in (plan | others).items():
        parts += [f"--{name.replace('_', '-')}", str(value)]
    parts += [word for text in run.attacks for word in ("--attack", text)]
    if run.attacks:
        parts += ["--attack-samples", str(run.attack_samples)]
    parts += ["--start", run.start] if run.start else []
    parts += ["--evaluate", run.evaluate] if run.evaluate else []
    parts += [word for path in (how or {}).get("plugins", ()) for word in ("--plugin", path)]
    parts += ["--data", how["data"]] if how and how.get("data") else []
    if len(strategies) == len(seeds) == 1:
        return shlex.join(["perdure", "run", *strategies, *parts, "--seed", str(seeds[0])])
    counted = list(seeds) == list(range(len(seeds)))
    chosen = str(len(seeds)) if counted else ",".join(map(str, seeds)) + ","
    return shlex.join(["perdure", "compare", *strategies, *parts, "--seeds", chosen])

"""The command line that reproduces runs of meta-learners."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .meta_run import MetaRun


def line(learners: Sequence[str], run: MetaRun, seeds: Sequence[int], how: dict[str, Any] | None = None) -> str:
    """What to type for runs like `run`, of these learners from these seeds, with every setting that counts."""
    import shlex

    parts = ["--on", run.episodes, "--model", run.model]
    parts += ["--optimizer", run.optimizer] if run.optimizer else []  # else each learner has its own
    given = asdict(run.plan) | {"tested": run.tested, "adapted": ",".join(map(str, run.adapted)) + ","}
    given |= {k: v for k in ("threads", "device", "loss") if (v := getattr(run, k)) != getattr(MetaRun(), k)}
    parts += ["--compiled"] if given.pop("compiled") else []
    parts += [word for name, value in given.items() for word in (f"--{name}", str(value))]
    parts += ["--data", how["data"]] if how and how.get("data") else []
    parts += [word for path in (how or {}).get("plugins", ()) for word in ("--plugin", path)]
    chosen = str(len(seeds)) if list(seeds) == list(range(len(seeds))) else ",".join(map(str, seeds)) + ","
    return shlex.join(["perdure", "meta", *learners, *parts, "--seeds", chosen])

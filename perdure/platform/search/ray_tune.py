"""Searches on Ray Tune: who proposes points, who stops trials, and actors that make one trial after another.

Tune's own records are not what a search goes on from: they are pickles, and know nothing that journals do not. A search
that is made again is replayed: the same points in the same order, and what is known of them is read, not made.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from ..runs import plugins
from ..runs.datasets import Data, Packed, unpacked
from ..runs.workspace import Site
from .search import Search
from .space import Point
from .trial import Trial

Hear = Callable[[int, dict[str, Any]], None]  # a trial's number, from 1, and what its last step has told
RETRIES = 3  # actors that a trial may lose
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # journals are what is kept
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a search with what is known, as it does any other command
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # between pickles of its own state, which nobody reads
    "RAY_AIR_NEW_OUTPUT": "0",  # a library prints nothing
}


def fit(
    search: Search,
    site: Site,
    arrays: Packed | None,
    length: int,
    slots: int,
    gpus: float,
    stops: dict[str, int],
    folder: Path,
    hear: Hear,
) -> None:
    """Make the trials of a search on the cluster that this process is connected to.

    arrays: the data, which go to the object store once. slots: trials at once. folder: of the search.
    """
    os.environ |= SETTINGS
    import ray
    from ray import tune

    shutil.rmtree(folder / "tune", ignore_errors=True)
    held = tune.with_parameters(_trainable(), search=search, site=site, arrays=arrays, length=length, stops=stops)
    needs = {"cpu": search.run.threads} | ({"gpu": gpus} if gpus else {})
    if search.scheduler == "pbt":  # all wait for each other, so all must have begun: slots bound them by what they need
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(search.trials)
        needs["cpu"] = max(needs["cpu"], int(ray.cluster_resources().get("CPU", 1) // slots))
    algorithm = _optuna(search, slots) if search.by == "optuna" else None
    config = tune.TuneConfig(
        num_samples=search.trials if algorithm else 1,
        search_alg=algorithm,
        scheduler=_scheduler(search, length),
        max_concurrent_trials=None if algorithm or search.scheduler == "pbt" else slots,
        reuse_actors=True,
    )
    listener = _listener(search, hear)
    where = tune.RunConfig(
        name="tune",
        storage_path=str(folder),
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=RETRIES),
        callbacks=[listener],
        stop=_stopper(listener),
    )
    space = {} if algorithm else {"point": tune.grid_search(search.points())}
    tune.Tuner(tune.with_resources(held, needs), param_space=space, tune_config=config, run_config=where).fit()
    if listener.problem is not None:
        raise listener.problem


def _trainable() -> type:
    """A Trial as Tune wants it. Made here, since Ray is imported where it is used."""
    from ray import tune

    class Trainable(tune.Trainable):
        def setup(self, config, search, site, arrays, length, stops):
            plugins.load(site.plugins)
            search.expect_code()
            dataset = unpacked(arrays, lambda: Data(site).of(search.run)) if arrays else None
            self.trial = Trial(search, site, dataset, length, stops)
            self.reset_config(config)

        def reset_config(self, new_config):
            self.trial.begin(_point(self.trial.search, new_config))
            return True

        def step(self):
            return self.trial.step()

        def save_checkpoint(self, checkpoint_dir):
            self.trial.save(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint: Any):
            self.trial.load(Path(checkpoint))

        def cleanup(self):
            self.trial.close()

    return Trainable


def _point(search: Search, config: dict[str, Any]) -> Point:
    """What Tune proposes: a point, or what Optuna says of each parameter."""
    if "point" in config:
        return config["point"]
    return {name: one.text(config[name]) for name, one in search.space.parameters.items()}


def _optuna(search: Search, slots: int) -> Any:
    """Proposals, `slots` at a time: the next are made when all are known, whoever of them was first."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError("optuna is not installed: pip install 'perdure[search]'") from None
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    aims = [f"objective_{n}" for n in range(len(search.aims))]
    modes = ["max" if aim.maximised else "min" for aim in search.aims]
    metric, mode = (aims, modes) if len(aims) > 1 else (aims[0], modes[0])
    space = {name: one.optuna() for name, one in search.space.parameters.items()}
    searcher = OptunaSearch(space, metric, mode, seed=search.run.seed)
    return ConcurrencyLimiter(searcher, max_concurrent=slots, batch=True)


def _scheduler(search: Search, length: int) -> Any:
    from ray.tune import schedulers

    common: dict[str, Any] = {"time_attr": "training_iteration", "metric": "objective_0"}
    common["mode"] = "max" if search.aims[0].maximised else "min"
    if search.scheduler == "asha":
        grace = min(search.grace, length)
        return schedulers.AsyncHyperBandScheduler(**common, max_t=length, grace_period=grace, reduction_factor=3)
    if search.scheduler == "pbt":
        return schedulers.PopulationBasedTraining(
            **common,
            perturbation_interval=search.interval,
            custom_explore_fn=_Explorer(search),
            log_config=False,
            synch=True,  # who is taken over does not depend on who was first
        )
    return None


class _Explorer:
    """Where a population goes: a point beside one that did well. Which is drawn from it and how often it was asked."""

    def __init__(self, search: Search):
        self.search, self.asked = search, Counter()

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        here = json.dumps(config["point"])
        self.asked[here] += 1
        chance = Random(f"{self.search.run.seed} {here} {self.asked[here]}")
        return {"point": self.search.space.near(config["point"], chance)}


def _listener(search: Search, hear: Hear) -> Any:
    """Passes on what trials tell. Tune goes on with a trial whose end it could not tell, for ever: an error of `hear`
    is kept as `problem`, for the search to end with."""
    from ray import tune

    class Listener(tune.Callback):
        def __init__(self, hear: Hear):
            self.hear = hear
            self.problem: Exception | None = None

        def __getstate__(self):
            return {}  # Tune writes itself down, and who listens, with a terminal in hand, is no part of it

        def on_trial_result(self, iteration, trials, trial, result, **info):
            self._tell(trials.index(trial) + 1, result)

        def on_trial_complete(self, iteration, trials, trial, **info):
            self._tell(trials.index(trial) + 1, trial.last_result | {"ended": True})

        def on_trial_error(self, iteration, trials, trial, **info):
            told = {"point": json.dumps(_point(search, trial.config)), "after": "[]", "count": 0}
            problem = str(trial.get_error() or "its actor was lost").strip().splitlines()[-1]
            self._tell(trials.index(trial) + 1, told | {"ended": True, "problem": problem})

        def _tell(self, number: int, told: dict[str, Any]) -> None:
            if self.problem is None:
                try:
                    self.hear(number, told)
                except Exception as e:
                    self.problem = e

    return Listener(hear)


def _stopper(listener: Any) -> Any:
    """Stops a search that can no longer be told of."""
    from ray import tune

    class Stopper(tune.Stopper):
        def __init__(self, listener: Any):
            self.listener = listener

        def __getstate__(self):
            return {}

        def __call__(self, trial_id, result):
            return False

        def stop_all(self):
            return self.listener.problem is not None

    return Stopper(listener)

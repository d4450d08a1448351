"""`perdure tune`: a search for settings."""

import sys
from typing import Any

from .. import options as o
from ..terminal import cautioning, console


def tune(
    method: o.Space,
    on: o.Met = "split(digits)",
    trials: o.Trials = 40,
    objective: o.Objectives = None,
    by: o.By = "random",
    scheduler: o.Scheduler = "none",
    grace: o.Grace = 2,
    interval: o.Interval = 1,
    share: o.Held = 0.1,
    first: o.First = None,
    seed: o.Seed = 0,
    seeds_per_trial: o.SeedsPerTrial = 1,
    finalists: o.Finalists = None,
    fresh: o.Fresh = 3,
    model: o.SpaceModel = None,
    optimizer: o.OuterOptimizer = "",
    epochs: o.Epochs = 20,
    steps: o.Steps = None,
    batch_size: o.BatchSize = 32,
    iterations: o.Iterations = 10_000,
    batch: o.Batch = 25,
    loss: o.Loss = "",
    every: o.Every = None,
    judged: o.Judged = 200,
    tested: o.Tested = 600,
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    slots: o.Slots = None,
    gpus_per_run: o.GpusPerRun = 0.0,
    address: o.Address = None,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    experiment: o.Experiment = "",
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Search for settings: a text with choice, uniform, loguniform, quniform or randint where values are sought.

    Settings are chosen on samples held out of training, or on validation tasks; the best are then made again from fresh
    seeds and tested. Typed again, it goes on where it was stopped.

    Examples:

        perdure tune "rehearsal(choice(200, 500)) + ewc(loguniform(1, 1e4))" --on "split(fashion_mnist)" --trials 40

        perdure tune "ewc(loguniform(1, 1e4))" --on "permuted(digits, 10)" --first 3 --scheduler asha

        perdure tune "rehearsal(randint(50, 500))" --objective accuracy --objective state_bytes --by optuna

        perdure tune naive --optimizer "sgd(loguniform(1e-3, 1))" --trials 10

        perdure tune "maml(loguniform(0.001, 1), steps=choice(1, 5))" --on "sinusoid(shots=10)"
    """
    arguments = {k: v for k, v in locals().items() if k not in ("recipe", "json", "plugin")}
    arguments |= {"objective": objective or (), "plugins": tuple(plugin or ())}
    _searched(arguments, json)


def _searched(arguments: dict[str, Any], json: bool) -> None:
    """Search while a line tells of every trial, show what came out, and leave with the code that says it."""
    from ...platform.api.tune import tune as tuned
    from ..live_progress import Trials, watch
    from ..views.result import made

    cautioning()
    screen = console(stderr=True)
    with Trials(screen, "no trial has ended yet") as trials:
        found = tuned(**arguments, watch=lambda command: watch(command, screen), hear=trials)
    made(found, json, console())
    sys.exit(130 if found.stopped else 1 if found.failed or not found.ended else 0)

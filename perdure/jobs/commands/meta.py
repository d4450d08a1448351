"""`perdure meta`: meta-learners on episodes."""

from .. import options as o
from ..run_and_show import conducted


def meta(
    learners: o.Learners = None,
    on: o.Episodes = "sinusoid",
    seeds: o.Seeds = "1",
    model: o.MetaModel = None,
    optimizer: o.OuterOptimizer = "",
    loss: o.Loss = "",
    iterations: o.Iterations = 10_000,
    batch: o.Batch = 25,
    every: o.Every = None,
    judged: o.Judged = 200,
    parts: o.Parts = None,
    compiled: o.Compiled = False,
    tested: o.Tested = 600,
    adapted: o.Adapted = "0,1,5,10",
    threads: o.Threads = 1,
    device: o.Device = "cpu",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    here: o.Here = False,
    workers: o.Workers = 1,
    slots: o.Slots = None,
    gpus_per_run: o.GpusPerRun = 0.0,
    address: o.Address = None,
    silence: o.Silence = 300.0,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    experiment: o.Experiment = "",
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Learn what to start from, so that a few steps on a few samples of a new task are enough.

    Typed again, it goes on where it was stopped.

    Examples:

        perdure meta

        perdure meta "maml(lr=0.01, steps=5)" reptile --on "sinusoid(shots=10)" --iterations 60000 --seeds 3

        perdure meta "maml(0.4, 5)" protonets --on "few_shot(strokes, 5, 5)" --batch 4 --iterations 1000

        perdure meta "maml(0.4, 5)" --on "few_shot(strokes, 5, 1)" --batch 4 --workers 2
    """
    arguments = {k: v for k, v in locals().items() if k not in ("recipe", "json", "plugin")}
    from ...platform.api.meta import meta as meta_learned

    arguments |= {"seeds": o.seeds(seeds), "adapted": o.numbers(adapted), "plugins": tuple(plugin or ())}
    arguments |= {"learners": learners or ["maml"], "here": here or workers > 1}
    conducted(lambda watch: meta_learned(watch=watch, **arguments), json)

"""`perdure compare` and `perdure run`: strategies that learn a stream."""

from typing import Any

from .. import options as o
from ..run_and_show import conducted


def compare(
    strategies: o.Strategies = None,
    on: o.On = "split(digits)",
    seeds: o.Seeds = "3",
    model: o.Model = "mlp(64, 64)",
    optimizer: o.Optimizer = "adam",
    epochs: o.Epochs = 20,
    steps: o.Steps = None,
    batch_size: o.BatchSize = 32,
    accumulate: o.Accumulate = 1,
    precision: o.Precision = "float32",
    compiled: o.Compiled = False,
    threads: o.Threads = 1,
    workers: o.Sharing = 1,
    device: o.Device = "cpu",
    attack: o.Attacks = None,
    attack_samples: o.AttackSamples = 200,
    start: o.Start = "",
    evaluate: o.Evaluate = "",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    here: o.Here = False,
    slots: o.Slots = None,
    gpus_per_run: o.GpusPerRun = 0.0,
    together: o.Together = None,
    address: o.Address = None,
    silence: o.Silence = 300.0,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    experiment: o.Experiment = "",
    again: o.Again = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Learn a stream with several strategies from several seeds, and compare them.

    Without arguments: five strategies on scikit-learn's digits. Typed again, it goes on where it was stopped.

    Examples:

        perdure compare

        perdure compare naive "rehearsal(500)" "rehearsal(500) + ewc(100)" --on "split(fashion_mnist)" --seeds 5

        perdure compare naive joint --on "permuted(digits, 10)" --model "mlp(100)" --epochs 5

        perdure compare --recipe mine.yaml seeds=10
    """
    arguments = locals()
    chosen = o.seeds(arguments.pop("seeds"))
    _made(arguments.pop("strategies") or o.DEMO, chosen, **arguments)


def run(
    strategy: o.Strategy = "naive",
    on: o.On = "split(digits)",
    seed: o.Seed = 0,
    model: o.Model = "mlp(64, 64)",
    optimizer: o.Optimizer = "adam",
    epochs: o.Epochs = 20,
    steps: o.Steps = None,
    batch_size: o.BatchSize = 32,
    accumulate: o.Accumulate = 1,
    precision: o.Precision = "float32",
    compiled: o.Compiled = False,
    threads: o.Threads = 1,
    workers: o.Sharing = 1,
    device: o.Device = "cpu",
    attack: o.Attacks = None,
    attack_samples: o.AttackSamples = 200,
    start: o.Start = "",
    evaluate: o.Evaluate = "",
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    plugin: o.Plugins = None,
    save_every: o.SaveEvery = 60.0,
    here: o.Here = True,
    gpus_per_run: o.GpusPerRun = 0.0,
    address: o.Address = None,
    silence: o.Silence = 300.0,
    tracking: o.Tracking = True,
    tracking_uri: o.TrackingUri = None,
    experiment: o.Experiment = "",
    again: o.Again = False,
    profile: o.Profile = False,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Learn a stream with one strategy from one seed.

    Examples:

        perdure run "rehearsal(200)"

        perdure run "ewc(100)" --on "rotated(digits, 5)" --seed 3 --model "mlp(100)"

        perdure run naive --on "split(images('photos'))" --model resnet18

        perdure run "rehearsal(200) + adversarial(pgd(steps=7))" --attack "pgd(eps=0.1)" --attack fgsm

        perdure run "rehearsal(2000)" --on "split(fashion_mnist)" --model resnet18 --batch-size 256 --workers 4

        perdure run "rehearsal(200) + ewc" --profile
    """
    arguments = locals()
    arguments["here"] = here and not address
    _made([arguments.pop("strategy")], [arguments.pop("seed")], **arguments)


def _made(strategies: list[str], seeds: int | list[int], **arguments: Any) -> None:
    from ...platform.api.compare import compare as compared

    del arguments["recipe"]
    json, arguments["plugins"] = arguments.pop("json"), tuple(arguments.pop("plugin") or ())
    arguments["attacks"] = arguments.pop("attack") or ()
    conducted(lambda watch: compared(strategies, seeds=seeds, watch=watch, **arguments), json)

"""Steps that a GPU may capture and replay, on a CPU: a tape stands in for the graph, the meta device for the GPU."""

import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn, optim
from torch.utils._pytree import tree_map

from perdure.strategies.base import stages
from perdure.strategies.learner import Learner
from perdure.strategies.models.winners import Winners
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training import cuda_graphs, loop
from perdure.strategies.training.cuda_graphs import steps_of, still, why_not
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ...examples import EXAMPLES, NEEDS_TASKS, PLAIN, RESTING, WINNERS
from .tape import Tape, Watched

PLAN = Plan(epochs=3, batch_size=50)  # batches of 50, 50 and 20
WAITS = ["gem", "adversarial", "trades"]
CAPTURED = [
    text
    for text, strategy in EXAMPLES.items()
    if all(map(still, stages(strategy))) and strategy.replays == 1 and text not in WINNERS
]


def learner(name, stream, seed=0):
    """Batch statistics and momentum, and nothing that draws."""
    torch.manual_seed(seed)
    plain = name in (*PLAIN, *RESTING)
    norm = nn.Identity() if plain else nn.BatchNorm1d(32)
    active = Winners(0.5, 32, boost=0.5) if name in WINNERS else nn.ReLU()
    body = [nn.Flatten(), nn.Linear(16, 32), norm, active, nn.Linear(32, 16), nn.ReLU()]
    model = nn.Sequential(*body, nn.Linear(16, stream.classes.shape[1]))
    return Learner(model, SGD(0.005, momentum=0.9) if plain else Adam(0.01), Rng(seed))


def protocol(name):
    return "task" if name in NEEDS_TASKS else "class"


@pytest.fixture
def tapes(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "GPU", "cpu")
    monkeypatch.setattr(cuda_graphs, "WORTH", 1)
    monkeypatch.setattr(loop, "steps_of", partial(steps_of, graphs=Tape))
    Tape.replays = 0


@pytest.mark.parametrize("name", CAPTURED)
def test_replayed_steps_end_with_the_bits_of_plain_ones(name, monkeypatch, request):
    stream = blobs(protocol=protocol(name))
    plain = list(learn(stream, learner(name, stream), EXAMPLES[name], PLAN))
    request.getfixturevalue("tapes")
    one = learner(name, stream)
    replayed = list(learn(stream, one, EXAMPLES[name], PLAN))
    assert one.uncaptured == "" and Tape.replays >= 3 * len(stream)  # of 9 steps, 3 of the 6 whole batches
    assert same([s.checkpoint for s in replayed], [s.checkpoint for s in plain])
    assert [(s.loss, s.accuracy, s.extras) for s in replayed] == [(s.loss, s.accuracy, s.extras) for s in plain]


def test_most_strategies_are_captured():
    assert {"naive", "rehearsal(30)", "ewc(10, samples=64)", "si", "lwf", "icarl(30)", "gpm(0.9, samples=50)"} <= {
        *CAPTURED
    }


@pytest.mark.usefixtures("tapes")
def test_a_stage_that_promises_too_much_is_found_out(monkeypatch):
    """The tape tells: der draws from its memory in every penalty."""
    der, stream = EXAMPLES["der(30)"], blobs(protocol="class")
    monkeypatch.setattr(type(der), "still", True)
    with pytest.raises(RuntimeError, match="draws"):
        list(learn(stream, learner("der(30)", stream), der, PLAN))


@pytest.mark.usefixtures("tapes")
def test_what_is_not_captured_says_why():
    stream = blobs(protocol="class")
    one = learner("naive", stream)
    assert "DER" in why_not(one, EXAMPLES["ewc(10, samples=64)"] + EXAMPLES["der(30)"])
    assert "replayed" in why_not(one, EXAMPLES["free_adversarial(replays=3)"])
    assert "too few" in why_not(one, EXAMPLES["naive"], 0)
    dropping = Learner(nn.Sequential(nn.Linear(16, 4), nn.Dropout(0.1)), SGD(0.1), Rng(0))
    assert "layer 1 draws" in why_not(dropping, EXAMPLES["naive"])
    assert why_not(one, EXAMPLES["naive"]) == ""


def test_nothing_is_captured_on_a_cpu():
    stream = blobs(tasks=1)
    one = learner("naive", stream)
    list(learn(stream, one, EXAMPLES["naive"], Plan(epochs=10)))
    assert "CPU" in one.uncaptured


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_step_waits_for_no_device_but_where_the_docs_say_so(name):
    """On the meta device there are no values to wait for: whatever asks for one fails."""
    stream = blobs(protocol=protocol(name))
    stones = list(learn(stream, learner(name, stream), EXAMPLES[name], Plan(steps=2, batch_size=20)))
    one = learner(name, stream)
    state, batch = on_meta(stones[0].checkpoint["strategy"]), on_meta(stream[1].train.batch(torch.arange(20)))
    one.model.to("meta").train()
    one.params = dict(one.model.named_parameters())
    one.protocol, one.heads = stream.protocol, on_meta(stream.heads(1))
    EXAMPLES[name].init(one)
    optimizer = optim.SGD(one.params.values(), 0.1)
    waiting = pytest.raises((RuntimeError, NotImplementedError)) if name.split("(")[0] in WAITS else nullcontext()
    with waiting:
        for watched in (nullcontext(), Watched(drawing=True)):  # what a first step makes for all of them may wait
            one.scratch.clear()
            with watched:
                loop._step(one, optimizer, EXAMPLES[name], state, EXAMPLES[name].augment(one, batch, state))


def test_the_docs_name_the_strategies_that_wait():
    page = (Path(__file__).parents[3] / "docs" / "performance.md").read_text()
    (told,) = re.findall(r"^Strategies that wait: (.*)\.$", page, flags=re.M)
    assert re.findall(r"`(\w+)`", told) == WAITS


def test_moving_a_stream_moves_its_heads():
    assert blobs(protocol="class").to("meta").heads(0).device.type == "meta"


def on_meta(value):
    return tree_map(lambda part: part.to("meta") if isinstance(part, torch.Tensor) else part, value)


@pytest.mark.parametrize("name", [n for n in EXAMPLES if n not in (*WINNERS, *NEEDS_TASKS)])
def test_channels_may_come_last(name):
    """As convolutions' weights lie on a GPU: no strategy counts on another order, and numbers differ by rounding."""
    stream, ends = blobs(protocol="class"), []
    for last in (False, True):
        torch.manual_seed(0)
        body = [nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
        model = nn.Sequential(*body, nn.Flatten(), nn.Linear(16, stream.classes.shape[1]))
        model = model.to(memory_format=torch.channels_last) if last else model
        one = Learner(model, SGD(0.005), Rng(0))
        stones = list(learn(stream, one, EXAMPLES[name], Plan(steps=2, batch_size=20)))
        assert one.model[3].weight.is_contiguous(memory_format=torch.channels_last) or not last
        ends.append(stones[-1].checkpoint["model"])
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-3, atol=1e-5)

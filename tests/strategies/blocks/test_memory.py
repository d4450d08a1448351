"""Memories of every size: exactly min(capacity, samples met) are held, whatever the stream and the selection."""

import itertools
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from perdure.strategies.blocks.memory import quotas
from perdure.strategies.blocks.selection import gradient_matching, herding, k_centre
from perdure.strategies.methods.memory_poisoning import _memories
from perdure.strategies.names import strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Milestone, Plan
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from ..learners import learner

KEEPERS = [
    "rehearsal({})",
    "rehearsal({}, selection='reservoir')",
    "rehearsal({}, selection='herding')",
    "rehearsal({}, selection='k_centre')",
    "rehearsal({}, selection='gradient')",
    "der({})",
    "icarl({})",
    "agem({})",
    "gem({})",
    "la_maml({})",
    "distilled({}, steps=0)",
    "tainted(rehearsal({}, selection='herding'))",
    "naive + icarl({})",
]
STREAMS = [
    "split(digits, 10)",
    "split(digits, 5, protocol='task')",
    "split(digits, 2, protocol='domain')",
    "permuted(digits, 2, protocol='domain')",
    "blurry(split(digits, 5))",
    "online(split(digits, 5), 40)",
    "repeated(split(digits, 5))",
    "long_tailed(split(digits, 5), 20)",
    "imbalanced(split(digits, 2), (1, 1, 0.5, 1, 1, 0.1, 0, 1, 1, 1))",
    "drifting(split(digits))",
]
CLASSES, HUGE = 10, 10**7


@pytest.fixture(scope="module")
def streams():
    """By text, of a twentieth of the data: what a memory holds does not depend on how many there are to choose from."""

    def made(text):
        recipe = stream_recipe(text)
        dataset = recipe.source().load(Places())
        few = torch.arange(0, len(dataset.train.y), 20)
        small = type(dataset.train)(dataset.train.x[few], dataset.train.y[few])
        return recipe.arrange(type(dataset)(small, dataset.test, dataset.classes))

    return {text: made(text) for text in STREAMS}


def sizes(text, stream):
    """How many samples are held after each experience, and everything that is."""
    one, method = learner(stream, text="mlp(8)"), strategy(text)
    one.protocol, one.heads, one.rng = stream.protocol, stream.heads(0), Rng(0).fold("init")
    state, held, kept = method.init(one), [], []
    for i, experience in enumerate(stream):
        one.heads, one.rng = stream.heads(i), Rng(0).fold(i, "consolidate")
        state = method.consolidate(one, experience, state)
        memories = list(_memories(state))
        held.append(sum(len(memory["y"]) for memory in memories))
        kept += [memory[k] for memory in memories for k in ("x", "y", "task")]
    return held, kept


@pytest.mark.parametrize("text", KEEPERS)
@pytest.mark.parametrize("on", STREAMS)
def test_exactly_as_many_are_held_as_there_is_room_for(text, on, streams):
    stream = streams[on]
    met = list(itertools.accumulate(len(e) for e in stream))
    for capacity in (1, 5, CLASSES, CLASSES + 1, HUGE):
        held, kept = sizes(text.format(capacity), stream)
        assert held == [min(capacity, m) for m in met], capacity
        if capacity == 5:
            assert all(map(torch.equal, kept, sizes(text.format(capacity), stream)[1]))


@pytest.mark.parametrize("text", [t for t in KEEPERS if "la_maml" not in t])
@pytest.mark.parametrize("capacity", [1, 5, CLASSES])
def test_a_stream_is_learned_to_its_end_with_fewer_samples_than_classes(text, capacity, streams):
    stream = streams["split(digits, 10)"]
    one = learner(stream, text="mlp(8)")
    stones = [s for s in learn(stream, one, strategy(text.format(capacity)), Plan(steps=2)) if isinstance(s, Milestone)]
    assert len(stones) == 10 and all(0 <= a <= 1 for a in stones[-1].accuracy)


def test_quotas_are_the_most_equal_ones_of_the_right_size_with_the_first_ahead():
    for counts in itertools.product(range(4), repeat=4):
        for capacity in range(1, 14):
            shares = quotas(list(counts), capacity)
            assert sum(shares) == min(capacity, sum(counts))
            assert all(0 <= s <= c for s, c in zip(shares, counts, strict=True))
            for (a, count), b in itertools.product(zip(shares, counts, strict=True), shares):
                assert a == count or b <= a + 1  # nobody who could have more has two less than another
            cut = [s for s, c in zip(shares, counts, strict=True) if s < c]
            assert cut == sorted(cut, reverse=True)  # what is left over goes to the first


def test_an_order_of_no_samples_is_empty():
    some = torch.rand(6, 3)
    for chosen in (herding(some, 0), k_centre(some, 0), gradient_matching(some, some, 0)):
        assert chosen.shape == (0,) and chosen.dtype == torch.int64


@pytest.mark.parametrize("text", [t for t in KEEPERS if "+" not in t])
@pytest.mark.parametrize("capacity", ["0", "-1", "2.5", "True"])
def test_a_memory_of_no_whole_number_is_refused(text, capacity):
    with pytest.raises(ValueError, match="capacity must be"):
        strategy(text.format(capacity))


@pytest.mark.parametrize("capacity", [2.5, 5.0, True, float("nan"), "5"])
def test_in_python_too(capacity):
    for text in KEEPERS[:11]:
        with pytest.raises(ValueError, match="capacity must be a whole number"):
            replace(cast(Any, strategy(text.format(1))), capacity=capacity)

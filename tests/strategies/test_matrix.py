"""Every strategy on every protocol, the same promises (DESIGN: what a new strategy costs)."""

import io

import pytest
import torch
from torch import nn

from perdure.strategies.learner import Learner
from perdure.strategies.loop import Milestone, Plan, learn
from perdure.strategies.names import spelled, strategy
from perdure.strategies.optimizers import SGD, Adam
from perdure.strategies.rng import Rng
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ..examples import CHAIN_OF_ALL, EXAMPLES, MEETS_MORE

PLAN = Plan(epochs=2, batch_size=20)
ALL = EXAMPLES | {"all": CHAIN_OF_ALL}
every = pytest.mark.parametrize("name", ALL)
everywhere = pytest.mark.parametrize("protocol", ["task", "class", "domain"])


def learner(stream, seed=0, optimizer=Adam(0.01)):  # noqa: B008
    """Batch statistics, dropout and momentum: all that a resumed run could lose."""
    torch.manual_seed(seed)
    classes = stream.classes.shape[1]
    body = [nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 16), nn.ReLU()]
    return Learner(nn.Sequential(nn.Flatten(), *body, nn.Linear(16, classes)), optimizer, Rng(seed))


def stones(stream, method, seed=0, checkpoint=None, due=lambda: False, optimizer=Adam(0.01)):  # noqa: B008
    return list(learn(stream, learner(stream, seed, optimizer), method, PLAN, checkpoint, due))


def through_a_file(checkpoint):
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every
@everywhere
def test_same_seed_same_bits(name, protocol):
    stream = blobs(protocol=protocol)
    one, two = (stones(stream, ALL[name]) for _ in range(2))
    assert same(one[-1].checkpoint, two[-1].checkpoint)
    assert [s.accuracy for s in one] == [s.accuracy for s in two]
    assert not same(one[-1].checkpoint["model"], stones(stream, ALL[name], seed=1)[-1].checkpoint["model"])


@every
@everywhere
@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.05, momentum=0.9)], ids=["adam", "sgd"])
def test_a_resumed_run_is_the_uninterrupted_run_from_any_step(name, protocol, optimizer):
    stream, whole = blobs(protocol=protocol), stones(blobs(protocol=protocol), ALL[name], optimizer=optimizer)
    marked = stones(stream, ALL[name], due=lambda: True, optimizer=optimizer)
    milestones = [s for s in marked if isinstance(s, Milestone)]
    assert same([s.checkpoint for s in milestones], [s.checkpoint for s in whole])  # looking changes nothing
    for stone in [*marked[:-1:5], *milestones[:-1]]:
        torch.manual_seed(99)
        rest = stones(stream, ALL[name], 0, through_a_file(stone.checkpoint), optimizer=optimizer)
        assert same(rest[-1].checkpoint, whole[-1].checkpoint)
        assert (rest[-1].loss, rest[-1].accuracy, rest[-1].baseline) == (
            whole[-1].loss,
            whole[-1].accuracy,
            whole[-1].baseline,
        )


@pytest.mark.parametrize("name", [n for n in ALL if n not in MEETS_MORE])
@everywhere
def test_before_any_past_it_is_the_naive_learner(name, protocol):
    stream = blobs(tasks=1, protocol=protocol)
    naive, other = (stones(stream, method)[-1].checkpoint["model"] for method in (ALL["naive"], ALL[name]))
    assert same(naive, other)


@every
@everywhere
def test_its_state_does_not_change_within_an_experience(name, protocol):
    stream = blobs(protocol=protocol)
    state, before = None, None
    for stone in learn(stream, learner(stream), ALL[name], PLAN, due=lambda: True):
        if not isinstance(stone, Milestone) and state is not None:
            assert same(stone.checkpoint["strategy"], before)
        if isinstance(stone, Milestone):
            state = stone.checkpoint["strategy"]
            before = through_a_file(state)


@every
def test_it_reads_back_from_its_own_text(name):
    assert strategy(spelled(ALL[name])) == ALL[name]

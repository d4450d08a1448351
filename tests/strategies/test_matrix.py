"""Every strategy on every protocol, the same promises (DESIGN: what a new strategy costs)."""

import io
from functools import cache

import pytest
import torch
from torch import nn

from perdure.strategies.learner import Learner
from perdure.strategies.methods import generative_replay
from perdure.strategies.models.winners import Winners
from perdure.strategies.names import spelled, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.strategies.training.plan import Milestone, Plan
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ..examples import ATTACKED, CHAIN_OF_ALL, EXAMPLES, LOOKING, MEETS_MORE, NEEDS_TASKS, PLAIN, RESTING, WINNERS

PLAN = Plan(epochs=2, batch_size=20)
ALL = EXAMPLES | {"all": CHAIN_OF_ALL}
CASES = [
    (name, protocol)
    for name in ALL
    for protocol in ("task", "class", "domain")
    if protocol == "task" or name not in NEEDS_TASKS
]
everywhere = pytest.mark.parametrize(("name", "protocol"), CASES)


@pytest.fixture(scope="module", autouse=True)
def brief():
    """What sorts dreams need not be good at it here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generative_replay, "SORTER_STEPS", 20)
        yield


def learner(name, stream, seed=0, optimizer=None):
    """Batch statistics, dropout and momentum: all that a resumed run could lose."""
    torch.manual_seed(seed)
    norm, active, optimizer = nn.BatchNorm1d(32), nn.ReLU(), optimizer or Adam(0.01)
    if name in (*PLAIN, "all"):
        norm, optimizer = nn.Identity(), SGD(0.005, momentum=0.9)  # every pull of "all" adds to the others
    if name in RESTING:
        norm = nn.Identity()
    if name in (*WINNERS, "all"):
        active = Winners(0.5, 32, boost=0.5)
    body = [nn.Linear(16, 32), norm, active, nn.Dropout(0.2), nn.Linear(32, 16), nn.ReLU()]
    return Learner(nn.Sequential(nn.Flatten(), *body, nn.Linear(16, stream.classes.shape[1])), optimizer, Rng(seed))


def streamed(name, protocol):
    return blobs(n=60 if name == "all" else 120, protocol=protocol)  # every step of "all" is one of each


def stones(stream, name, seed=0, checkpoint=None, due=lambda: False, optimizer=None):
    return list(learn(stream, learner(name, stream, seed, optimizer), ALL[name], PLAN, checkpoint, due))


@cache
def undisturbed(name, protocol, optimizer=None):
    """A whole run, which several promises speak of."""
    return stones(streamed(name, protocol), name, optimizer=optimizer)


def through_a_file(checkpoint):
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@everywhere
def test_same_seed_same_bits(name, protocol):
    stream, one = streamed(name, protocol), undisturbed(name, protocol)
    two = stones(stream, name)
    assert same(one[-1].checkpoint, two[-1].checkpoint)
    assert [(s.accuracy, s.extras) for s in one] == [(s.accuracy, s.extras) for s in two]
    assert not same(one[-1].checkpoint["model"], stones(stream, name, seed=1)[-1].checkpoint["model"])


OPTIMIZERS = (None, SGD(0.05, momentum=0.9))  # its learner's own first


@pytest.mark.parametrize(
    ("name", "protocol", "optimizer"),
    [(*case, o) for case in CASES for o in (OPTIMIZERS if case[0] not in (*PLAIN, "all") else OPTIMIZERS[:1])],
    ids=str,
)
def test_a_resumed_run_is_the_uninterrupted_run_from_any_step(name, protocol, optimizer):
    """From each end of an experience and some steps between, which are others for each protocol and optimizer."""
    stream, whole = streamed(name, protocol), undisturbed(name, protocol, optimizer)
    marked = stones(stream, name, due=lambda: True, optimizer=optimizer)
    milestones = [s for s in marked if isinstance(s, Milestone)]
    assert same([s.checkpoint for s in milestones], [s.checkpoint for s in whole])  # looking changes nothing
    stride = max(7, len(marked) // 6)
    first = ("task", "class", "domain").index(protocol) * 2 + OPTIMIZERS.index(optimizer)
    for stone in [*marked[first:-1:stride], *milestones[:-1]]:
        torch.manual_seed(99)
        rest = stones(stream, name, 0, through_a_file(stone.checkpoint), optimizer=optimizer)
        assert same(rest[-1].checkpoint, whole[-1].checkpoint)
        told = [(s.loss, s.accuracy, s.baseline, s.extras) for s in (rest[-1], whole[-1])]
        assert told[0] == told[1]


@pytest.mark.parametrize(
    ("name", "protocol"), [c for c in CASES if c[0] not in (*MEETS_MORE, *NEEDS_TASKS, *ATTACKED, *LOOKING, "all")]
)
def test_before_any_past_it_is_the_naive_learner(name, protocol):
    stream = blobs(tasks=1, protocol=protocol)
    same_net = learner(name, stream)
    naive = list(learn(stream, same_net, ALL["naive"], PLAN))[-1].checkpoint["model"]
    other = stones(stream, name)[-1].checkpoint["model"]
    assert same({k: naive[k] for k in same_net.params}, {k: other[k] for k in same_net.params})


@everywhere
def test_its_state_does_not_change_within_an_experience(name, protocol):
    stream = streamed(name, protocol)
    state, before = None, None
    for stone in learn(stream, learner(name, stream), ALL[name], PLAN, due=lambda: True):
        if not isinstance(stone, Milestone) and state is not None:
            assert same(stone.checkpoint["strategy"], before)
        if isinstance(stone, Milestone):
            state = stone.checkpoint["strategy"]
            before = through_a_file(state)


@pytest.mark.parametrize("name", ALL)
def test_it_reads_back_from_its_own_text(name):
    assert strategy(spelled(ALL[name])) == ALL[name]

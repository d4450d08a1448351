"""Every strategy on every protocol, the same promises (DESIGN: what a new strategy costs)."""

import io

import pytest
import torch
from torch import nn

from perdure.strategies.learner import Learner
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


def stones(stream, name, seed=0, checkpoint=None, due=lambda: False, optimizer=None):
    return list(learn(stream, learner(name, stream, seed, optimizer), ALL[name], PLAN, checkpoint, due))


def through_a_file(checkpoint):
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@everywhere
def test_same_seed_same_bits(name, protocol):
    stream = blobs(protocol=protocol)
    one, two = (stones(stream, name) for _ in range(2))
    assert same(one[-1].checkpoint, two[-1].checkpoint)
    assert [(s.accuracy, s.extras) for s in one] == [(s.accuracy, s.extras) for s in two]
    assert not same(one[-1].checkpoint["model"], stones(stream, name, seed=1)[-1].checkpoint["model"])


@pytest.mark.parametrize(
    ("name", "protocol", "optimizer"),
    [(*case, SGD(0.05, momentum=0.9)) for case in CASES]
    + [(*case, Adam(0.01)) for case in CASES if case[0] not in (*PLAIN, "all")],
    ids=str,
)
def test_a_resumed_run_is_the_uninterrupted_run_from_any_step(name, protocol, optimizer):
    stream, whole = blobs(protocol=protocol), stones(blobs(protocol=protocol), name, optimizer=optimizer)
    marked = stones(stream, name, due=lambda: True, optimizer=optimizer)
    milestones = [s for s in marked if isinstance(s, Milestone)]
    assert same([s.checkpoint for s in milestones], [s.checkpoint for s in whole])  # looking changes nothing
    stride = 29 if name == "all" else 7  # each stage of "all" is resumed from every seventh step by itself
    for stone in [*marked[:-1:stride], *milestones[:-1]]:
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
    stream = blobs(protocol=protocol)
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

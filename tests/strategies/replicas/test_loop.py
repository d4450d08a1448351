"""Replicas that are learned at once come to the bits that each comes to alone."""

import warnings
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from perdure.strategies.base import Naive, OwnLoop, Strategy
from perdure.strategies.learner import Learner
from perdure.strategies.methods.ewc import EWC
from perdure.strategies.methods.rehearsal import Rehearsal
from perdure.strategies.names import STRATEGIES, model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.replicas import forward
from perdure.strategies.replicas.loop import Alone, gain, learn_together
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam, AdamW
from perdure.strategies.training.plan import Milestone, Plan
from perdure.strategies.training.requirements import Caution
from perdure.streams.experience import Split
from perdure.testing.equality import near, same
from perdure.testing.streams import blobs

from ...examples import EXAMPLES, NEEDS_TASKS
from ..test_matrix import learner

PLAN = Plan(epochs=1, batch_size=25)


def told(stone):
    parts = (stone.loss, stone.accuracy, stone.baseline, stone.extras, stone.state_bytes)
    return (stone.checkpoint, parts) if isinstance(stone, Milestone) else (stone.checkpoint,)


def alone(stream, make, strategies, plan=PLAN, checkpoints=None, due=lambda: False):
    given = checkpoints or [None] * len(strategies)
    rounds = zip(strategies, given, strict=True)
    return [list(learn(stream, make(n), s, plan, c, due)) for n, (s, c) in enumerate(rounds)]


def together(stream, make, strategies, plan=PLAN, checkpoints=None, due=lambda: False):
    stones = [[] for _ in strategies]
    learners = [make(n) for n in range(len(strategies))]
    for n, stone in learn_together(stream, learners, strategies, plan, checkpoints, due):
        stones[n].append(stone)
    return stones


def assert_same(one, other):
    assert len(one) == len(other)
    for mine, its in zip(one, other, strict=True):
        assert [type(s) for s in mine] == [type(s) for s in its]
        for a, b in zip(mine, its, strict=True):
            if isinstance(a, Milestone):
                assert told(a)[1:] == told(b)[1:]
            assert same(a.checkpoint, b.checkpoint)


@pytest.mark.filterwarnings("ignore::perdure.strategies.training.requirements.Caution")
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_strategy(name):
    """Weights, moments, memories and other states, accuracies, losses, and what is told: at every milestone."""
    stream = blobs(tasks=3, n=80, protocol="task" if name in NEEDS_TASKS else "class")
    strategies = [EXAMPLES[name]] * 2

    def make(n):
        return learner(name, stream, n)

    whole = alone(stream, make, strategies)
    assert_same(together(stream, make, strategies), whole)
    assert not same(whole[0][-1].checkpoint["model"], whole[1][-1].checkpoint["model"])


@pytest.mark.parametrize("name", ["naive", "rehearsal(30)", "der(30)", "gpm(0.9, samples=50)", "si", "lwf"])
def test_where_kernels_round_by_shape_they_come_out_the_same_but_for_rounding(name, monkeypatch):
    """As on a GPU: batched products are used whatever their bits, and dropout draws replica by replica."""
    monkeypatch.setattr(forward, "EXACT", "none")
    monkeypatch.delattr(forward.Products, "_tried")
    monkeypatch.delattr(forward.Abreast, "_dropped")
    stream, strategies = blobs(tasks=2, n=60), [EXAMPLES[name]] * 3

    def make(n):
        return learner(name, stream, n, SGD(0.01, momentum=0.9))

    tried, apart = together(stream, make, strategies), alone(stream, make, strategies)
    for mine, its in zip(tried, apart, strict=True):
        assert [s.accuracy for s in mine] == [s.accuracy for s in its]
        assert near(mine[-1].checkpoint["model"], its[-1].checkpoint["model"], 1e-5)


def test_every_strategy_of_the_registry_is_among_them_or_says_why_not():
    shown = {type(example) for example in EXAMPLES.values()}
    for name, cls in STRATEGIES.items():
        if name == "tainted":  # wraps another
            continue
        assert cls in shown or cls.apart, name
        assert bool(cls.apart) == issubclass(cls, OwnLoop)


@pytest.mark.parametrize(
    "text", ["tainted(rehearsal(30), target=1)", "ewc(10) + rehearsal(20) + lwf", "der(20) + agem(20)"]
)
def test_sums_and_wrapped_ones(text):
    stream = blobs(tasks=3, n=80, protocol="class")
    strategies = [strategy(text)] * 3
    assert_same(*(by(stream, lambda n: learner(text, stream, n), strategies) for by in (together, alone)))


MODELS = {
    "odd shapes": ("mlp(7, 5)", (16,)),
    "no biases": ("mlp(33, 10, bias=False)", (16,)),
    "dropout": ("mlp(32, 32, dropout=0.3)", (16,)),
    "winners": ("mlp(32, 32, winners=0.2, boost=1)", (16,)),
    "standardized": ("standardized(mlp(16), 0.4, 0.3)", (16,)),
    "mixed": ("mixed(16)", (16,)),
    "convolutions": ("convnet(4, 6, hidden=9)", (1, 4, 4)),
    "batch statistics": ("conv4(4)", (1, 4, 4)),
    "mixed convolutions": ("mixed_conv4(4)", (1, 4, 4)),
    "residual": ("resnet18(2)", (1, 4, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name):
    text, shape = MODELS[name]
    stream = images(shape)

    def make(n):
        torch.manual_seed(n)
        return Learner(model(text).build(shape, stream.classes.shape[1]), Adam(0.01), Rng(n))

    strategies = [strategy("rehearsal(20)")] * 3
    plan = Plan(epochs=2, batch_size=31)
    assert_same(together(stream, make, strategies, plan), alone(stream, make, strategies, plan))


def images(shape):
    stream = blobs(tasks=2, n=80, protocol="class")
    parts = [replace(e, train=seen(e.train, shape), test=seen(e.test, shape)) for e in stream]
    return replace(stream, experiences=parts)


def seen(split, shape):
    x, y, task = split.everything()
    return Split(x.view(-1, *shape), y, task, torch.arange(len(y)))


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.05),
        SGD(0.05, momentum=0.9, weight_decay=0.01),
        Adam(0.01, keep=True),
        AdamW(0.01),
        SGD(0.05, 0.9, keep=True),
    ],
    ids=str,
)
def test_every_optimizer_and_going_on_from_any_step(optimizer):
    stream = blobs(tasks=3, n=80, protocol="class")
    strategies = [strategy("rehearsal(20)")] * 3
    plan = Plan(epochs=2, batch_size=30)

    def make(n):
        return learner("", stream, n, optimizer)

    whole = alone(stream, make, strategies, plan)
    marked = together(stream, make, strategies, plan, due=lambda: True)
    assert_same(marked, alone(stream, make, strategies, plan, due=lambda: True))
    for at in (0, 5, 6, 8):
        checkpoints = [stones[at].checkpoint for stones in marked]
        rest = together(stream, make, strategies, plan, checkpoints)
        assert_same([r[-1:] for r in rest], [w[-1:] for w in whole])
        single = list(learn(stream, make(1), strategies[1], plan, checkpoints[1]))
        assert same(single[-1].checkpoint, whole[1][-1].checkpoint)


def test_numbers_of_strategy_and_optimizer_may_differ():
    stream = blobs(tasks=3, n=80, protocol="task")
    strategies = [EWC(s, samples=40) for s in (1.0, 10.0, 1000.0)]
    rates = (0.001, 0.01, 0.02)

    def make(n):
        return learner("", stream, 0, Adam(rates[n]))

    assert_same(together(stream, make, strategies), alone(stream, make, strategies))


def test_two_threads():
    torch.set_num_threads(2)
    try:
        stream = blobs(tasks=2, n=160, dim=64, protocol="class")
        strategies, plan = [strategy("rehearsal(50)")] * 4, Plan(batch_size=80)

        def make(n):
            torch.manual_seed(n)
            return Learner(model("mlp(100, 100)").build((64,), 4), Adam(0.01), Rng(n))

        assert_same(together(stream, make, strategies, plan), alone(stream, make, strategies, plan))
    finally:
        torch.set_num_threads(1)


def test_what_fails_is_named_and_nothing_more_comes():
    stream = blobs(tasks=2, n=80, protocol="class")
    rates = (0.1, 1e30, 0.1)
    stones = learn_together(stream, [learner("", stream, n, SGD(rates[n])) for n in range(3)], [Naive()] * 3, PLAN)
    with pytest.raises(Alone) as told:
        list(stones)
    assert told.value.which == 1 and "became" in str(told.value.__cause__)


def test_refusals():
    stream = blobs(tasks=2, protocol="class")
    learners = [learner("", stream, n) for n in range(2)]
    with pytest.raises(ValueError, match="with a loop of its own, one replica at a time"):
        learn_together(stream, learners, [strategy("avalanche('Naive')")] * 2, PLAN)
    with pytest.raises(ValueError, match="differ in numbers alone"):
        learn_together(stream, learners, [Naive(), EWC()], PLAN)
    with pytest.raises(ValueError, match="may look at several weights at once"):
        learn_together(stream, [Learner(nn.Linear(16, 4), torch.optim.LBFGS, Rng(0))] * 2, [Naive()] * 2, PLAN)
    one = next(iter(learn(stream, learners[0], Naive(), PLAN)))
    with pytest.raises(ValueError, match="checkpoints of one place"):
        learn_together(stream, learners, [Naive()] * 2, PLAN, [one.checkpoint, None])
    with pytest.raises(ValueError, match=r"batches of one size"):
        sizes = [Rehearsal(20, replay=7), Rehearsal(20, replay=9)]
        list(learn_together(stream, [learner("", stream, n) for n in range(2)], sizes, PLAN))
    with pytest.warns(Caution, match="never sees classes"):
        learn_together(stream, learners, [EWC()] * 2, PLAN)


@pytest.mark.parametrize("text", ["naive", "rehearsal(30) + ewc(10, samples=64)"])
def test_gain_is_measured_on_learners_that_are_spent(text):
    stream = blobs(tasks=2, protocol="class")
    assert gain(stream, lambda n: (learner("", stream, n), strategy(text)), 3, Plan(steps=50, batch_size=20)) > 0


def test_a_strategy_of_ones_own_may_say_why_not():
    class Lonely(Strategy):
        apart = "it talks to a server"

    stream = blobs(tasks=2)
    with pytest.raises(ValueError, match="it talks to a server"):
        learn_together(stream, [learner("", stream, n) for n in range(2)], [Lonely() + Naive()] * 2, PLAN)


NORMS = {
    "batch": nn.BatchNorm1d(6, track_running_stats=False),
    "layer": nn.LayerNorm(6),
    "group": nn.GroupNorm(2, 6),
    "instance": nn.InstanceNorm1d(6, affine=True),
}


@pytest.mark.parametrize("name", NORMS)
def test_affine_normalisation_under_vmap_has_the_first_derivatives_of_a_loop(name):
    """In second order vmap gets batch, layer and instance normalisation wrong (meta/base.py); in first order none."""
    torch.manual_seed(0)
    shaped = [nn.Linear(5, 24), nn.Unflatten(1, (6, 4)), NORMS[name], nn.Flatten(), nn.Tanh(), nn.Linear(24, 3)]
    plain = [nn.Linear(5, 6), NORMS[name], nn.Tanh(), nn.Linear(6, 3)]
    net = nn.Sequential(*(shaped if name == "instance" else plain)).double()
    params = {k: torch.randn(4, *p.shape).double() for k, p in net.named_parameters()}
    x, y = torch.randn(4, 8, 5).double(), torch.randint(3, (4, 8))

    def loss(params, x, y):
        return nn.functional.cross_entropy(functional_call(net, params, (x,)), y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        at_once = vmap(grad(loss))(params, x, y)
    for n in range(4):
        mine = {k: p[n].clone().requires_grad_() for k, p in params.items()}
        loss(mine, x[n], y[n]).backward()
        for k, p in mine.items():
            torch.testing.assert_close(at_once[k][n], p.grad, rtol=1e-9, atol=1e-11)


def test_a_gradient_that_is_not_contiguous_is_stepped_by_as_it_is():
    """Fused optimizers take any gradient for one that is contiguous."""

    class Turned(Strategy):
        def steer(self, learner, grads, state):
            return {k: nn.functional.pad(g, (0, 1))[..., :-1] for k, g in grads.items()}

    stream = blobs(tasks=1)
    one, other = (list(learn(stream, learner("", stream), s, PLAN))[-1] for s in (Naive(), Turned()))
    assert same(one.checkpoint["model"], other.checkpoint["model"])


def test_it_can_be_left_at_any_milestone():
    stream = blobs(tasks=3, n=80)
    stones = learn_together(stream, [learner("", stream, n) for n in range(3)], [Naive()] * 3, PLAN)
    assert [n for n, _ in islice(stones, 4)] == [0, 1, 2, 0]

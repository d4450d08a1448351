"""The order in which layers are defined says nothing: what counts is the order in which they are called."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.blocks.features import features
from perdure.strategies.blocks.split_model import parted
from perdure.strategies.learner import Learner
from perdure.strategies.methods.gpm import layer_inputs
from perdure.strategies.names import strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.strategies.training.plan import Plan
from perdure.testing.streams import blobs

from ..replicas.test_loop import alone, assert_same, together


class HeadFirst(nn.Module):
    """A head of `outputs` that is defined before the layers in front of it."""

    def __init__(self, outputs):
        super().__init__()
        self.head, self.late, self.early = nn.Linear(6, outputs), nn.Linear(8, 6), nn.Linear(16, 8)

    def hidden(self, x):
        return self.late(self.early(x).relu()).relu()

    def forward(self, x):
        return self.head(self.hidden(x))


def learner(stream, seed=0):
    torch.manual_seed(seed)
    return Learner(HeadFirst(stream.classes.shape[1]), SGD(0.05), Rng(seed), protocol=stream.protocol)


def test_features_are_what_the_head_sees():
    stream = blobs(tasks=2, n=40, protocol="class")
    one, batch = learner(stream), stream[0].train.batch(torch.arange(40))
    seen, outputs = features(one, batch.x, batch.task)
    torch.testing.assert_close(seen, one.model.hidden(batch.x))
    torch.testing.assert_close(outputs, one.model(batch.x))
    for text in ("icarl(10)", "rehearsal(10, selection='gradient')", "generative_replay(vae(2, steps=3), pool=10)"):
        *_, last = learn(stream, learner(stream), strategy(text), Plan(2, 20))
        assert last.accuracy


def test_a_model_without_a_linear_head_is_refused_where_features_are_asked_for_alone():
    class Normed(HeadFirst):
        def forward(self, x):
            return F.linear(self.hidden(x), self.head.weight)

    stream = blobs(tasks=2, n=40, protocol="class")
    one = Learner(Normed(4), SGD(0.05), Rng(0))
    batch = stream[0].train.batch(torch.arange(40))
    with pytest.raises(
        ValueError, match="whose last layer is linear.*its last is one of 6 outputs, where the model has 4"
    ):
        features(one, batch.x, batch.task)
    assert list(learn(stream, one, strategy("der(10)"), Plan(1, 20)))


def test_projection_leaves_the_head_alone_and_protects_what_comes_before():
    stream = blobs(tasks=2, n=40)
    one = learner(stream)
    assert list(layer_inputs(one, stream[0].train.draw(5, torch.Generator()))) == ["early", "late"]
    stones = learn(stream, one, strategy("gpm(1, samples=40)"), Plan(3, 20))
    next(stones)
    past = stream[0].train.batch(torch.arange(40))
    before, first = one.model.hidden(past.x).detach(), one.snapshot()
    next(stones)
    torch.testing.assert_close(one.model.hidden(past.x), before, rtol=0, atol=1e-4)
    assert not torch.equal(one.snapshot()["head.weight"], first["head.weight"])
    with pytest.raises(ValueError, match="for each of 2 layers .*, the head apart"):
        strategy("gpm((0.9, 0.9, 0.9))").init(one)


def test_a_layer_that_is_called_twice_is_protected_from_both_inputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, x):
            return self.layer(self.layer(x).relu())

    stream = blobs(tasks=1, n=10, protocol="class")
    one = Learner(Twice(), SGD(0.05), Rng(0), protocol="class")
    seen = layer_inputs(one, stream[0].train.draw(10, torch.Generator()))["layer"]
    x = stream[0].train.batch(torch.arange(10)).x
    assert seen.shape == (17, 20)
    mine = torch.cat([x, one.model.layer(x).relu()]).T.detach()
    torch.testing.assert_close(seen[:16].sum(1), mine.sum(1))


class Doubled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class Reversed(nn.Sequential):
    def forward(self, input):
        for layer in reversed(list(self)):
            input = layer(input)
        return input


@pytest.mark.parametrize("kind", ["a layer twice", "a subclass", "a sequence that goes another way"])
def test_replicas_pass_through_layers_as_they_are_called(kind):
    stream, strategies = blobs(tasks=2, n=60, protocol="class"), [strategy("naive")] * 2

    def make(n):
        torch.manual_seed(n)
        active, shared = nn.ReLU(), nn.Linear(12, 12)
        net = {
            "a layer twice": [nn.Linear(16, 12), active, shared, active, shared, active, nn.Linear(12, 4)],
            "a subclass": [Doubled(16, 12), nn.ReLU(), nn.Linear(12, 4)],
            "a sequence that goes another way": [Reversed(nn.Linear(12, 4), nn.ReLU(), nn.Linear(16, 12))],
        }[kind]
        return Learner(nn.Sequential(*net), Adam(0.01), Rng(n))

    plan = Plan(epochs=1, batch_size=20)
    assert_same(together(stream, make, strategies, plan), alone(stream, make, strategies, plan))


def test_a_sequence_that_goes_another_way_is_not_taken_apart():
    net = nn.Sequential(Reversed(nn.Linear(12, 4), nn.ReLU(), nn.Linear(16, 12)), nn.Linear(4, 4))
    early, late = parted(net, 1)
    x = torch.randn(3, 16)
    assert len(early) == len(late) == 1
    torch.testing.assert_close(late(early(x)), net(x))

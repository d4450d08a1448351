"""Which units are at work: winners, dropout of past winners, gates, and what tasks do to each other."""

import pytest
import torch
from torch import nn

from perdure.strategies.methods.heterogeneous_dropout import HeterogeneousDropout, overlap
from perdure.strategies.methods.interference import Interference
from perdure.strategies.methods.xdg import ContextGating
from perdure.strategies.models.winners import Winners
from perdure.strategies.names import model
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan
from perdure.testing.streams import blobs

from ..learners import around, batch_of, experience, learner


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("share", "k"), [(0.05, 2), (0.3, 12), (0.01, 1)])
def test_exactly_k_stay_and_are_not_changed(training, share, k):
    torch.manual_seed(0)
    layer, x = Winners(share, 40, boost=1.0).train(training), torch.randn(9, 40)
    out = layer(x)
    assert (out != 0).sum(1).tolist() == [k] * 9
    assert ((out == x) | (out == 0)).all()
    if not training:
        assert torch.equal(out != 0, torch.zeros_like(x).scatter_(1, x.topk(k).indices, 1.0) > 0)


def test_gradients_reach_winners_alone():
    layer, x = Winners(0.25, 8), torch.randn(3, 8, requires_grad=True)
    layer(x).sum().backward()
    assert torch.equal(x.grad != 0, layer.eval()(x) != 0)


@pytest.mark.parametrize("text", ["mlp(40, 30, winners=0.1)", "convnet(8, 6, winners=0.1)", "resnet18(4, winners=0.1)"])
def test_every_model_takes_winners(text):
    net = model(text).build((1, 16, 16), 5).eval()
    shares = []
    for layer in net.modules():
        if isinstance(layer, Winners):
            layer.register_forward_hook(lambda _, given, out: shares.append((out != 0).flatten(1).float().mean(1)))
        assert not isinstance(layer, nn.ReLU)
    net(torch.rand(4, 1, 16, 16))
    assert shares and all(((s - 0.1).abs() < 0.02).all() for s in shares)


def test_boosting_brings_units_to_work_that_seldom_win():
    torch.manual_seed(0)
    bias = torch.linspace(0, 2, 50)  # the last win at first
    used = {}
    for boost in (0.0, 20.0):
        layer = Winners(0.1, 50, boost)
        for _ in range(400):
            layer(torch.rand(20, 50) + bias)
        used[boost] = (layer.duty > 0.02).sum().item()
        torch.testing.assert_close(layer.duty.sum(), torch.tensor(5.0), atol=0.05, rtol=0)
    assert used[20.0] > 2 * used[0.0]


def test_past_winners_sit_out_as_often_as_the_formula_says():
    stream = blobs(tasks=2)
    one, method = learner(stream, text="mlp(20, winners=0.2)"), HeterogeneousDropout(1.5)
    layer = one.model[2]
    one.model.train()
    one.model(batch_of(stream[0]).x)
    method.consolidate(one, stream[0], {})
    torch.testing.assert_close(layer.keep, torch.exp(-1.5 * layer.wins / layer.wins.max()))
    assert layer.keep.min() < 0.25 and layer.keep.max() == 1
    flat, wins = Winners(0.5, 20), torch.zeros(20)  # of equal activations those that take part share the wins
    flat.keep.copy_(layer.keep)
    for _ in range(300):
        wins += (flat(1 + 0.01 * torch.rand(50, 20)) != 0).float().sum(0)
    assert torch.corrcoef(torch.stack([wins, layer.keep]))[0, 1] > 0.9
    x = torch.randn(30, 20)
    assert torch.equal(flat.eval()(x), Winners(0.5, 20).eval()(x))  # in tests all take part


def test_overlap_by_hand():
    a, b, c = torch.tensor([4.0, 0, 0, 4]), torch.tensor([0.0, 1, 1, 0]), torch.tensor([1.0, 0, 1, 0])
    assert overlap([a, a]) == 1 and overlap([a, b]) == 0
    assert overlap([a, b, c]) == pytest.approx((0 + 0.5 + 0.5) / 3)


def test_heterogeneous_dropout_lowers_the_overlap_of_tasks():
    stream, told = blobs(tasks=4, protocol="domain", dim=64), {}
    for alpha in (0.0, 3.0):
        one = learner(stream, text="mlp(200, winners=0.1)")
        last = list(learn(stream, one, HeterogeneousDropout(alpha), Plan(epochs=5, batch_size=20)))[-1]
        told[alpha] = last.extras["overlap/2"]
    assert told[3.0] < 0.8 * told[0.0]


def test_gates_open_each_task_a_share_of_the_units():
    stream = blobs(tasks=4)
    one = learner(stream, text="mlp(50, 40)")
    one.protocol, one.heads = "task", stream.heads(3)
    seen = []
    ContextGating(0.6).init(one)
    layers = [m for m in one.model if isinstance(m, nn.ReLU)]
    for layer in layers:
        layer.register_forward_hook(lambda _, given, out: seen.append(((out != 0) | (given[0] <= 0), given[0] > 0)))
    one.outputs(torch.rand(400, 16), torch.arange(400) % 4)
    for (open_, live), units in zip(seen, (50, 40), strict=True):
        gates = []
        for t in range(4):
            rows = torch.arange(400) % 4 == t
            shut = (live[rows] & ~open_[rows]).any(0)
            awake = live[rows].any(0)
            gates.append(shut)
            assert not (shut & (live[rows] & open_[rows]).any(0)).any()  # a unit is silent for the whole task
            assert shut[awake].float().mean() == pytest.approx(0.6, abs=0.2) and shut.sum() <= round(0.6 * units)
        assert not torch.equal(gates[0], gates[1])


def test_cosines_of_tasks_that_help_harm_and_do_not_touch():
    one = around(nn.Linear(4, 2, bias=False))
    nn.init.zeros_(one.model.weight)
    x = torch.tensor([[1.0, 2, 0, 0], [1, -1, 0, 0]])
    state, tasks = {}, [(x, [0, 1]), (x, [1, 0]), (x.flip(1), [0, 1]), (2 * x, [0, 1])]
    for i, (inputs, y) in enumerate(tasks):
        state = Interference().consolidate(one, experience(inputs, y, i), state)
    told = Interference().describe(one, state)
    assert told["cosine/02/01"] == pytest.approx(-1, abs=1e-5)  # the same inputs, labels swapped: interference
    assert told["cosine/03/01"] == pytest.approx(0, abs=1e-6)  # other inputs: neither
    assert told["cosine/04/01"] == pytest.approx(1, abs=1e-5)  # the same task, louder: transfer
    assert len(told) == 6


def test_refusals():
    with pytest.raises(ValueError, match=r"needs a model with winners, as mlp\(400, 400, winners=0.05\)"):
        HeterogeneousDropout().init(learner(blobs()))
    one = learner(blobs())
    for protocol in ("class", "domain"):
        one.protocol = protocol
        with pytest.raises(ValueError, match=f"{protocol}-incremental stream does not tell; use protocol='task'"):
            ContextGating().init(one)

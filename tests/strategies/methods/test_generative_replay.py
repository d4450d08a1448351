"""Dreams of the past: as many as asked, rightly labelled, of the right task, and no larger than the generator."""

import copy

import pytest
import torch

from perdure.strategies.blocks.split_model import parted
from perdure.strategies.learner import Learner
from perdure.strategies.names import model, spelled, strategy
from perdure.strategies.names import optimizer as optimizers
from perdure.strategies.numerics.pytree import state_bytes
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import Batch
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ..learners import around, learner, moved

VAE = "vae(4, hidden=(32,), likelihood='gaussian', noise=0.2, steps=400)"
CVAE = "cvae(4, hidden=(32,), steps=400)"

GATED = "gated_vae(4, hidden=(32,), bounds=None, likelihood='gaussian', noise=0.3, steps=600)"


def wide(stream):
    """A first layer in which two classes leave room for more."""
    return around(learner(stream, text="mlp(64)").model, optimizer=Adam(0.01))


def learned(text, protocol="class", tasks=3, steps=150):
    stream = blobs(tasks=tasks, protocol=protocol)
    one, method = learner(stream), strategy(text)
    if getattr(method, "layer", 0):
        one = wide(stream)
    *_, last = learn(stream, one, method, Plan(steps=steps, batch_size=32))
    return stream, one, method, last


def class_centres(stream):
    return torch.stack([e.train.everything().x[e.train.y == c].mean(0) for e in stream for c in e.train.y.unique()])


@pytest.mark.parametrize(
    "text",
    [
        f"generative_replay({VAE}, pool=600)",
        f"generative_replay({VAE}, labels='hard', pool=600)",
        f"generative_replay({CVAE}, pool=600)",
        "generative_replay(diffusion(width=48, depth=2, steps=800), pool=600)",
        f"generative_replay({GATED}, labels='condition', layer=1, pool=600)",
        f"generative_replay({GATED}, layer=1, hold=100, pool=600)",
        f"brain_inspired({GATED}, pool=600)",
    ],
)
def test_it_holds_what_naive_forgets(text):
    *_, last = learned(text, steps=300)
    *_, naive = learned("naive")
    assert sum(last.accuracy) / 3 > 0.8 and sum(naive.accuracy) / 3 < 0.4
    assert strategy(spelled(strategy(text))) == strategy(text)


def test_conditions_are_dreamt_equally_often_and_labelled_so():
    stream, _, _, last = learned(f"generative_replay({CVAE}, pool=600)")
    pool = last.checkpoint["strategy"]["pool"]
    assert pool["y"].bincount().tolist() == [100] * 6
    assert (torch.cdist(pool["x"], class_centres(stream)).argmin(1) == pool["y"]).float().mean() > 0.9


@pytest.mark.parametrize("generator", [VAE, CVAE])
def test_a_dream_is_of_the_task_that_it_looks_like(generator):
    stream, _, _, last = learned(f"generative_replay({generator}, pool=600)", "task")
    pool = last.checkpoint["strategy"]["pool"]
    looks = torch.cdist(pool["x"], class_centres(stream)).argmin(1) // 2
    assert (looks == pool["task"]).float().mean() > 0.8
    assert pool["task"].bincount(minlength=3).min() > 60
    heads = stream.classes[pool["task"]]
    assert heads[torch.arange(600), pool["y"]].all()  # answered within the task's own head


def test_only_the_generator_counts_as_carried():
    *_, last = learned(f"generative_replay({VAE}, pool=600) + ewc(1)")
    dreaming, fisher = last.checkpoint["strategy"]
    assert last.state_bytes == state_bytes(dreaming["generator"]) + state_bytes(fisher)
    assert last.extras["dreams/entropy"] > 1


def test_soft_labels_are_the_distillation_of_the_learner_of_then():
    stream, one, method, last = learned(f"generative_replay({VAE}, pool=50, replay=7, temperature=3)", tasks=2)
    state, one.rng = last.checkpoint["strategy"], Rng(1)
    empty = Batch(*(t[:0] for t in stream[0].train.batch(torch.arange(1))))
    told = method.penalty(one, empty, None, state)
    at = torch.randint(50, (7,), generator=Rng(1)["dreams"])
    pool = state["pool"]
    old = (pool["outputs"][at] / 3).softmax(1)
    new = (one.logits(pool["x"][at], pool["task"][at]) / 3).softmax(1)
    plain = sum((p * (p / q).log())[p > 0].sum() for p, q in zip(old, new, strict=True)) / 7
    torch.testing.assert_close(told, 2 * 9 * plain)  # two experiences are past


def test_dreams_weigh_as_much_as_the_past():
    stream, one, method, last = learned(f"generative_replay({VAE}, labels='hard', pool=50, replay=8)")
    batch = stream[2].train.batch(torch.arange(32))
    joined = method.augment(one, batch, last.checkpoint["strategy"])
    assert len(joined.y) == 40
    assert joined.weight[32:].sum().item() == pytest.approx(3 * 32)  # three experiences are past
    shared = strategy(f"generative_replay({VAE}, labels='hard', share=0.5)")
    assert shared.augment(one, batch, last.checkpoint["strategy"]).weight[32:].sum().item() == pytest.approx(32)


def early(checkpoint):
    return {k: v for k, v in checkpoint["model"].items() if k.startswith("1.")}


def test_layers_before_the_hidden_features_rest_or_are_held():
    stream, method = blobs(tasks=3), strategy(f"brain_inspired({GATED}, pool=600)")
    first, *_, last = learn(stream, learner(stream), method, Plan(steps=150, batch_size=32))
    assert same(early(first.checkpoint), early(last.checkpoint))
    apart = []
    for hold in (0, 100):
        method = strategy(f"generative_replay({GATED}, layer=1, hold={hold}, pool=600)")
        first, *_, last = learn(stream, wide(stream), method, Plan(steps=150, batch_size=32))
        apart.append(
            sum(
                (a - b).norm()
                for a, b in zip(*map(dict.values, map(early, (first.checkpoint, last.checkpoint))), strict=True)
            )
        )
    assert 0 < apart[1] < 0.5 * apart[0]


def test_what_holds_features_is_their_distance_from_where_they_were():
    stream, one, method, last = learned(
        f"generative_replay({GATED}, layer=1, hold=5, labels='hard', pool=50, replay=7)", tasks=2
    )
    state, one.rng = last.checkpoint["strategy"], Rng(1)
    before, _ = parted(copy.deepcopy(one.model), 1)
    moved(one)
    batch = stream[1].train.batch(torch.arange(9))
    told, one.rng = method.penalty(one, batch, None, state), Rng(1)
    now, old = (torch.stack([m(x[None])[0] for x in batch.x]) for m in (parted(one.model, 1)[0], before))
    at = torch.randint(50, (7,), generator=Rng(1)["dreams"])
    answers = one.masked(parted(one.model, 1)[1](state["pool"]["x"][at]), state["pool"]["task"][at])
    dreamt = torch.nn.functional.cross_entropy(answers, state["pool"]["y"][at])
    torch.testing.assert_close(told, 5 * ((now - old) ** 2).mean() / (old**2).mean() + 2 * dreamt)


@pytest.mark.parametrize(
    "text", ["mlp(9, 8)", "mlp(9, 8, winners=0.5)", "convnet(4, 8)", "resnet18(4)", "standardized(mlp(9, 8))"]
)
def test_the_two_parts_of_a_model_are_the_model(text):
    net, x = model(text).build((1, 8, 8), 5).eval(), torch.rand(3, 1, 8, 8)
    for layer in (0, 1, 2):
        one, other = parted(net, layer)
        assert torch.equal(other(one(x)), net(x))
        assert {id(p) for part in (one, other) for p in part.parameters()} == {id(p) for p in net.parameters()}
    with pytest.raises(ValueError, match="a model of more than 20 layers in a row"):
        parted(net, 20)


@pytest.mark.parametrize(
    ("text", "optimizer", "why"),
    [
        ("mlp(12)", "adamw(0.001)", "weight decay and kept moments would move"),
        ("mlp(12)", "adam(0.001, keep=True)", "weight decay and kept moments would move"),
        ("resnet18(2)", "sgd(0.1)", "normalisation would go on"),
    ],
)
def test_layers_that_would_not_rest_are_refused(text, optimizer, why):
    one = Learner(model(text).build((1, 8, 8), 4), optimizers(optimizer), Rng(0))
    with pytest.raises(ValueError, match=why):
        strategy("brain_inspired").init(one)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("generative_replay(3)", "generator must be a Generator, got 3"),
        ("generative_replay(naive)", "generator must be a Generator, got naive"),
        ("generative_replay(vae, labels='condition')", "needs a generator that knows conditions"),
        ("generative_replay(vae, pool=1)", "pool >= 2"),
        ("generative_replay(vae, share=1)", "share must be between 0 and 1"),
        ("generative_replay(vae, hold=1)", "hold >= 0 only with a layer"),
        ("rehearsal(10) + vae", "only strategies can be added"),
    ],
)
def test_refusals(text, why):
    with pytest.raises(ValueError, match=why):
        strategy(text)

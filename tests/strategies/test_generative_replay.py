"""Dreams of the past: as many as asked, rightly labelled, of the right task, and no larger than the generator."""

import pytest
import torch

from perdure.strategies.loop import Plan, learn, state_bytes
from perdure.strategies.names import spelled, strategy
from perdure.strategies.rng import Rng
from perdure.streams.experience import Batch
from perdure.testing.streams import blobs

from .learners import learner

VAE = "vae(4, hidden=(32,), likelihood='gaussian', noise=0.2, steps=400)"
CVAE = "cvae(4, hidden=(32,), steps=400)"


def learned(text, protocol="class", tasks=3, steps=150):
    stream = blobs(tasks=tasks, protocol=protocol)
    one, method = learner(stream), strategy(text)
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
    ],
)
def test_it_holds_what_naive_forgets(text):
    *_, last = learned(text)
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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("generative_replay(3)", "generator must be a Generator, got 3"),
        ("generative_replay(naive)", "generator must be a Generator, got naive"),
        ("generative_replay(vae, labels='condition')", "needs a generator that knows conditions"),
        ("generative_replay(vae, pool=1)", "pool >= 2"),
        ("generative_replay(vae, share=1)", "share must be between 0 and 1"),
        ("rehearsal(10) + vae", "only strategies can be added"),
    ],
)
def test_refusals(text, why):
    with pytest.raises(ValueError, match=why):
        strategy(text)

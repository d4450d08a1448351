"""What each strategy's own formula says, against its plain form."""

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from perdure.strategies.distillation import Distillation
from perdure.strategies.ewc import EWC
from perdure.strategies.learner import Learner
from perdure.strategies.loop import Plan, learn
from perdure.strategies.names import model, strategy
from perdure.strategies.optimizers import SGD
from perdure.strategies.rehearsal import Rehearsal
from perdure.strategies.rng import Rng
from perdure.streams.experience import Experience, Split
from perdure.testing.streams import blobs


def learner(stream, seed=0):
    torch.manual_seed(seed)
    return Learner(model("mlp(12)").build((16,), stream.classes.shape[1]), SGD(0.1), Rng(seed))


def moved(one):
    with torch.no_grad():
        for p in one.params.values():
            p += 0.1 * torch.randn_like(p)


def labelled(y, index=0):
    y = torch.tensor(y)
    split = Split(torch.arange(len(y)).float()[:, None] / 1000 + index, y, torch.zeros_like(y), torch.arange(len(y)))
    return Experience(index, index, split, split)


def test_ewc_steers_along_the_gradient_of_one_penalty_per_experience():
    stream = blobs(tasks=3)
    one, ewc, state, past = learner(stream), EWC(3.0), {}, []
    for experience in stream:
        moved(one)
        one.rng, before = Rng(experience.index), state
        state = ewc.consolidate(one, experience, state)
        fisher = {k: f - (before["fisher"][k] if before else 0) for k, f in state["fisher"].items()}
        past.append((fisher, one.snapshot()))
    moved(one)
    value = sum((f[k] * (p - w[k]).square()).sum() for f, w in past for k, p in one.params.items()) * 3.0 / 2
    plain = dict(zip(one.params, torch.autograd.grad(value, list(one.params.values())), strict=True))
    closed = ewc.steer(one, {k: torch.ones_like(p) for k, p in one.params.items()}, state)
    for k in plain:
        torch.testing.assert_close(closed[k] - 1, plain[k], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("protocol", ["task", "class", "domain"])
def test_distillation_is_the_divergence_on_the_heads_of_before(protocol):
    stream = blobs(tasks=3, protocol=protocol)
    one, lwf = learner(stream), Distillation(strength=0.7, temperature=3.0)
    one.protocol, state = protocol, {}
    for i in range(2):
        one.heads = stream.heads(i)
        state = lwf.consolidate(one, stream[i], state)
    old = one.model(x := torch.rand(9, 16)).detach()
    moved(one)
    new = one.model(x)
    weight = torch.rand(9)
    batch = stream[2].train.batch(torch.arange(9))._replace(x=x, weight=weight)
    heads = {"task": [[0, 1], [2, 3]], "class": [[0, 1, 2, 3]], "domain": [[0, 1]]}[protocol]
    each = torch.stack(
        [F.kl_div((new[:, h] / 3).log_softmax(1), (old[:, h] / 3).softmax(1), reduction="none").sum(1) for h in heads]
    ).sum(0)
    plain = 0.7 * 9 * (weight * each).sum() / weight.sum()
    torch.testing.assert_close(lwf.penalty(one, batch, new, state), plain)


def test_a_balanced_memory_has_exact_quotas():
    one = learner(blobs())
    state = {}
    for i, y in enumerate([[0] * 50 + [1] * 50, [2] * 50 + [3] * 2, [4] * 100]):
        one.rng = Rng(0, i)
        state = Rehearsal(22).consolidate(one, labelled(y, i), state)
    assert state["y"].bincount().tolist() == [5, 5, 5, 2, 5]
    assert len(state["x"]) == 22
    assert state["x"].unique().numel() == 22  # no sample twice
    assert state["x"].floor().flatten().tolist() == [min(y // 2, 2) for y in state["y"].tolist()]  # x goes with its y


def test_a_memory_larger_than_the_data_keeps_all():
    one = learner(blobs())
    state = Rehearsal(1000).consolidate(one, labelled([0, 1, 1]), {})
    assert state["y"].bincount().tolist() == [1, 2]


def test_a_reservoir_is_uniform_over_all_samples_met():
    one, counts = learner(blobs()), torch.zeros(60)
    for seed in range(600):
        state = {}
        for i in range(3):
            one.rng = Rng(seed, i)
            state = Rehearsal(12, "reservoir").consolidate(one, labelled([0] * 20, i), state)
        assert len(state["y"]) == 12
        kept = (state["x"].frac() * 1000).round() + 20 * state["x"].floor()
        counts += torch.bincount(kept.flatten().long(), minlength=60)
    # kept or not is a draw without repeats, hence a little more even than a multinomial
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_rehearsal_joins_as_many_samples_as_asked():
    stream, one = blobs(), None
    one = learner(stream)
    batch = stream[1].train.batch(torch.arange(10))
    for replay, total in ((None, 20), (3, 13)):
        method = Rehearsal(40, replay=replay)
        state = method.consolidate(one, stream[0], {})
        full = method.augment(one, batch, state)
        assert len(full.y) == len(full.task) == len(full.weight) == len(full.x) == total
        assert torch.equal(full.x[:10], batch.x) and set(full.task[10:].tolist()) == {0}


def test_joint_shares_out_every_sample_once_and_cumulative_piles_up():
    stream = blobs(tasks=3, protocol="class")
    everything = torch.cat([e.train.everything().x.sum(1) for e in stream]).sort().values
    joint, cumulative = (strategy(name).curriculum(stream) for name in ("joint", "cumulative"))
    assert [len(e) for e in joint] == [120, 120, 120] and [len(e) for e in cumulative] == [120, 240, 360]
    assert all(e.train.y.unique().numel() == 6 for e in joint)
    assert torch.equal(torch.cat([e.train.everything().x.sum(1) for e in joint]).sort().values, everything)
    assert torch.equal(cumulative[2].train.everything().x.sum(1).sort().values, everything)
    assert joint.heads(0).all() and not cumulative.heads(0).all()
    assert all(torch.equal(a.test.y, b.test.y) for a, b in zip(joint, stream, strict=True))


def test_rehearsal_forgets_less_than_naive_and_joint_is_above():
    stream, plan, final = blobs(tasks=4, protocol="class"), Plan(epochs=40, batch_size=20), {}
    for name in ("naive", "rehearsal(40)", "joint"):
        last = list(learn(stream, learner(stream), strategy(name), plan))[-1]
        final[name] = sum(last.accuracy) / 4
    assert final["naive"] < 0.3 < 0.9 < final["rehearsal(40)"] < final["joint"]

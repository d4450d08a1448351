"""What may look at all data at once, and where the others lie below it."""

import torch

from perdure.strategies.names import strategy
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan
from perdure.testing.streams import blobs

from ..learners import learner


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

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.base import Chain, Naive, Strategy
from perdure.strategies.learner import Learner
from perdure.strategies.methods.ewc import EWC
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.divergence import Diverged
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.strategies.training.plan import Bookmark, Milestone, Plan
from perdure.strategies.training.requirements import Caution
from perdure.testing.equality import near, same
from perdure.testing.streams import blobs


def learner(stream, lr=0.1, seed=0):
    torch.manual_seed(seed)
    return Learner(model("mlp(32)").build((16,), stream.classes.shape[1]), SGD(lr), Rng(seed))


def test_naive_is_the_bare_loop_to_the_bit():
    stream, plan = blobs(tasks=2, protocol="class"), Plan(epochs=2, batch_size=50)
    last = list(learn(stream, learner(stream), Naive(), plan))[-1]
    bare = learner(stream).model
    for i, experience in enumerate(stream):
        open_ = stream.classes[: i + 1].any(0)
        optimizer = SGD(0.1)(bare.parameters())
        for epoch in range(2):
            order = torch.randperm(120, generator=Rng(0, i, "epoch", epoch)["order"])
            for index in order.split(50):
                x, y, _ = experience.train.samples(index)
                each = F.cross_entropy(bare(x).masked_fill(~open_, -1e9), y, reduction="none")
                optimizer.zero_grad()
                (each.sum() / len(y)).backward()
                optimizer.step()
    assert same(last.checkpoint["model"], dict(bare.state_dict()))


def test_an_optimizer_that_is_kept_lives_through_the_stream_and_through_a_kill():
    stream, plan = blobs(tasks=3, protocol="class"), Plan(epochs=1, batch_size=40)

    def one(keep):
        torch.manual_seed(0)
        return Learner(model("mlp(32)").build((16,), 6), Adam(0.01, keep=keep), Rng(0))

    bare, kept = one(True).model, list(learn(stream, one(True), Naive(), plan))
    optimizer = Adam(0.01)(bare.parameters())
    for i, experience in enumerate(stream):
        open_ = stream.classes[: i + 1].any(0)
        for index in torch.randperm(120, generator=Rng(0, i, "epoch", 0)["order"]).split(40):
            x, y, _ = experience.train.samples(index)
            each = F.cross_entropy(bare(x).masked_fill(~open_, -1e9), y, reduction="none")
            optimizer.zero_grad()
            (each.sum() / len(y)).backward()
            optimizer.step()
    assert same(kept[-1].checkpoint["model"], dict(bare.state_dict()))
    again = list(learn(stream, one(True), Naive(), plan, kept[0].checkpoint))
    assert same(again[-1].checkpoint, kept[-1].checkpoint)
    assert not same(
        kept[-1].checkpoint["model"], list(learn(stream, one(False), Naive(), plan))[-1].checkpoint["model"]
    )


def test_steps_instead_of_epochs():
    stream, seen = blobs(tasks=1), []

    class Spy(Naive):
        def augment(self, learner, batch, state):
            seen.append(len(batch.y))
            return batch

    list(learn(stream, learner(stream), Spy(), Plan(epochs=9, batch_size=50, steps=7)))
    assert seen == [50, 50, 20, 50, 50, 20, 50]


def test_a_lone_last_sample_joins_the_batch_before_it():
    stream, seen = blobs(tasks=1, n=121), []

    class Spy(Naive):
        def augment(self, learner, batch, state):
            seen.append(len(batch.y))
            return batch

    list(learn(stream, learner(stream), Spy(), Plan(batch_size=40)))
    assert seen == [40, 40, 41]


def test_every_epoch_meets_every_sample_once_in_another_order():
    stream, seen = blobs(tasks=1), []

    class Spy(Naive):
        def augment(self, learner, batch, state):
            seen.append(batch.x)
            return batch

    list(learn(stream, learner(stream), Spy(), Plan(epochs=2, batch_size=120)))
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0].sum(1).sort().values, seen[1].sum(1).sort().values)


def test_two_strategies_meet_the_same_batches():
    """Another consumer of random numbers never shifts the order."""
    stream = blobs(tasks=2)

    class Spy(Naive):
        def augment(self, learner, batch, state):
            met.append(batch.y)
            return batch

    class Noisy(Naive):
        def augment(self, learner, batch, state):
            torch.rand(7, generator=learner.rng["noisy"])
            return batch

    runs = []
    for spying in (Spy(), Noisy() + Spy()):
        met: list = []
        list(learn(stream, learner(stream), spying, Plan()))
        runs.append(met)
    assert same(*runs)


def test_the_chain_keeps_the_written_order():
    stream = blobs(tasks=1)

    class Add(Strategy):
        def __init__(self, by):
            self.by = by

        def augment(self, learner, batch, state):
            return batch._replace(x=batch.x * 2 + self.by)

        def steer(self, learner, grads, state):
            return {k: g * 2 + self.by for k, g in grads.items()}

    chain, one = Add(1) + Add(5), learner(stream)
    assert isinstance(chain, Chain)
    batch = stream[0].train.batch(torch.arange(3))
    torch.testing.assert_close(chain.augment(one, batch, ({}, {})).x, batch.x * 4 + 7)
    assert chain.steer(one, {"w": torch.ones(1)}, ({}, {}))["w"] == 11


def test_accuracy_covers_what_makes_sense_to_test():
    for protocol, lengths in (("class", [1, 2, 3]), ("task", [3, 3, 3]), ("domain", [3, 3, 3])):
        stream = blobs(protocol=protocol)
        stones = list(learn(stream, learner(stream), Naive(), Plan()))
        assert [len(s.accuracy) for s in stones] == lengths
        assert len(stones[0].baseline) == lengths[0]


def test_a_diverged_run_says_where():
    stream = blobs(tasks=2)

    class Explodes(Naive):
        def penalty(self, learner, batch, outputs, state):
            now = learner.rng.key == (0, 1, "step", 5)
            return torch.tensor(float("nan")) if now else 0.0

    stones = learn(stream, learner(stream), Explodes(), Plan(epochs=4, batch_size=60))
    assert isinstance(next(stones), Milestone)
    with pytest.raises(Diverged, match="loss became nan at experience 1, epoch 2, step 5 of the experience; a smaller"):
        next(stones)


def test_no_bookmark_is_made_of_a_diverged_run():
    stream = blobs(tasks=1)
    stones = learn(stream, learner(stream, lr=1e38), Naive(), Plan(epochs=20), due=lambda: True)
    with pytest.raises(Diverged, match="experience 0"):
        for stone in itertools.islice(stones, 20):
            assert isinstance(stone, Bookmark)
            assert all(v.isfinite().all() for v in stone.checkpoint["model"].values())


def test_a_bookmark_is_not_touched_by_later_steps():
    stream = blobs(tasks=1)
    momentum = learner(stream)
    momentum.optimizer = SGD(0.1, momentum=0.9)
    stones = learn(stream, momentum, Naive(), Plan(epochs=3, batch_size=20), due=lambda: True)
    first = next(stones)
    kept = [v.clone() for v in (*first.checkpoint["model"].values(), first.checkpoint["losses"])]
    buffers = [s["momentum_buffer"].clone() for s in first.checkpoint["optimizer"]["state"].values()]
    list(stones)
    assert same(kept, [*first.checkpoint["model"].values(), first.checkpoint["losses"]])
    assert same(buffers, [s["momentum_buffer"] for s in first.checkpoint["optimizer"]["state"].values()])


def test_a_plan_refuses_nonsense():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Plan(batch_size=0)


def test_random_streams_are_named():
    root = Rng(3)
    assert root.fold(1)["a"].initial_seed() == Rng(3, 1)["a"].initial_seed()
    seeds = {r[n].initial_seed() for r in (root, root.fold(1), root.fold("1"), Rng(4)) for n in "ab"}
    assert len(seeds) == 8


def test_a_regulariser_alone_on_a_class_incremental_stream_warns():
    stream = blobs(tasks=2, protocol="class")
    with pytest.warns(Caution, match=r"never sees classes of different experiences together.*rehearsal\(500\)"):
        next(iter(learn(stream, learner(stream), EWC(1.0), Plan())))


@pytest.mark.parametrize(
    "text", ["naive", "rehearsal(30)", "lwf", "ewc(10, samples=64)", "free_adversarial(replays=2)"]
)
def test_a_batch_in_parts_is_the_whole_batch_but_for_rounding(text):
    torch.set_default_dtype(torch.float64)
    try:
        stream, models = blobs(n=50, protocol="class"), []
        for parts in (1, 3):
            plan = Plan(epochs=2, batch_size=20, accumulate=parts)
            models.append(list(learn(stream, learner(stream), strategy(text), plan))[-1].checkpoint["model"])
    finally:
        torch.set_default_dtype(torch.float32)
    assert near(models[0], models[1], 1e-10) and not same(models[0], models[1])


def test_attacked_and_clean_samples_are_not_normalised_apart_in_parts():
    stream = blobs()
    one = Learner(nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 6)), SGD(0.1), Rng(0))
    with pytest.raises(ValueError, match="needs whole batches"):
        list(learn(stream, one, strategy("adversarial(pgd(steps=1))"), Plan(accumulate=2)))


def test_bfloat16_is_of_what_layers_multiply_and_of_nothing_that_is_kept():
    stream, plan = blobs(protocol="task"), Plan(epochs=3, batch_size=20, precision="bfloat16")
    half, full = (
        list(learn(stream, learner(stream), strategy("ewc(10)"), p))[-1]
        for p in (plan, replace(plan, precision="float32"))
    )
    assert all(v.dtype == torch.float32 for v in half.checkpoint["model"].values())
    assert all(v.dtype == torch.float32 for v in half.checkpoint["strategy"]["importance"].values())
    assert not same(half.checkpoint["model"], full.checkpoint["model"])
    assert near(half.checkpoint["model"], full.checkpoint["model"], 0.05)
    assert half.accuracy == pytest.approx(full.accuracy, abs=0.05)
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bfloat16', got 'float8'"):
        Plan(precision="float8")

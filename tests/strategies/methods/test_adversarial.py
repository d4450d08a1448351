"""Adversarial training: what is attacked, how hard, through which statistics, and what the gradient does not see."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import perdure
from perdure.strategies.attacks.pgd import FGSM, PGD
from perdure.strategies.learner import Learner
from perdure.strategies.methods.adversarial import (
    AdversarialTraining,
    FreeAdversarialTraining,
    Trades,
    attacked,
    divergence,
)
from perdure.strategies.names import strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.strategies.training.plan import Plan
from perdure.testing.streams import blobs

from ..learners import around, batch_of, experience, learner


def test_the_gradient_does_not_flow_through_the_attack():
    """That of the loss at the attacked samples, held fixed: not that of the attack's own dependence on the weights."""
    stream = blobs(tasks=1)
    one, batch = learner(stream), batch_of(stream[0])
    stage = AdversarialTraining(PGD(0.1, 3), share=1)
    moved = stage.augment(one, batch, {})
    assert not moved.x.requires_grad and not torch.equal(moved.x, batch.x)
    one.loss(one.outputs(moved.x, moved.task), moved).backward()
    fixed = {k: p.grad.clone() for k, p in one.params.items()}
    one.model.zero_grad()
    one.loss(one.outputs(moved.x.clone().detach(), batch.task), batch).backward()
    assert all(torch.equal(p.grad, fixed[k]) for k, p in one.params.items())


def test_a_share_is_attacked_within_eps_and_raises_the_loss():
    stream = blobs(tasks=1)
    one, batch = learner(stream), batch_of(stream[0])
    for share, count in ((0.25, 30), (0.5, 60), (1, 120)):
        moved = AdversarialTraining(PGD(0.9, 5), eps=0.05, share=share).augment(one, batch, {})
        changed = (moved.x != batch.x).any(1)
        assert changed.sum() == count and (moved.x - batch.x).abs().max() <= 0.05 + 1e-6
        assert moved.x.min() >= 0 and moved.x.max() <= 1 and torch.equal(moved.y, batch.y)
        assert one.loss(one.outputs(moved.x, moved.task), moved) > one.loss(one.outputs(batch.x, batch.task), batch)
    assert one.model.training


def test_samples_that_are_fooled_already_are_pushed_on():
    stream = blobs(tasks=1)
    one, batch = learner(stream), batch_of(stream[0])
    rows = torch.arange(len(batch.y))
    z = attacked(one, batch, rows, PGD(0.3, 10, random=False))
    there = one.logits(z, batch.task).argmax(1) != batch.y
    got = perdure.attack(lambda x: one.logits(x, batch.task[: len(x)]), batch.x, batch.y, PGD(0.3, 10, random=False))
    losses = [F.cross_entropy(one.logits(x, batch.task), batch.y, reduction="none") for x in (z, got.x)]
    both = there & got.fooled
    assert both.any() and losses[0][both].mean() > losses[1][both].mean() + 0.01


def test_eps_grows_over_the_warm_up():
    stream = blobs(tasks=1)
    one, batch = learner(stream), batch_of(stream[0])
    stage = AdversarialTraining(FGSM(step=0.1), eps=0.1, share=1, warmup=0.5)
    sizes = []
    for one.progress in (0.1, 0.25, 0.5, 0.9):
        sizes.append((stage.augment(one, batch, {}).x - batch.x).abs().max().item())
    assert sizes == pytest.approx([0.02, 0.05, 0.1, 0.1], abs=1e-6)


def test_after_rehearsal_it_attacks_memories_too():
    stream = blobs(protocol="domain")
    for text, memories in (
        ("rehearsal(40) + adversarial(share=1)", True),
        ("adversarial(share=1) + rehearsal(40)", False),
    ):
        one, chain = learner(stream), strategy(text)
        one.rng = Rng(0)
        state = chain.consolidate(one, stream[0], chain.init(one))
        kept = state[0] if memories else state[1]
        batch = chain.augment(one, batch_of(stream[1]), state)
        past = batch.x[120:]
        same = (past[:, None] == kept["x"][None]).all(2).any(1)
        assert len(past) == 120 and bool(same.any()) is not memories and bool(same.all()) is not memories
        assert not (batch.x[:120] == batch_of(stream[1]).x).all(1).any()


def norms(dim=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(dim, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def test_batch_statistics_of_attacked_samples_are_kept_apart():
    torch.manual_seed(0)
    one = around(norms())
    batch = batch_of(experience(torch.rand(40, 4), torch.arange(40) % 3))
    stage = AdversarialTraining(PGD(0.5, 3), share=0.5)
    stage.init(one)
    one.scratch.clear()
    moved = stage.augment(one, batch, {})
    mask = (moved.x != batch.x).any(1)
    extra = torch.cat([moved.x, torch.rand(10, 4)])  # a later stage's samples: clean
    out = one.outputs(extra, torch.zeros(50, dtype=torch.int64))
    flat = one.model[1](extra)
    clean = torch.cat([~mask, torch.ones(10, dtype=torch.bool)])
    torch.testing.assert_close(one.model[2].running_mean, 0.1 * flat[clean].mean(0))
    plain = torch.empty(50, 3)
    for rows in (clean, ~clean):
        part = flat[rows]
        unit = (part - part.mean(0)) / (part.var(0, unbiased=False) + 1e-5).sqrt()
        plain[rows] = one.model[4](unit.relu())
    torch.testing.assert_close(out, plain)
    again = one.outputs(extra, torch.zeros(50, dtype=torch.int64))  # no part of the step's own pass: as ever
    assert not torch.allclose(again, plain)


def test_free_training_moves_samples_by_the_step_before():
    """Replays of a batch in a row, each moved by the sign of the gradient that the one before has left."""
    seen = []

    class Seeing(nn.Linear):
        def forward(self, x):
            if x.requires_grad:
                seen.append(x)
            return super().forward(x)

    torch.manual_seed(0)
    one = Learner(nn.Sequential(Seeing(16, 6)), SGD(0.1), Rng(0))
    stage = FreeAdversarialTraining(eps=0.1, replays=3)
    list(learn(blobs(), one, stage, Plan(epochs=3, batch_size=40)))
    assert len(seen) == 27  # as many steps as without replays, of 120 samples in batches of 40, 3 tasks
    for first in range(0, 27, 3):
        a, b, c = seen[first : first + 3]
        for before, after in ((a, b), (b, c)):
            assert (after - before).abs().max() <= 0.2 + 1e-6
            rise = ((after - before) * before.grad.sign())[(after > 0) & (after < 1)]
            assert rise.min() >= -1e-6 and rise.max() > 0.05
    assert all((x - y).abs().max() > 0.3 for x, y in zip(seen[2::3], seen[3::3], strict=False))  # another batch


def test_trades_is_its_plain_form():
    stream = blobs(tasks=1)
    one, batch = learner(stream), batch_of(stream[0])
    stage = Trades(PGD(0.1, 4), beta=2)
    outputs = one.outputs(batch.x, batch.task)
    got = stage.penalty(one, batch, outputs, {})
    x, noise = batch.x, stage._moved(one, batch)
    p, q = one.logits(x, batch.task).softmax(1), one.logits(noise, batch.task).softmax(1)
    plain = 2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-6)
    assert (noise - x).abs().max() <= 0.1 + 1e-6
    nudged = x + 0.1 * torch.rand_like(x).sub(0.5).sign()
    assert plain > 2 * 2 * divergence(one.logits(x, batch.task), one.logits(nudged, batch.task)).mean()
    got.backward()
    assert all(p.grad.abs().sum() > 0 for p in one.params.values())


def test_training_makes_robust():
    """On one task: what is learned with attacks stands more of them."""
    stream, robust = blobs(tasks=1, classes=4, n=240, protocol="domain", seed=3), {}
    for text in ("naive", "adversarial(pgd(steps=5), eps=0.2)", "adversarial(fgsm(random=True), eps=0.2, share=1)",
                 "free_adversarial(0.2)", "trades(pgd(steps=5), eps=0.2)"):  # fmt: skip
        one = learner(stream, text="mlp(64)")
        one.optimizer = Adam(0.003)
        list(learn(stream, one, strategy(text), Plan(epochs=60, batch_size=40)))
        test = stream[0].test.everything()
        robust[text] = perdure.attack(one.model, test.x, test.y, "pgd(0.2, steps=20)").robust_accuracy
    assert min(v for k, v in robust.items() if k != "naive") > robust["naive"] + 0.05, robust


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adversarial(share=0)", "expected share in \\(0, 1\\]"),
        ("adversarial(eps=-1)", "eps must not be negative"),
        ("adversarial(cw, eps=0.1)", "CW has no eps to set"),
        ("adversarial(rehearsal(3))", "attack must be a Attack"),
        ("trades(cw)", "attack must be a PGD"),
        ("trades(beta=-1)", "beta must not be negative"),
        ("free_adversarial(replays=0)", "replays must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        strategy(text)


def test_samples_that_lie_in_no_box_are_refused():
    whole = experience(torch.randn(10, 4), torch.arange(10) % 2)
    from perdure.streams.experience import Stream

    stream = Stream([whole], torch.ones(1, 2, dtype=torch.bool), "domain")
    for text in ("adversarial", "trades", "free_adversarial"):
        with pytest.raises(ValueError, match="attacks keep samples in \\[0, 1\\]"):
            list(learn(stream, learner(stream), strategy(text), Plan()))
    with pytest.raises(ValueError, match="for images"):
        list(learn(blobs(), learner(blobs()), strategy("adversarial(one_pixel)"), Plan()))


def test_warnings_are_none_in_training():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(learn(blobs(protocol="task"), learner(blobs()), strategy("adversarial"), Plan(steps=2)))

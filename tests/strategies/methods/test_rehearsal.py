"""Memories of samples: how many, which, and what is done with them."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from perdure.strategies.blocks.features import features
from perdure.strategies.blocks.selection import gradient_matching, herding, k_centre
from perdure.strategies.methods.dataset_distillation import Distilled
from perdure.strategies.methods.der import DER
from perdure.strategies.methods.icarl import ICaRL
from perdure.strategies.methods.rehearsal import Rehearsal
from perdure.strategies.names import strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places
from perdure.testing.streams import blobs

from ..learners import around, batch_of, experience, labelled, learner, moved


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


@pytest.mark.parametrize("selection", ["herding", "k_centre", "gradient"])
def test_every_selection_keeps_the_quotas_and_no_sample_twice(selection):
    stream, state = blobs(tasks=3, protocol="class", classes=3, n=60), {}
    one, method = learner(stream), Rehearsal(20, selection)
    for whole in stream:
        state = method.consolidate(one, whole, state)
    assert sorted(state["y"].bincount().tolist()) == [2] * 7 + [3] * 2
    assert len(state["x"].unique(dim=0)) == 20


def test_herding_is_greedy_for_the_mean():
    vectors = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    unit = F.normalize(vectors)
    chosen: list[int] = []
    for _ in range(12):
        rest = [i for i in range(30) if i not in chosen]
        chosen.append(min(rest, key=lambda i: (unit.mean(0) - unit[[*chosen, i]].mean(0)).norm().item()))
    assert herding(vectors, 12).tolist() == chosen


def test_gradient_matching_is_greedy_for_the_mean_gradient_of_the_head():
    torch.manual_seed(0)
    head, features, y = nn.Linear(6, 3).double(), torch.randn(25, 6).double(), torch.arange(25) % 3
    gradients = []
    for f, label in zip(features, y, strict=True):
        loss = F.cross_entropy(head(f[None]), label[None])
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(head.parameters()))]))
    all_of = torch.stack(gradients)
    chosen: list[int] = []
    for _ in range(10):
        rest = [i for i in range(25) if i not in chosen]
        chosen.append(min(rest, key=lambda i: (all_of.mean(0) - all_of[[*chosen, i]].mean(0)).norm().item()))
    errors = (head(features).softmax(1) - F.one_hot(y, 3)).detach()
    assert gradient_matching(errors, features, 10).tolist() == chosen


def test_k_centre_covers_within_twice_the_best():
    points = torch.randn(14, 2, generator=torch.Generator().manual_seed(0))
    between = torch.cdist(points, points)

    def reach(centres):
        return between[:, list(centres)].min(1).values.max()

    chosen = k_centre(points, 4)
    assert chosen[0] == (points - points.mean(0)).norm(dim=1).argmin()
    for n in range(1, 4):
        assert chosen[n] == between[:, chosen[:n]].min(1).values.argmax()
    assert reach(chosen.tolist()) <= 2 * min(reach(c) for c in combinations(range(14), 4))


def off(images, real, nets=20):
    """|mean f(images) - mean f(real)|², mean over random networks that nobody has met; relative."""
    torch.manual_seed(5)
    total = 0.0
    for _ in range(nets):
        net = nn.Sequential(nn.Linear(real.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        total += ((net(images).mean(0) - net(real).mean(0)).square().sum() / net(real).mean(0).square().sum()).item()
    return total / nets


def test_random_networks_see_a_classs_mean_in_learned_images():
    stream = blobs(tasks=1, protocol="class", classes=3, n=300)
    one, train = learner(stream), batch_of(stream[0])
    start = Distilled(6, steps=0).consolidate(one, stream[0], {})
    one.rng = Rng(0)
    learned = Distilled(6, steps=100).consolidate(one, stream[0], {})
    assert torch.equal(start["y"], learned["y"]) and len(learned["x"]) == 6
    for c in range(3):
        begun, made = (off(memory["x"][memory["y"] == c], train.x[train.y == c]) for memory in (start, learned))
        assert made < 0.2 * begun


def test_learned_images_that_make_room_stand_for_all_that_were_there():
    """And where none has to go, all stay as they were, to the bit."""
    stream, sizes = blobs(tasks=2, protocol="class", n=200), {}
    for steps in (0, 100):
        one, method = learner(stream), Distilled(8, steps=steps)
        first = Distilled(8, steps=0).consolidate(one, stream[0], {})
        one.rng = Rng(1)
        second = method.consolidate(one, stream[1], first)
        assert second["y"].bincount().tolist() == [2, 2, 2, 2]
        sizes[steps] = sum(off(second["x"][second["y"] == c], first["x"][first["y"] == c]) for c in (0, 1))
    assert sizes[100] < 0.2 * sizes[0]
    one.rng, wide = Rng(1), Distilled(300, steps=5)
    first = wide.consolidate(one, replace(stream[0], train=stream[0].train.part(torch.arange(20))), {})
    second = wide.consolidate(one, stream[1], first)
    assert torch.equal(second["x"][:20], first["x"])


def test_learned_images_give_every_experience_its_share_of_a_class():
    """Which is met again and again: uniformly, whenever its samples came."""
    x, counts = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(5)
    for seed in range(40):
        one, state, method = around(nn.Linear(16, 2)), {}, Distilled(10, steps=0)
        for i in range(5):
            one.rng = Rng(seed).fold(i)
            state = method.consolidate(one, experience(x, torch.zeros(40, dtype=torch.int64), i), state)
        counts += state["task"].bincount(minlength=5)
    assert counts.sum() == 400 and ((counts - 80).square() / 80).sum() < 18.5  # χ² of 4 degrees, 0.1 %


def test_learned_images_teach_more_than_those_they_began_with_and_than_rehearsal():
    recipe = stream_recipe("split(digits, protocol='class')")
    stream, found = recipe.arrange(recipe.source().load(Places())), {}
    for text in ("distilled(20, steps=40)", "distilled(20, steps=0)", "rehearsal(20)"):
        ends = []
        for seed in range(2):
            one = learner(stream, seed, "mlp(64)")
            one.optimizer = Adam(1e-3)
            *_, last = learn(stream, one, strategy(text), Plan(steps=100, batch_size=32))
            ends.append(sum(last.accuracy) / len(last.accuracy))
        found[text] = sum(ends) / 2
    learned, start, real = found.values()
    assert learned > start + 0.05 and learned > real + 0.05


def test_learned_images_stay_images():
    x = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one = around(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    state, method = {}, Distilled(5, steps=3)
    for i in range(3):  # the same classes again: some of the new, some of the old, never more than asked
        state = method.consolidate(one, experience(x, torch.arange(40) % 2, i), state)
        assert state["x"].dtype == torch.uint8 and state["x"].shape == (5, 1, 4, 4)
    assert len(state["task"].unique()) > 1


def test_der_remembers_answers_and_is_drawn_back_to_them():
    stream = blobs(tasks=3, protocol="class")
    one, state, method = learner(stream), {}, DER(30, alpha=0.3, beta=0.7)
    answers = {}
    for i in range(2):
        one.heads = stream.heads(i)
        state = method.consolidate(one, stream[i], state)
        answers |= {tuple(x.tolist()): one.model(x[None])[0].detach() for x in batch_of(stream[i]).x}
        moved(one)
    assert {int(t) for t in state["task"]} == {0, 1} and len(state["y"]) == 30
    for x, z in zip(state["x"], state["outputs"], strict=True):
        torch.testing.assert_close(z, answers[tuple(x.tolist())])
    one.heads, batch = stream.heads(2), stream[2].train.batch(torch.arange(11))
    one.rng = Rng(7)
    got = method.penalty(one, batch, one.model(batch.x), state)
    first, second = (torch.randint(30, (11,), generator=g) for g in [Rng(7)["der"]] * 2)
    dark = (one.model(state["x"][first]) - state["outputs"][first]).square().mean()
    shut = one.model(state["x"][second]).masked_fill(~one.heads[state["task"][second]], -1e9)
    torch.testing.assert_close(got, 0.3 * dark + 0.7 * F.cross_entropy(shut, state["y"][second]))


def test_icarl_answers_with_the_nearest_mean_and_distils_the_classes_of_before():
    stream = blobs(tasks=3, protocol="class")
    one, state, method = learner(stream), {}, ICaRL(24, strength=0.5)
    for i in range(2):
        one.heads = stream.heads(i)
        state = method.consolidate(one, stream[i], state)
    memory, x = state["memory"], batch_of(stream[1]).x
    inside, _ = features(one, memory["x"], memory["task"])
    means = [F.normalize(F.normalize(inside[memory["y"] == c]).mean(0), dim=0) for c in range(4)]
    seen, outputs = features(one, x, batch_of(stream[1]).task)
    near = torch.stack([(F.normalize(seen) - m).norm(dim=1) for m in means]).argmin(0)
    answers = method.answer(one, batch_of(stream[1]), outputs, state)
    assert torch.equal(answers.argmax(1), near) and (answers[:, 4:] < -1e8).all()
    old = one.model(x).sigmoid().detach()
    moved(one)
    new = one.model(x)
    each = -(old * F.logsigmoid(new) + (1 - old) * F.logsigmoid(-new))[:, :4]
    got = method.penalty(one, batch_of(stream[1]), new, state)
    torch.testing.assert_close(got, 0.5 * each.sum(1).mean())

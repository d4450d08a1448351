"""The loop of meta-learning: it learns, resumes to the bit, and says where it cannot go on."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.meta.base import task_loss, weights_of
from perdure.strategies.meta.loop import MetaBookmark, MetaPlan, gradient_of, judge, meta_learn, never, one_part
from perdure.strategies.meta.maml import ANIL, MAML, MetaSGD, Reptile
from perdure.strategies.models.conv4 import Conv4
from perdure.strategies.numerics.divergence import Diverged
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import SGD, Adam
from perdure.streams.datasets.strokes import Strokes
from perdure.streams.episodes import FewShot, Sinusoid
from perdure.streams.storage.directories import Places


def net(width=40):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


def same(one, two):
    return all(torch.equal(v, two[k][n]) for k, part in one.items() for n, v in part.items())


def learned_by(learner, plan, optimizer=None, checkpoint=None, of=F.mse_loss, due=never, share=None):
    tasks = Sinusoid(10).tasks(Places())
    model = net()
    return meta_learn(
        tasks, model, task_loss(model, of), learner, optimizer or Adam(1e-3), plan, Rng(0), checkpoint, due, share
    )


@pytest.mark.parametrize(
    ("learner", "optimizer", "below"),
    [
        (MAML(0.01), Adam(0.002), 0.55),
        (MAML(0.01, order=1), Adam(0.002), 0.6),
        (MetaSGD(0.01), Adam(0.002), 0.45),
        (ANIL(0.01), Adam(0.002), 0.7),
        (Reptile(0.02, 10), SGD(0.3), 0.7),
    ],
    ids=repr,
)
def test_adapting_takes_most_of_the_loss_off(learner, optimizer, below):
    *_, last = learned_by(learner, MetaPlan(1000, 10, 500), optimizer)
    before, after = last.judged["loss"]
    model, tasks = net(), Sinusoid(10).tasks(Places()).draw(200, torch.Generator().manual_seed(1))
    loss, weights = task_loss(model, F.mse_loss), weights_of(model)
    start = judge(MAML(learner.lr), loss, {"weights": weights}, tasks, [learner.steps], Rng(1))
    assert after < below * before and after < below * start["loss"][0].mean() and last.diverged == 0


@pytest.mark.parametrize("learner", [MAML(0.01, 2), MetaSGD(0.01), Reptile(0.02, 3)], ids=repr)
def test_a_run_that_goes_on_ends_with_the_same_bits(learner, tmp_path):
    plan = MetaPlan(30, 4, 10, 20)
    whole = list(learned_by(learner, plan))
    torch.save(whole[1].checkpoint, tmp_path / "state.pt")
    (last,) = learned_by(learner, plan, checkpoint=torch.load(tmp_path / "state.pt", weights_only=True))
    assert [m.iteration for m in whole] == [10, 20, 30] and last.iteration == 30
    assert same(last.checkpoint["learned"], whole[-1].checkpoint["learned"])
    assert (last.loss, last.judged) == (whole[-1].loss, whole[-1].judged)
    assert not same(whole[0].checkpoint["learned"], whole[1].checkpoint["learned"])


def test_a_bookmark_between_milestones_changes_nothing_and_is_gone_on_from(tmp_path):
    plan, calls = MetaPlan(12, 4, 6, 20), iter(range(100))
    whole = list(learned_by(MAML(0.01), plan))
    marked = list(learned_by(MAML(0.01), plan, due=lambda: next(calls) % 2 == 1))
    marks = [m for m in marked if isinstance(m, MetaBookmark)]
    assert [m.iteration for m in marks] == [2, 4, 7, 9, 11]
    for mark, left in ((marks[1], 2), (marks[3], 1)):
        torch.save(mark.checkpoint, tmp_path / "state.pt")
        rest = list(learned_by(MAML(0.01), plan, checkpoint=torch.load(tmp_path / "state.pt", weights_only=True)))
        assert len(rest) == left and (rest[0].loss, rest[0].judged) == (whole[-left].loss, whole[-left].judged)
        assert same(rest[-1].checkpoint["learned"], whole[-1].checkpoint["learned"])


def test_whoever_reckons_the_parts_the_bits_are_the_same():
    model, learner = net(), MAML(0.01)

    def backwards(learned, parts, rng):
        gradient = gradient_of(learner, task_loss(model, F.mse_loss))
        told = [one_part(gradient, learned, parts[n], rng, n) for n in reversed(range(len(parts)))]
        return told[::-1]

    plan = MetaPlan(10, 5, 10, 20, parts=3)
    (one,), (two,), (whole,) = (
        learned_by(learner, p, share=s) for p, s in ((plan, None), (plan, backwards), (MetaPlan(10, 5, 10, 20), None))
    )
    assert same(one.checkpoint["learned"], two.checkpoint["learned"])
    for k, v in whole.checkpoint["learned"]["weights"].items():
        assert torch.allclose(one.checkpoint["learned"]["weights"][k], v, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="4 tasks do not fall into 5 parts"):
        MetaPlan(10, 4, parts=5)


def test_compiled_gradients_are_the_same_to_rounding_and_resume_to_the_bit():
    (plain,), compiled = (
        list(learned_by(MAML(0.01), p)) for p in (MetaPlan(6, 4, 6, 20), MetaPlan(6, 4, 3, 20, 1, True))
    )
    for k, v in plain.checkpoint["learned"]["weights"].items():
        assert torch.allclose(compiled[-1].checkpoint["learned"]["weights"][k], v, rtol=1e-4, atol=1e-6)
    (again,) = learned_by(MAML(0.01), MetaPlan(6, 4, 3, 20, 1, True), checkpoint=compiled[0].checkpoint)
    assert same(again.checkpoint["learned"], compiled[-1].checkpoint["learned"])
    with pytest.raises(ValueError, match="one after the other"):
        gradient_of(MAML(), task_loss(Conv4(4).build((1, 28, 28), 5), F.cross_entropy, 5), compiled=True)


def test_few_shots_of_unknown_characters_are_told_apart():
    tasks = FewShot(Strokes(60, 20), ways=5, shots=5, queries=5).tasks(Places())
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16, track_running_stats=False), nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 49, 5),
    )  # fmt: skip
    learner = MAML(0.1, 2, 1)
    loss = task_loss(model, F.cross_entropy, 5)
    *_, last = meta_learn(tasks, model, loss, learner, Adam(2e-3), MetaPlan(150, 4, 150, 40), Rng(0))
    drawn = tasks.draw(50, torch.Generator().manual_seed(5), "test")
    told = judge(learner, loss, last.checkpoint["learned"], drawn, [0, 2], Rng(1))
    accuracy = [a.mean().item() for a in told["accuracy"]]
    assert accuracy[0] < 0.35 and accuracy[1] > 0.75 and last.judged["accuracy"][1] > 0.75


def test_the_model_that_is_given_stays_as_it_was():
    model = net()
    before = weights_of(model)
    loss = task_loss(model, F.mse_loss)
    list(meta_learn(Sinusoid().tasks(Places()), model, loss, MAML(), Adam(), MetaPlan(3, 2, 3, 5), Rng(0)))
    assert all(torch.equal(before[k], v) for k, v in model.named_parameters())


def test_where_every_task_diverges_the_inner_rate_is_named():
    with pytest.raises(Diverged, match="iteration 0: the loss of all 4 tasks is not finite after 40 steps.*lr=50"):
        list(learned_by(MAML(50.0, 40), MetaPlan(10, 4, 5)))


@pytest.mark.parametrize("name", ["iterations", "batch", "every", "judged", "parts"])
def test_plans_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        MetaPlan(**{name: 0})

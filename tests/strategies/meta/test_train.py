"""The loop of meta-learning: it learns, resumes to the bit, and says where it cannot go on."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.finite import Diverged
from perdure.strategies.meta.base import weights_of
from perdure.strategies.meta.maml import ANIL, MAML, MetaSGD, Reptile
from perdure.strategies.meta.train import MetaPlan, judge, meta_learn
from perdure.strategies.optimizers import SGD, Adam
from perdure.strategies.rng import Rng
from perdure.streams.episodes import FewShot, Sinusoid
from perdure.streams.places import Places
from perdure.streams.strokes import Strokes


def net(width=40):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


def same(one, two):
    return all(torch.equal(v, two[k][n]) for k, part in one.items() for n, v in part.items())


def learned_by(learner, plan, optimizer=None, checkpoint=None, of=F.mse_loss):
    tasks = Sinusoid(10).tasks(Places())
    return meta_learn(tasks, net(), of, learner, optimizer or Adam(1e-3), plan, Rng(0), checkpoint)


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
    start = judge(MAML(learner.lr), model, F.mse_loss, {"weights": weights_of(model)}, tasks, [learner.steps])
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


def test_few_shots_of_unknown_characters_are_told_apart():
    tasks = FewShot(Strokes(60, 20), ways=5, shots=5, queries=5).tasks(Places())
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16, track_running_stats=False), nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 49, 5),
    )  # fmt: skip
    learner = MAML(0.1, 2, 1)
    *_, last = meta_learn(tasks, model, F.cross_entropy, learner, Adam(2e-3), MetaPlan(150, 4, 150, 40), Rng(0))
    drawn = tasks.draw(50, torch.Generator().manual_seed(5), "test")
    told = judge(learner, model, F.cross_entropy, last.checkpoint["learned"], drawn, [0, 2])
    accuracy = [a.mean().item() for a in told["accuracy"]]
    assert accuracy[0] < 0.35 and accuracy[1] > 0.75 and last.judged["accuracy"][1] > 0.75


def test_the_model_that_is_given_stays_as_it_was():
    model = net()
    before = weights_of(model)
    list(meta_learn(Sinusoid().tasks(Places()), model, F.mse_loss, MAML(), Adam(), MetaPlan(3, 2, 3, 5), Rng(0)))
    assert all(torch.equal(before[k], v) for k, v in model.named_parameters())


def test_where_every_task_diverges_the_inner_rate_is_named():
    with pytest.raises(Diverged, match="iteration 0: the loss of all 4 tasks is not finite after 40 steps.*lr=50"):
        list(learned_by(MAML(50.0, 40), MetaPlan(10, 4, 5)))


@pytest.mark.parametrize("name", ["iterations", "batch", "every", "judged"])
def test_plans_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        MetaPlan(**{name: 0})

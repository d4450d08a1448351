"""What of a model is on, what moves and what does not, layer by layer, for every meta-learner."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.meta.base import task_loss, weights_of
from perdure.strategies.meta.batched_mlp import batched
from perdure.strategies.meta.loop import MetaPlan, gradient_of, judge, meta_learn
from perdure.strategies.meta.maml import ANIL, MAML
from perdure.strategies.meta.names import meta_learner
from perdure.strategies.models.mixed import Mixed
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import SGD, AdamW
from perdure.streams.episodes import Episodes, Sinusoid
from perdure.streams.storage.directories import Places

OF_VALUES = (
    "maml(0.05, 2)", "maml(0.05, 2, order=1)", "anil(0.05, 2)", "meta_sgd(0.05)", "scheduled_maml(0.05, 2)",
    "reptile(0.05, 2)", "learned_optimizer(0.1, 2)", "evolution(0.05, pairs=3)", "darts(0.05, 2)",
)  # fmt: skip
OF_IMAGES = ("protonets(4)", "meta_augmentation(0.1, 2)")


def waves(count=4):
    return Sinusoid(5, 7).tasks(Places()).draw(count, torch.Generator().manual_seed(0))


class Squares:
    """Images (1, 6, 6) of three classes that differ in their brightness."""

    shape, classes, phases = (1, 6, 6), 3, ("train",)

    def draw(self, count, chance, phase="train"):
        y = torch.arange(3).repeat(2).expand(count, 6)
        x, queries = (torch.rand((count, 6, 1, 6, 6), generator=chance) + y[..., None, None, None] for _ in range(2))
        return Episodes(x, y, queries, y)


def case(text):
    """Tasks, and a model with dropout whose first layer is frozen, as its normalisation with running statistics is."""
    torch.manual_seed(0)
    if text in OF_IMAGES:
        norm = nn.BatchNorm2d(3).requires_grad_(False)
        out = 4 if text.startswith("protonets") else 3
        first = [nn.Conv2d(1, 3, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(48, 8)]
        net = nn.Sequential(*first, nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, out))
        tasks, of, classes = Squares(), F.cross_entropy, 3
    else:
        net = Mixed((8, 8)).build((1,), 1) if text.startswith("darts") else _perceptron()
        tasks, of, classes = Sinusoid(5, 7).tasks(Places()), F.mse_loss, None
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    layers[0].requires_grad_(False)
    return net, tasks, task_loss(net, of, classes)


def _perceptron():
    net = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU())
    net[1].requires_grad_(False)
    net[1].running_mean.fill_(0.1)
    return net.append(nn.Linear(8, 1))


@pytest.mark.parametrize("text", [*OF_VALUES, *OF_IMAGES])
def test_frozen_layers_stay_and_tests_draw_nothing(text):
    net, tasks, loss = case(text)
    learner, before, still = meta_learner(text), deepcopy(net.state_dict()), dict(net.named_parameters())
    still = {k for k, p in still.items() if not p.requires_grad}
    optimizer = AdamW(0.05, weight_decay=0.5)
    *_, last = meta_learn(tasks, net, loss, learner, optimizer, MetaPlan(5, 4, 5, 5), Rng(0))
    learned = last.checkpoint["learned"]
    assert still and not still & set(learned["weights"])
    assert any(not torch.equal(v, before[k]) for k, v in learned["weights"].items())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    drawn = tasks.draw(4, torch.Generator().manual_seed(1))
    with loss.resting():
        own = learner.adapted(loss, learned, drawn.support_x[0], drawn.support_y[0])
    assert set(own) == set(learned["weights"])
    steps = [0, learner.steps] if learner.steps else [0]
    rngs = (Rng(1), Rng(2)) if text not in OF_IMAGES else (Rng(1), Rng(1))  # images are augmented by chance
    one, two = (judge(learner, loss, learned, drawn, steps, rng)["loss"] for rng in rngs)
    assert all(map(torch.equal, one, two))
    assert all(m.training for m in net.modules())


@pytest.mark.parametrize("text", [*OF_VALUES[:6], "evolution(0.05, pairs=3)"])
def test_dropout_is_on_while_meta_learning_whatever_mode_the_model_is_in(text):
    net, _, loss = case(text)
    learner = meta_learner(text)
    learned, drawn, told = learner.init(weights_of(net), torch.Generator()), waves(), []
    for mode, seed in ((True, 1), (False, 1), (True, 2)):
        net.train(mode)
        torch.manual_seed(seed)
        told.append(gradient_of(learner, loss)(learned, drawn).losses)
        assert all(m.training == mode for m in net.modules())
    assert torch.equal(told[0], told[1]) and not torch.equal(told[0], told[2])


@pytest.mark.parametrize("together", [True, False])
def test_test_tasks_are_adapted_to_and_asked_in_evaluation_mode(together):
    net, _, loss = case("maml")
    loss, drawn, weights = replace(loss, together=together), waves(), weights_of(net)
    told = judge(MAML(0.05), loss, {"weights": weights}, drawn, [3], Rng(0))["loss"][0]
    net.eval()
    for n, (x, y, queries, answers) in enumerate(zip(*drawn, strict=True)):
        plain = deepcopy(net)
        own = [p for p in plain.parameters() if p.requires_grad]
        for _ in range(3):
            slopes = torch.autograd.grad(F.mse_loss(plain(x), y), own)
            with torch.no_grad():
                for p, g in zip(own, slopes, strict=True):
                    p -= 0.05 * g
        torch.testing.assert_close(told[n], F.mse_loss(plain(queries), answers).detach())


@pytest.mark.parametrize("steps", [0, 3])
def test_a_test_task_comes_out_the_same_whatever_is_drawn(steps):
    """Of a model with dropout and nothing else that has modes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))
    loss, learned = task_loss(net, F.mse_loss), {"weights": weights_of(net)}
    one, two = (judge(MAML(0.05), loss, learned, waves(), [steps], Rng(seed))["loss"][0] for seed in (1, 2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("which", ["0.weight", "0.bias", "2.bias", "4.weight"])
def test_half_frozen_layers_go_together_as_one_after_the_other(which):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    net.get_parameter(which).requires_grad_(False)
    drawn = Episodes(*(part.double() for part in waves()))
    loss, learned = task_loss(net, F.mse_loss), {"weights": weights_of(net)}
    ways = loss, replace(loss, batched=None), replace(loss, together=False)
    assert loss.batched is not None and which not in learned["weights"]
    one, two, three = (MAML(0.1, 2).gradient(way, learned, drawn).gradient["weights"] for way in ways)
    for k, g in one.items():
        torch.testing.assert_close(g, two[k])
        torch.testing.assert_close(g, three[k])


def test_where_all_is_frozen_nothing_can_be_learned():
    with pytest.raises(ValueError, match="every weight of the model is frozen.*leave those of one layer"):
        weights_of(nn.Linear(1, 1).requires_grad_(False))
    with pytest.raises(ValueError, match="or freeze its weights"):
        weights_of(nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2)))


class HeadFirst(nn.Module):
    def __init__(self, functional=False):
        super().__init__()
        self.functional = functional
        self.scale = nn.Parameter(torch.ones(1))
        self.fc = nn.Linear(8, 1)
        self.body = nn.Linear(1, 8)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        hidden = self.body(self.scale * x).tanh()
        return F.linear(hidden, self.fc.weight, self.fc.bias) if self.functional else self.fc(hidden)


@pytest.mark.parametrize("functional", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_anil_moves_the_layer_that_is_used_last_wherever_it_is_defined(functional, together):
    torch.manual_seed(0)
    net, drawn = HeadFirst(functional), waves()
    loss, weights = replace(task_loss(net, F.mse_loss), together=together), weights_of(net)

    def moved(learner):
        there = learner.adapted(loss, {"weights": weights}, drawn.support_x[0], drawn.support_y[0])
        return [k for k, v in weights.items() if not torch.equal(there[k], v)]

    assert moved(ANIL(0.1)) == moved(ANIL(0.1, head="fc")) == ["fc.weight", "fc.bias"]
    assert moved(ANIL(0.1, head="body")) == ["body.weight", "body.bias"]
    assert moved(ANIL(0.1, head="scale")) == ["scale"]
    told = ANIL(0.1, 2).gradient(loss, {"weights": weights}, drawn).gradient["weights"]
    named = ANIL(0.1, 2, head="fc").gradient(loss, {"weights": weights}, drawn).gradient["weights"]
    assert all(torch.equal(g, named[k]) for k, g in told.items()) and told["unused.weight"].abs().max() == 0


def test_anil_moves_a_head_that_is_a_matrix_of_the_model_and_nothing_before_it():
    class Matrix(HeadFirst):
        def __init__(self):
            super().__init__()
            self.out = nn.Parameter(torch.ones(8, 1))

        def forward(self, x):
            return self.body(self.scale * x).tanh() @ self.out

    net, drawn = Matrix(), waves()
    weights = weights_of(net)
    there = ANIL(0.1).adapted(task_loss(net, F.mse_loss), {"weights": weights}, drawn.support_x[0], drawn.support_y[0])
    assert [k for k, v in weights.items() if not torch.equal(there[k], v)] == ["out"]


def test_a_head_that_is_not_there_or_frozen_is_refused():
    net = HeadFirst()
    learner = meta_learner("anil(head='boddy')")
    with pytest.raises(ValueError, match="no layer 'boddy' .*did you mean 'body'.*it has scale, fc, body, unused"):
        learner.init(weights_of(net), torch.Generator())
    net.fc.requires_grad_(False)
    with pytest.raises(ValueError, match=r"uses last, fc, is frozen.*as anil\(head="):
        ANIL().gradient(task_loss(net, F.mse_loss), {"weights": weights_of(net)}, waves())


def test_a_compiled_anil_knows_its_head():
    torch.manual_seed(0)
    net, drawn = HeadFirst(), waves()
    loss, learned = task_loss(net, F.mse_loss), {"weights": weights_of(net)}
    fast = gradient_of(ANIL(0.1, 2), loss, compiled=True)(learned, drawn).gradient["weights"]
    plain = gradient_of(ANIL(0.1, 2), loss)(learned, drawn).gradient["weights"]
    for k, g in plain.items():
        torch.testing.assert_close(fast[k], g, rtol=1e-4, atol=1e-6)


def test_a_layer_that_is_in_a_chain_twice_is_passed_twice():
    active, shared = nn.Tanh(), nn.Linear(3, 3)
    net = nn.Sequential(nn.Linear(1, 3), active, shared, active, shared, active, nn.Linear(3, 1)).double()
    known, x = batched(net), torch.randn(2, 5, 1, dtype=torch.float64)
    assert known is not None
    weights = {k: p.detach().expand(2, *p.shape) for k, p in net.named_parameters()}
    torch.testing.assert_close(known(weights, x), torch.stack([net(part) for part in x]))


def test_one_iteration_of_reptile_is_the_published_rule():
    torch.manual_seed(0)
    net, learner = nn.Linear(1, 1), meta_learner("reptile(0.1, 3)")
    tasks, plan, rng = Sinusoid(5, 5).tasks(Places()), MetaPlan(1, 4, 1, 5), Rng(0)
    drawn = tasks.draw(4, rng.fold("meta", 0)["tasks"])
    (last,) = meta_learn(tasks, net, task_loss(net, F.mse_loss), learner, SGD(0.7), plan, rng)
    there = []
    for sx, sy, qx, qy in zip(*drawn, strict=True):
        own, x, y = deepcopy(net), torch.cat([sx, qx]), torch.cat([sy, qy])
        for _ in range(3):
            slopes = torch.autograd.grad(F.mse_loss(own(x), y), list(own.parameters()))
            with torch.no_grad():
                for p, g in zip(own.parameters(), slopes, strict=True):
                    p -= 0.1 * g
        there.append(own.state_dict())
    for k, p in net.state_dict().items():
        expected = p + 0.7 * (torch.stack([one[k] for one in there]).mean(0) - p)
        torch.testing.assert_close(last.checkpoint["learned"]["weights"][k].detach(), expected)

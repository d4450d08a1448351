"""Meta-learners of other kinds than MAML, each against a plain form of its formula or a choice planted in the tasks."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.meta import names
from perdure.strategies.meta.augmentation import MetaAugmentation, augmented, magnitudes
from perdure.strategies.meta.base import task_loss, weights_of
from perdure.strategies.meta.darts import DARTS
from perdure.strategies.meta.evolution import EvolutionStrategies
from perdure.strategies.meta.learned_optimizer import LearnedOptimizer
from perdure.strategies.meta.loop import MetaPlan, judge, meta_learn
from perdure.strategies.meta.maml import MAML
from perdure.strategies.meta.prototypes import ProtoNets
from perdure.strategies.models.conv4 import Conv4
from perdure.strategies.models.mixed import Mixed, MixedConv4, Mixture, activations
from perdure.strategies.models.mlp import MLP
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import Adam
from perdure.streams.datasets.strokes import Strokes
from perdure.streams.episodes import Episodes, FewShot, Sinusoid
from perdure.streams.storage.directories import Places


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def built(recipe, shape, outputs):
    torch.manual_seed(0)
    return recipe.build(shape, outputs)


def characters(ways=5, shots=5, queries=5):
    return FewShot(Strokes(60, 20), ways, shots, queries).tasks(Places())


def learned_on(tasks, model, learner, plan, rate=2e-3):
    of = F.mse_loss if tasks.classes is None else F.cross_entropy
    loss = task_loss(model, of, tasks.classes)
    *_, last = meta_learn(tasks, model, loss, learner, Adam(rate), plan, Rng(0))
    return loss, last


def test_queries_go_to_the_nearest_prototype():
    tasks = characters(3, 2, 4).draw(2, chance())
    net, learner = built(MLP((16,)), (1, 28, 28), 8), ProtoNets(8)
    loss, weights = task_loss(net, F.cross_entropy, 3), weights_of(net)
    for t in range(2):
        sx, sy, qx, _ = (part[t] for part in tasks)
        means = torch.stack([net(sx)[sy == c].mean(0) for c in range(3)])
        plain = torch.stack([-((net(q[None])[0] - means) ** 2).sum(1) for q in qx])
        told = learner.answers(loss, {"weights": weights}, sx, sy, qx)
        torch.testing.assert_close(told, plain)
    told = learner.gradient(loss, {"weights": weights}, tasks)
    net.zero_grad()
    for t in range(2):
        sx, sy, qx, qy = (part[t] for part in tasks)
        means = torch.stack([net(sx)[sy == c].mean(0) for c in range(3)])
        (F.cross_entropy(-torch.cdist(net(qx), means).square(), qy) / 2).backward()
    for k, v in net.named_parameters():
        torch.testing.assert_close(told.gradient["weights"][k], v.grad, rtol=1e-3, atol=1e-6)


def test_prototypes_learn_characters_and_refuse_values():
    tasks = characters()
    _, last = learned_on(tasks, built(Conv4(16), (1, 28, 28), 32), ProtoNets(32), MetaPlan(60, 4, 60, 40))
    assert last.judged["accuracy"][0] > 0.8 and len(last.judged["accuracy"]) == 1
    assert ProtoNets(32).width(5, 5) == 32
    with pytest.raises(ValueError, match="prototypes are of classes"):
        ProtoNets().width(1, None)
    with pytest.raises(ValueError, match="embedding must be at least 1"):
        ProtoNets(0)


def test_evolution_strategies_estimate_the_gradient_of_maml():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).double()  # with ReLU a step jumps at every kink
    loss, weights = task_loss(net, F.mse_loss), weights_of(net)
    tasks = Episodes(*(part.double() for part in Sinusoid(5, 7).tasks(Places()).draw(3, chance())))
    true = MAML(0.05).gradient(loss, {"weights": weights}, tasks).gradient["weights"]
    torch.manual_seed(0)
    told = EvolutionStrategies(0.05, sigma=1e-3, pairs=4000).gradient(loss, {"weights": weights}, tasks)
    one, two = (torch.cat([g.flatten() for g in each.values()]) for each in (told.gradient["weights"], true))
    assert F.cosine_similarity(one, two, 0) > 0.98 and (one - two).norm() < 0.15 * two.norm()


class Sides:
    """Which side of a line through 0 points (2,) are on; lines differ by a quarter turn at most."""

    classes, phases = 2, ("train",)

    def draw(self, count, chance, phase="train"):
        x, angle = torch.randn((count, 30, 2), generator=chance), 1.5 * torch.rand((count, 1), generator=chance)
        y = (x[..., 0] * angle.cos() + x[..., 1] * angle.sin() > 0).long()
        return Episodes(x[:, :10], y[:, :10], x[:, 10:], y[:, 10:])


def test_evolution_strategies_follow_what_has_no_gradient():
    tasks, net = Sides(), built(MLP((8,)), (2,), 2)
    learner = EvolutionStrategies(0.1, 1, sigma=0.1, pairs=16, objective="error")
    loss, last = learned_on(tasks, net, learner, MetaPlan(60, 8, 60, 60), 3e-2)
    drawn = tasks.draw(200, chance(5))
    before, after = (
        judge(learner, loss, {"weights": w}, drawn, [1], Rng(0))["accuracy"][0].mean()
        for w in (weights_of(net), last.checkpoint["learned"]["weights"])
    )
    assert after > before + 0.1 and after > 0.75
    with pytest.raises(ValueError, match="counts wrong classes"):
        learner.width(1, None)
    with pytest.raises(ValueError, match="sigma > 0"):
        EvolutionStrategies(sigma=0.0)


def test_an_optimizer_is_learned_that_beats_gradient_descent():
    tasks, net = Sinusoid(10).tasks(Places()), built(MLP((20,)), (1,), 1)
    learner = LearnedOptimizer(steps=5, start=False)
    loss, last = learned_on(tasks, net, learner, MetaPlan(300, 8, 300, 100), 1e-2)
    drawn, learned = tasks.draw(200, chance(3)), last.checkpoint["learned"]
    own = judge(learner, loss, learned, drawn, [0, 5], Rng(0))["loss"]
    plain = min(
        judge(MAML(lr, 5), loss, {"weights": weights_of(net)}, drawn, [5], Rng(0))["loss"][0].mean()
        for lr in (0.01, 0.03, 0.1)
    )
    assert own[1].mean() < own[0].mean() and own[1].mean() < plain
    assert all(torch.equal(v, learned["weights"][k]) for k, v in weights_of(net).items())


def test_magnitudes_grow_where_tasks_need_them():
    """Queries that are turned by chance want a support that is turned; others want it as it is."""
    flat = characters(4, 4, 6)

    class Turned:
        def __init__(self, by):
            self.by, self.classes, self.phases = torch.tensor(by), 4, ("train",)

        def draw(self, count, chance, phase="train"):
            drawn, still = flat.draw(count, chance), {"zoom": torch.zeros(()), "shift": torch.zeros(())}
            x = augmented(drawn.query_x.flatten(0, 1), still | {"turn": self.by, "noise": torch.zeros(())})
            return drawn._replace(query_x=x.view_as(drawn.query_x))

    told = {}
    for by in (0.0, 0.7):
        net, learner = built(MLP((32,)), (1, 28, 28), 4), MetaAugmentation(0.2, 10, start=False)
        _, last = learned_on(Turned(by), net, learner, MetaPlan(60, 8, 60, 20), 0.1)
        told[by] = {k: v.item() for k, v in magnitudes(last.checkpoint["learned"]).items()}
    assert told[0.7]["turn"] > 0.3 and told[0.7]["turn"] > 2 * told[0.0]["turn"]
    assert all(told[0.7][k] < 0.1 for k in ("zoom", "shift", "noise"))


def test_augmentation_is_for_images():
    net = built(MLP((8,)), (1,), 1)
    x, y = torch.zeros(5, 1), torch.zeros(5, 1)
    learner = MetaAugmentation()
    with pytest.raises(ValueError, match="for images"):
        learner.adapted(task_loss(net, F.mse_loss), learner.init(weights_of(net), chance()), x, y)


def test_a_search_recovers_the_planted_operation():
    """Tasks that are sums of sines: of ReLU, tanh, sine and nothing, sine gets the most."""

    class Sines:
        classes, phases = None, ("train",)

        def draw(self, count, chance, phase="train"):
            x = 4 * torch.rand((count, 20, 2), generator=chance) - 2
            into = torch.randn((count, 2, 8), generator=chance)
            y = (2 * x @ into).sin() @ torch.randn((count, 8, 1), generator=chance) / 3
            return Episodes(x[:, :10], y[:, :10], x[:, 10:], y[:, 10:])

    net = built(Mixed((32,)), (2,), 1)
    _, last = learned_on(Sines(), net, DARTS(0.05, 3), MetaPlan(300, 16, 300, 50), 1e-2)
    found = Mixture(activations())
    found.load_state_dict({"mix": last.checkpoint["learned"]["weights"]["2.mix"]})
    shares = found.shares()
    assert max(shares, key=lambda k: shares[k]) == "sin" and shares["sin"] > 0.4


def test_a_search_leaves_the_mixture_alone_while_it_adapts():
    net = built(Mixed((8,)), (1,), 1)
    loss, learned = task_loss(net, F.mse_loss), {"weights": weights_of(net)}
    tasks = Sinusoid(5).tasks(Places()).draw(2, chance())
    there = DARTS(0.1, 2).adapted(loss, learned, tasks.support_x[0], tasks.support_y[0])
    assert torch.equal(there["2.mix"], learned["weights"]["2.mix"])
    assert not torch.equal(there["1.weight"], learned["weights"]["1.weight"])
    assert DARTS(0.1, 2).gradient(loss, learned, tasks).gradient["weights"]["2.mix"].abs().max() > 0
    with pytest.raises(ValueError, match="take a model that mixes some"):
        DARTS().init(weights_of(built(MLP((8,)), (1,), 1)), chance())


def test_blocks_mix_convolutions_each_normalised_for_itself():
    net, x = built(MixedConv4(3), (2, 16, 16), 5).double(), torch.rand(6, 2, 16, 16, generator=chance()).double()
    mixtures = [layer for layer in net if isinstance(layer, Mixture)]
    plain, rest = x, dict(net.state_dict())
    for i, mixture in enumerate(mixtures):
        mixture.mix.data = torch.randn(3, generator=chance(i)).double()
        each = []
        for size, (conv, _) in zip((1, 3, 5), mixture.operations.values(), strict=True):
            out = F.conv2d(plain, conv.weight, conv.bias, padding=(size - 1) // 2)
            mean, var = out.mean((0, 2, 3), keepdim=True), out.var((0, 2, 3), correction=0, keepdim=True)
            each.append((out - mean) / (var + 1e-5).sqrt())
        e = mixture.mix.exp()
        plain = sum(share * out for share, out in zip(e / e.sum(), each, strict=True))
        plain = F.max_pool2d((rest[f"{4 * i + 1}.weight"][:, None, None] * plain).relu(), 2)
    head = list(net)[-1]
    torch.testing.assert_close(net(x), plain.flatten(1) @ head.weight.T + head.bias)
    assert len(mixtures) == 4 and list(mixtures[0].shares()) == ["1 x 1", "3 x 3", "5 x 5"]


def test_the_mixture_of_convolutions_is_learned_by_the_queries():
    net = built(MixedConv4(3), (1, 28, 28), 3).double()
    loss, learned = task_loss(net, F.cross_entropy, 3), {"weights": weights_of(net)}
    drawn = characters(3, 2, 2).draw(2, chance())
    tasks = Episodes(drawn.support_x.double(), drawn.support_y, drawn.query_x.double(), drawn.query_y)
    learner = DARTS(0.4, 2)
    told = learner.gradient(loss, learned, tasks).gradient["weights"]

    def at(name, i, by):
        moved = learned["weights"][name].clone()
        moved[i] += by
        return learner.gradient(loss, {"weights": learned["weights"] | {name: moved}}, tasks).losses.mean().item()

    for name in (f"{4 * block}.mix" for block in range(4)):
        for i in range(3):
            slope = (at(name, i, 1e-5) - at(name, i, -1e-5)) / 2e-5
            assert told[name][i].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(
    "text, peer",
    [
        ("cross_entropy(0.2)", nn.CrossEntropyLoss(label_smoothing=0.2)),
        ("squared_error", nn.MSELoss()),
        ("absolute_error", nn.L1Loss()),
        ("huber(0.7)", nn.HuberLoss(delta=0.7)),
    ],
)
def test_losses_are_torchs(text, peer):
    of, outputs = names.loss(text), torch.randn(3, 9, 4, generator=chance())
    y = torch.randint(4, (3, 9), generator=chance()) if of.of_classes else torch.randn(3, 9, 4, generator=chance(1))
    torch.testing.assert_close(torch.vmap(of)(outputs, y), torch.stack([*map(peer, outputs, y)]))
    for wrong in ("cross_entropy(1)", "huber(0)"):
        with pytest.raises(ValueError, match="must be"):
            names.loss(wrong)


def test_conv4_is_exact_together_with_its_normalisation():
    net = built(Conv4(4), (1, 28, 28), 3).double()
    loss, learned = task_loss(net, F.cross_entropy, 3), {"weights": weights_of(net)}
    drawn = characters(3, 2, 2).draw(3, chance())
    tasks = Episodes(drawn.support_x.double(), drawn.support_y, drawn.query_x.double(), drawn.query_y)
    one, two = (MAML(0.4, 2).gradient(replace(loss, together=how), learned, tasks).gradient for how in (True, False))
    for k, g in one["weights"].items():
        torch.testing.assert_close(g, two["weights"][k], rtol=1e-7, atol=1e-10)
    assert isinstance(net[1], nn.BatchNorm2d) and not loss.together

"""Poison with right labels, and what finds it."""

import pytest
import torch
import torch.nn.functional as F

from perdure.strategies.learner import Learner
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import generator, pixels
from perdure.streams.poisoning.clean_label import _cosine
from perdure.streams.poisoning.defence import spectral
from perdure.streams.poisoning.surrogate import fitted

from .test_poisoned import loaded


@pytest.mark.parametrize(
    "text",
    [
        "collided(split(digits), of=3, target=2, share=0.2, steps=20)",
        "matched(split(digits), of=2, target=3, share=0.2, steps=3, eps=0.1)",
        "matched(permuted(digits, 2, protocol='domain'), of=2, target=3, share=0.2, steps=3, at=(1,))",
    ],
)
def test_what_changed_is_what_the_receipt_says_and_labels_stay(text):
    recipe, dataset, stream = loaded(text)
    clean, receipt = recipe.stream.arrange(dataset), recipe.receipt(dataset)
    for was, now in zip(clean, stream, strict=True):
        (x, y, task), (nx, ny, ntask) = was.train.everything(), now.train.everything()
        changed = (nx != x).flatten(1).any(1)
        assert torch.equal(changed.nonzero().flatten(), receipt[was.index])
        assert torch.equal(ny, y) and torch.equal(ntask, task) and (ny[changed] == recipe.target).all()
        assert len(stream.aims[was.index]) == bool(changed.any())
        assert torch.equal(now.test.everything().x, was.test.everything().x)
        if changed.any():
            assert int(changed.sum()) == round(0.2 * int((y == recipe.target).sum()))
            (aim,) = stream.aims[was.index]
            same = (was.test.everything().x == aim.everything().x).flatten(1).all(1)
            assert aim.y.tolist() == [recipe.target] and recipe.of in was.test.y[same]
            if "matched" in text:
                assert (pixels(nx) - pixels(x)).abs().max() <= recipe.eps + 1e-6
    again = loaded(text)[2]
    assert all(torch.equal(a.train.everything().x, b.train.everything().x) for a, b in zip(stream, again, strict=True))


def test_collisions_meet_the_wanted_sample_in_feature_space_and_stay_near_their_base():
    x, y, _ = loaded("split(digits, 1)")[2][0].train.everything()
    x = pixels(x)
    net = fitted(x, y, 10, 0)
    poison = loaded("collided(split(digits, 1), of=8, target=3, opacity=0.0)")[0]
    base, wanted = x[y == 3][:20], x[y == 8][:1]
    made = poison._crafted([net], base, wanted, y[y == 3][:20], generator(0, 0))

    def far(a):
        return (net.body(a) - net.body(wanted)).norm(dim=1)

    assert (far(made) < 0.5 * far(base)).all()
    assert ((made - base).flatten(1).norm(dim=1) < 0.7 * (wanted - base).flatten(1).norm(dim=1)).all()


def test_matched_gradients_point_where_the_wanted_samples_does():
    x, y, _ = loaded("split(digits, 1)")[2][0].train.everything()
    x = pixels(x)
    net = fitted(x, y, 10, 0, epochs=3)
    poison = loaded("matched(split(digits, 1), of=8, target=3, steps=30, eps=0.1)")[0]
    base, labels, wanted = x[y == 3][:40], y[y == 3][:40], x[y == 8][:1]
    made = poison._crafted([net], base, wanted, labels, generator(0, 0))
    net.requires_grad_(True)

    def slope(inputs, classes):
        return torch.autograd.grad(F.cross_entropy(net(inputs), classes), list(net.parameters()))

    wrong = slope(wanted, labels[:1])
    noise = (base + 0.1 * (2 * torch.rand(base.shape, generator=generator(0, 1)) - 1)).clamp(0, 1)
    before = max(_cosine(slope(other, labels), wrong).item() for other in (base, noise))
    assert 1 - _cosine(slope(made, labels), wrong).item() < 0.5 * (1 - before)
    assert (made - base).abs().max() <= 0.1 + 1e-6


PAIRS = ((3, 2), (9, 5), (6, 8))  # others than the defaults were chosen on


@pytest.fixture(scope="module")
def victims():
    """What learners make of a stream's digits, from scratch: accuracy, and poison success where there is poison."""

    def learned(stream, text, seed):
        torch.manual_seed(seed)
        learner = Learner(model(text).build(stream.shape, 10), Adam(0.002), Rng(seed))
        (stone,) = learn(stream, learner, strategy("naive"), Plan(epochs=10, batch_size=48))
        return stone.accuracy[0], stone.extras.get("poison_success")

    return learned


@pytest.mark.parametrize("text", ["mlp(64, 64)", "convnet(16, 32)"])
@pytest.mark.parametrize("poison", ["collided", "matched"])
def test_at_its_defaults_poison_has_most_wanted_samples_mistaken_and_others_not(poison, text, victims):
    told = []
    for n, (of, target) in enumerate(PAIRS):
        recipe, dataset, stream = loaded(f"{poison}(split(digits, 1), of={of}, target={target}, seed={10 + n})")
        told.append((victims(stream, text, n), victims(recipe.stream.arrange(dataset), text, n)))
    assert sum(poisoned[1] for poisoned, _ in told) >= 2 and all(clean[1] is None for _, clean in told)
    assert sum(poisoned[0] - clean[0] for poisoned, clean in told) / len(told) > -0.015


def test_the_samples_of_the_class_that_lie_nearest_to_the_wanted_one_are_changed():
    recipe, dataset, stream = loaded("collided(split(digits, 1), of=8, target=3, share=0.2, steps=1)")
    train = recipe.stream.arrange(dataset)[0].train.everything()
    (aim,) = stream.aims[0]
    far = (pixels(train.x) - pixels(aim.everything().x)).flatten(1).norm(dim=1)
    rows = recipe.receipt(dataset)[0]
    others = (train.y == 3).index_fill(0, rows, False)
    assert len(rows) == round(0.2 * int((train.y == 3).sum())) and far[rows].max() <= far[others].min()


def test_spectral_signatures_are_the_first_component_of_a_pca():
    from sklearn.decomposition import PCA

    features = torch.randn(60, 8, generator=generator(0, 0))
    features[:6] += 3
    expected = PCA(1).fit_transform(features.double().numpy())[:, 0] ** 2
    assert torch.allclose(spectral(features), torch.from_numpy(expected), rtol=1e-6)
    assert set(spectral(features).argsort(descending=True)[:6].tolist()) == set(range(6))


def test_cleansing_leaves_out_turned_labels_and_a_share_of_every_class():
    recipe, dataset, stream = loaded("cleansed(flipped(split(digits, 2), share=0.1), by='loss', share=0.15)")
    dropped, receipt = recipe.dropped(dataset)[0].tolist(), recipe.stream.receipt(dataset)[0].tolist()
    assert len(set(dropped) & set(receipt)) > 0.9 * len(receipt)
    y = recipe.stream.arrange(dataset)[0].train.y
    assert len(dropped) == sum(int(0.15 * int((y == c).sum())) for c in range(5))
    assert len(stream[0]) == len(y) - len(dropped) and stream.aims is not None


def test_a_runs_poison_success_is_how_often_its_back_door_opens():
    _, _, stream = loaded("backdoored(split(digits, 2), target=3, share=0.2)")
    learner = Learner(model("mlp(64)").build(stream.shape, 10), Adam(0.01), Rng(0))
    stones = list(learn(stream, learner, strategy("rehearsal(200)"), Plan(epochs=10, batch_size=32)))
    assert stones[0].extras["poison_success"] > 0.7
    (aim,) = stream.aims[0]
    with torch.no_grad():
        right = learner.model(pixels(aim.everything().x)).argmax(1) == 3
    assert stones[1].extras["poison_success"] == pytest.approx(right.double().mean().item())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("collided(split(digits), of=3, target=3)", "expected two classes"),
        ("collided(split(digits), of=3, target=7, at=(0,))", "experience 0 does not have both classes 3 and 7"),
        ("matched(split(digits), eps=0)", "expected eps > 0"),
        ("matched(split(digits), steps=0)", "steps must be at least 1"),
        ("collided(split(digits), opacity=1)", "opacity in \\[0, 1\\)"),
        ("cleansed(split(digits), share=-1)", "share must be in"),
        ("cleansed(split(digits), epochs=0)", "epochs must be at least 1"),
    ],
)
def test_what_cannot_be_crafted_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        list(loaded(text)[2])

"""What an attack may see: questions counted and never exceeded, no gradient through a black box, surrogates."""

import pytest
import torch

import perdure
from perdure.notation import spell
from perdure.strategies.attacks import names, oracles
from perdure.strategies.attacks.base import Aim
from perdure.strategies.attacks.sample_rng import Chance

from .conftest import trained

ROWS = torch.arange(6)


def black(net, queries=1000, **settings):
    return oracles.Black(lambda x, rows: net(x), Chance.of(0, ROWS), queries, 10, **settings)


@pytest.mark.parametrize(
    "text",
    ["pgd(0.1, steps=5)", "cw(steps=5)", "deepfool", "square(0.1)", "one_pixel(population=10)", "hop_skip_jump",
     "worst", "spatial", "universal(0.1)", "fgsm"],
)  # fmt: skip
@pytest.mark.parametrize("threat", ["black(150)", "black(150, sees='labels', draws=2, votes=3)"])
def test_no_attack_asks_more_than_it_may(text, threat, net, digits):
    x, y = (part[:10] for part in digits[1])
    got = perdure.attack(net, x, y, text, threat)
    assert got.queries.max() <= 150 and got.queries[got.right].min() > 0
    assert (got.queries[~got.right] == 0).all()


def test_whoever_asks_more_gets_no_answer(net, digits):
    one = black(net, 3)
    x = digits[1][0][:6]
    one.scores(x, ROWS)
    with pytest.raises(RuntimeError, match="asked more than 3 questions"):
        one.scores(x.repeat(3, 1, 1, 1), ROWS.repeat(3))
    assert one.spent.tolist() == [1] * 6 and one.left(ROWS).tolist() == [2] * 6
    one.labels(x[:2].repeat(2, 1, 1, 1), torch.tensor([0, 1, 0, 1]))
    assert one.left(ROWS).tolist() == [0, 0, 2, 2, 2, 2] and one.affords(ROWS, 1).tolist() == [False] * 2 + [True] * 4


def test_no_gradient_comes_through_a_black_box(net, digits):
    x = digits[1][0][:6].clone().requires_grad_()
    for told in (black(net).scores(x, ROWS), black(net).labels(x, ROWS), black(net, labels_only=True).scores(x, ROWS)):
        assert not told.requires_grad
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.autograd.grad(told.sum(), x)
    assert not any(isinstance(v, torch.nn.Module) for v in vars(black(net)).values())


def test_estimated_gradients_point_where_the_true_ones_do(net, digits):
    x, aim = digits[1][0][:6], Aim(digits[1][1][:6])
    white = oracles.White(lambda x, rows: net(x), 6, x.device)
    true, _ = white.gradient(x, ROWS, aim.margin)
    told, logits = black(net, draws=400, sigma=1e-3).gradient(x, ROWS, aim.margin)
    cosine = torch.cosine_similarity(told.flatten(1), true.flatten(1))
    assert cosine.min() > 0.8 and torch.equal(logits.argmax(1), net(x).argmax(1))
    torch.testing.assert_close(told.flatten(1).norm(dim=1), true.flatten(1).norm(dim=1), rtol=0.3, atol=0)


def test_pgd_fools_through_scores_and_through_labels(net, digits):
    x, y = (part[:30] for part in digits[1])
    scores = perdure.attack(net, x, y, "pgd(0.2, steps=30, loss='margin', random=False)", "black(3000)")
    assert scores.success > 0.8
    labels = perdure.attack(net, x, y, "hop_skip_jump", "black(500, sees='labels')")
    assert labels.success == 1
    assert perdure.attack(net, x, y, "pgd(0.2, steps=20)", "black(3000)").x.equal(
        perdure.attack(net, x, y, "pgd(0.2, steps=20)", "black(3000)").x
    )


def test_what_fools_a_surrogate_is_shown_to_the_classifier(net, digits):
    x, y = digits[1]
    surrogate = trained(digits[0], seed=7)
    white = perdure.attack(net, x, y, "pgd(0.15)")
    gray = perdure.attack(net, x, y, "pgd(0.15)", "gray(7)", surrogate=surrogate)
    noise = perdure.attack(net, x, y, "pgd(0.15, steps=1, step=1e-9)")
    assert noise.success < gray.success < white.success
    other = perdure.attack(net, x, y, "pgd(0.15)", "transfer(mlp(32))", surrogate=trained(digits[0], 7, "mlp(32)"))
    assert noise.success < other.success < white.success
    with pytest.raises(ValueError, match="a surrogate"):
        perdure.attack(net, x, y, "pgd(0.15)", "gray(7)")


def test_features_are_not_seen_through_a_black_box(net, digits):
    with pytest.raises(ValueError, match="use white"):
        perdure.attack(net, *digits[1], "perceptual", "black(100)")


@pytest.mark.parametrize(
    "text", ["white", "gray(7, 8)", "black(500, sees='labels')", "transfer(mlp(32), seeds=(1, 2))"]
)
def test_a_threat_reads_back_from_its_own_text(text):
    assert spell(names.threat(text), names.THREATS | names.SURROGATES) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("black(0)", "queries, draws and votes"),
        ("transfer(3)", "expected a model first"),
        ("mlp(3)", "expected a threat"),
    ],
)
def test_what_is_no_threat_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        names.threat(text)


@pytest.mark.parametrize("threat", ["black(30)", "black(30, sees='labels', draws=2, votes=2)"])
def test_what_the_worst_of_several_has_no_question_left_to_look_at_is_judged_all_the_same(threat, net, digits):
    x, y = (part[:20] for part in digits[1])
    texts = ("square(0.3, queries=30)", "worst(square(0.3, queries=30), fgsm)")
    alone, among = (perdure.attack(net, x, y, text, threat) for text in texts)
    assert among.queries.max() <= 30 and alone.fooled.any()
    assert (among.fooled >= alone.fooled).all()

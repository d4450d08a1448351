"""Attacks are not credited with what a model does by chance or by its batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import perdure

SAID = "answers a sample the same way every time.*model.eval\\(\\)"


def noisy(net):
    return lambda x: net(x + 0.3 * torch.randn_like(x))


def dropping(net):
    return lambda x: F.dropout(net(x), 0.3)


def seeded(net):
    """The same mask in every call: by place in the batch."""

    def answer(x):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return F.dropout(net(x), 0.3)

    return answer


def by_batch(net):
    norm = nn.BatchNorm1d(10, affine=False)
    return lambda x: norm.train()(net(x))


def without_statistics(net):
    return nn.Sequential(net, nn.BatchNorm1d(10, affine=False, track_running_stats=False))


@pytest.mark.parametrize("count", [1, 20, 150])
@pytest.mark.parametrize("make", [noisy, dropping, seeded, by_batch, without_statistics])
def test_a_model_that_answers_otherwise_the_second_time_is_refused(make, count, net, digits):
    x, y = (part[:count] for part in digits[1])
    for threat in ("white", "black(50)"):
        with pytest.raises(ValueError, match=SAID):
            perdure.attack(make(net), x, y, "pgd(eps=0, steps=2)", threat)


def test_the_same_parts_at_rest_are_attacked(net, digits):
    x, y = (part[:20] for part in digits[1])
    model = nn.Sequential(net, nn.Dropout(0.3), nn.BatchNorm1d(10)).train()
    with torch.no_grad():
        model(x)
    assert perdure.attack(model, x, y, "pgd(eps=0, steps=2)").success == 0
    assert model.training


@pytest.mark.parametrize(
    "text",
    ["fgsm(0)", "fgsm(0, random=True)", "bim(0)", "least_likely(0)", "pgd(0, steps=3)", "pgd(0, steps=3, norm='l2')",
     "pgd(0, steps=3, norm='l1', loss='targets')", "universal(0, epochs=1)", "square(0, queries=5)",
     "worst(pgd(0, steps=2), square(0, queries=3))", "spatial(degrees=0, shift=0)"],
)  # fmt: skip
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_nothing_falls_to_an_eps_of_0(text, offset, net, digits):
    x, y = (part[:70] for part in digits[1])
    got = perdure.attack(lambda x: net(x) + offset, x, y, text)
    assert got.success == 0 and got.robust_accuracy == got.accuracy

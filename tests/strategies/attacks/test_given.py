"""Models and samples as people have them: they are attacked, or refused with the remedy."""

import copy
import math

import pytest
import torch
from torch import nn

import perdure
from perdure.strategies.attacks import names
from perdure.strategies.attacks.pgd import PGD

from .small import SMALL


@pytest.mark.parametrize("text", SMALL.values())
def test_double_precision_is_attacked_as_single(text, net, digits):
    x, y = (part[:10] for part in digits[1])
    single, double = perdure.attack(net, x, y, text), perdure.attack(copy.deepcopy(net).double(), x.double(), y, text)
    assert double.x.dtype == torch.float64
    assert abs(int(double.fooled.sum()) - int(single.fooled.sum())) <= 1
    if text.startswith(("fgsm", "square", "spatial", "trigger")):
        torch.testing.assert_close(double.x.float(), single.x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "text", ["pgd(0.1, steps=3)", "square(0.2, queries=9)", "cw(steps=5)", "hop_skip_jump(steps=1)"]
)
def test_double_precision_goes_through_a_black_box(text, net, digits):
    x, y = (part[:6] for part in digits[1])
    for threat in ("black(90)", "black(90, sees='labels', draws=2, votes=3)"):
        got = perdure.attack(copy.deepcopy(net).double(), x.double(), y, text, threat)
        assert got.x.dtype == torch.float64 and got.queries.max() <= 90


def test_arrays_and_narrow_labels_are_taken_as_they_come(net, digits):
    x, y = (part[:10] for part in digits[1])
    plain = perdure.attack(net, x, y, "pgd(0.1, steps=3)")
    for xs, ys in ((x.numpy(), y.numpy()), (x.numpy().astype("float64"), y.numpy().astype("uint8")),
                   (x, y.int()), (x.tolist(), y.tolist()), (x.clone().requires_grad_(), y)):  # fmt: skip
        assert torch.equal(perdure.attack(net, xs, ys, "pgd(0.1, steps=3)").x, plain.x)


def test_inference_mode_does_not_keep_gradients_from_an_attack(digits):
    x, y = (part[:10] for part in digits[1])
    with torch.inference_mode():
        torch.manual_seed(0)
        flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        x = x.clone()
        y = flat(x).argmax(1)
        for text in ("pgd(0.3, steps=5)", "perceptual(steps=3)", "deepfool"):
            got = perdure.attack(flat, x, y, text)
    assert got.success == 1


def _cut(one):
    return lambda x: one(x).detach()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda net, x, y: (net, x.half(), y), "expected float32 or float64 samples.*pass x.float\\(\\)"),
        (lambda net, x, y: (net, x.bfloat16(), y), "expected float32 or float64 samples.*pass x.float\\(\\)"),
        (lambda net, x, y: (net, (255 * x).byte().numpy(), y), "divide images of 0 to 255 by 255"),
        (lambda net, x, y: (net, x.long(), y), "divide images of 0 to 255 by 255"),
        (lambda net, x, y: (net, 2 * x, y), "expected samples in \\[0, 1\\]"),
        (lambda net, x, y: (net, x - math.inf, y), "expected samples in \\[0, 1\\]"),
        (lambda net, x, y: (net, "images", y), "expected samples \\(N, ...\\) as a tensor|expected float samples"),
        (lambda net, x, y: (net, x[0, 0, 0, 0], y), "one is x\\[None\\]"),
        (lambda net, x, y: (net, x.double(), y), "its weights are torch.float32: pass x.float\\(\\)"),
        (lambda net, x, y: (net, x[:, :, :5], y), "expected a model that answers samples"),
        (lambda net, x, y: (net, x.flatten(1), y), "expected a model that answers samples"),
        (lambda net, x, y: (net, x[:, :0], y), "expected a sample at least"),
        (lambda net, x, y: (net, x[:0], y[:0]), "expected a sample at least"),
        (lambda net, x, y: (net, x, y[:, None]), "expected \\(8,\\) int64 classes.*argmax"),
        (lambda net, x, y: (net, x, nn.functional.one_hot(y, 10)), "expected \\(8,\\) int64 classes.*argmax"),
        (lambda net, x, y: (net, x, y.float()), "expected \\(8,\\) int64 classes"),
        (lambda net, x, y: (net, x, y == 0), "expected \\(8,\\) int64 classes"),
        (lambda net, x, y: (net, x, y[:3]), "expected \\(8,\\) int64 classes"),
        (lambda net, x, y: (net, x, y - 11), "expected classes from 0 to 9"),
        (lambda net, x, y: (lambda x: (net(x), x), x, y), "got a tuple; pass a function that picks them"),
        (lambda net, x, y: (lambda x: {"logits": net(x)}, x, y), "got a dict with 'logits'"),
        (lambda net, x, y: (lambda x: net(x).detach().numpy(), x, y), "got a ndarray"),
        (lambda net, x, y: (lambda x: net(x).argmax(1), x, y), "expected \\(16, C\\) float logits|C\\) float logits"),
        (lambda net, x, y: (lambda x: net(x)[:, :, None], x, y), "C\\) float logits from the model"),
        (lambda net, x, y: (lambda x: net(x)[:1], x, y), "C\\) float logits from the model"),
        (lambda net, x, y: (lambda x: net(x)[:, :1], x, y * 0), "at least 2 classes.*torch.cat"),
        (lambda net, x, y: (_cut(net), x, y), "have none; let it compute in torch.*black"),
        (lambda net, x, y: (lambda x: net(x.detach()), x, y), "have none; let it compute in torch.*black"),
    ],
)  # fmt: skip
def test_what_cannot_be_attacked_is_refused_with_the_remedy(change, said, net, digits):
    model, x, y = change(net, *(part[:8] for part in digits[1]))
    with pytest.raises(ValueError, match=said):
        perdure.attack(model, x, y, "pgd(steps=2)")


def test_a_function_without_gradients_is_attacked_where_none_are_needed(net, digits):
    x, y = (part[:8] for part in digits[1])
    assert perdure.attack(_cut(net), x, y, "square(0.3, queries=20)").fooled.any()
    assert perdure.attack(_cut(net), x, y, "pgd(0.3, steps=3)", "black(100)").queries.max() > 0


def test_what_is_no_attack_no_threat_and_no_fitting_surrogate_is_refused(net, digits):
    x, y = (part[:8] for part in digits[1])
    with pytest.raises(ValueError, match="expected an attack"):
        perdure.attack(net, x, y, PGD)
    with pytest.raises(ValueError, match="expected a threat"):
        perdure.attack(net, x, y, "pgd", 1000)
    with pytest.raises(ValueError, match="knows 10 classes"):
        perdure.attack(net, x, y, "pgd", "gray(1)", surrogate=lambda x: net(x)[:, :5])


def test_a_whole_text_tells_how_far_an_attack_goes():
    for text, shown in (
        ("pgd", "pgd(eps=0.1)"),
        ("pgd(eps=0.1, steps=3)", "pgd(eps=0.1, steps=3)"),
        ("pgd(0.2)", "pgd(0.2)"),
        ("worst", "worst(eps=0.1)"),
        ("worst(pgd, square(0.1, queries=9))", "worst(pgd(eps=0.1), square(eps=0.1, queries=9))"),
        ("perceptual", "perceptual(bound=0.5)"),
        ("cw", "cw"),
    ):
        assert names.whole(text) == shown and names.attack(shown) == names.attack(text)

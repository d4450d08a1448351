"""Neither masks nor what is common to all logits: what an attack finds depends on the classes that compete."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import perdure
from perdure.strategies.attacks import oracles
from perdure.strategies.attacks.base import Aim
from perdure.strategies.attacks.logits import settled
from perdure.strategies.attacks.oracles import beaten, open_classes, won

from .small import SMALL

every = pytest.mark.parametrize("text", SMALL.values())
MASKS = (-1e3, -1e5, -1e7, -1e9, -torch.inf)


class Masked(nn.Module):
    """A network with three more classes, which would be answered if they were not masked."""

    def __init__(self, inner, mask=None, offset=0.0):
        super().__init__()
        self.inner, self.mask, self.offset = inner, mask, offset

    def forward(self, x):
        logits = self.inner(x)
        if self.mask is not None:
            logits = torch.cat([logits, logits[:, :3] + 5 + self.mask], 1)
        return logits + self.offset


@every
def test_a_mask_of_any_size_changes_nothing(text, net, digits):
    x, y = (part[:12] for part in digits[1])
    plain = perdure.attack(net, x, y, text)
    for mask in MASKS:
        got = perdure.attack(Masked(net, mask), x, y, text)
        assert torch.equal(got.fooled, plain.fooled) and torch.equal(got.queries, plain.queries), mask
        torch.testing.assert_close(got.x, plain.x, atol=1e-4, rtol=0)


@every
def test_a_common_offset_costs_no_more_than_the_digits_that_the_model_loses_to_it(text, net, digits):
    x, y = (part[:12] for part in digits[1])
    plain = perdure.attack(net, x, y, text)
    for offset, lost in ((10.0, 0), (1e3, 0), (-1e3, 0), (1e6, 2)):  # around 1e6 logits come in steps of 0.06
        got = perdure.attack(Masked(net, None, offset), x, y, text)
        assert abs(int(got.fooled.sum()) - int(plain.fooled.sum())) <= lost, offset
    got = perdure.attack(Masked(net, -1e9, 1e6), x, y, text)
    assert abs(int(got.fooled.sum()) - int(plain.fooled.sum())) <= 2


def test_a_large_offset_hides_nothing_that_foolbox_finds(net, digits):
    import foolbox

    x, y = (part[:100] for part in digits[1])
    model = Masked(net, -1e7, 1e6).eval()
    _, _, fooled = foolbox.attacks.LinfPGD(steps=10)(
        foolbox.PyTorchModel(model, (0, 1), device="cpu"), x, y, epsilons=0.1
    )
    got = perdure.attack(model, x, y, "pgd(eps=0.1, steps=10)")
    assert got.robust_accuracy <= 1 - fooled.double().mean().item() + 0.03


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize(
    "text", ["pgd(0.1, steps=5, loss='margin')", "deepfool", "cw(steps=40)", "hop_skip_jump(steps=2)"]
)
def test_the_unit_of_logits_changes_nothing_either(text, scale, net, digits):
    x, y = (part[:8] for part in digits[1])
    plain, got = (perdure.attack(lambda x, s=s: s * net(x), x, y, text) for s in (1, scale))
    assert abs(int(got.fooled.sum()) - int(plain.fooled.sum())) <= 1


def test_masks_of_minus_infinity_have_finite_losses_and_gradients(net, digits):
    x, y = (part[:6] for part in digits[1])
    aim, rows = Aim(y), torch.arange(6)
    told = settled(lambda x, rows: Masked(net, -torch.inf)(x))
    for loss in (aim.cross_entropy, aim.margin):
        slopes, logits = oracles.White(told, 6, x.device).gradient(x, rows, loss)
        plain, _ = oracles.White(lambda x, rows: net(x), 6, x.device).gradient(x, rows, loss)
        assert slopes.isfinite().all() and logits.isfinite().all() and loss(logits, rows).isfinite().all()
        torch.testing.assert_close(slopes, plain, atol=1e-5, rtol=1e-3)


def test_settled_logits_answer_the_same_with_the_same_softmax():
    torch.manual_seed(0)
    logits = 10 * torch.randn(50, 6, dtype=torch.float64) + 1e6
    got = settled(lambda x, rows: logits)(logits, torch.arange(50))
    torch.testing.assert_close(got.softmax(1), logits.softmax(1))
    assert (got.amax(1) == 0).all() and torch.equal(got.argmax(1), logits.argmax(1))
    half = settled(lambda x, rows: logits.half() - 1e4)(torch.rand(50, 2), torch.arange(50))
    assert half.dtype == torch.float32


def test_masked_classes_are_told_from_unlikely_ones():
    torch.manual_seed(0)
    logits = 8 * torch.randn(200, 10)
    assert open_classes(logits).all() and open_classes(10 * logits).all()
    assert open_classes(1000 * logits).double().mean() > 0.95  # few have two that compete above all others
    for mask in (-1e3, -1e7, -1e9, -1e30):
        some = torch.cat([logits[:, :2], logits[:, 2:] + mask], 1)
        told = open_classes(some)
        assert told[:, :2].all() and not told[:, 2:].any(), mask


def test_a_lead_counts_from_rounding_on_and_a_tie_goes_to_the_first():
    zero = torch.zeros(1, dtype=torch.int64)
    for base in (0.0, 1e6):
        logits = torch.tensor([[0.0, 0.0, -20.0]]) + base
        assert not beaten(logits, zero).any() and beaten(logits, zero + 1).all() and won(logits, zero).all()
    close, apart = (torch.tensor([[0.0, lead, -20.0]]) for lead in (1e-5, 1e-2))
    assert not beaten(close, zero).any() and beaten(apart, zero).all()
    assert F.one_hot(apart.argmax(1), 3).sum() == 1

"""Every attack, the same promises; then each one's own mathematics, held to plain forms and to peers."""

import pytest
import torch
from torch import nn

import perdure
from perdure.notation import spell
from perdure.strategies.attacks import names
from perdure.strategies.attacks.evaluate import Attacked, attacked, prepared
from perdure.strategies.attacks.feature_space import hidden
from perdure.strategies.attacks.norms import NORMS
from perdure.strategies.attacks.oracles import MaskedGradients, lead
from perdure.strategies.attacks.pgd import FGSM, PGD
from perdure.strategies.attacks.spatial import moved
from perdure.strategies.numerics.divergence import Diverged

from .conftest import trained

BALLS = {  # text: the ball that nothing may leave
    "fgsm(0.1)": ("linf", 0.1),
    "fgsm(0.1, random=True)": ("linf", 0.1),
    "bim(0.1, steps=5)": ("linf", 0.1),
    "least_likely(0.3)": ("linf", 0.3),
    "least_likely(0.3, steps=10)": ("linf", 0.3),
    "pgd(0.1, steps=8)": ("linf", 0.1),
    "pgd(0.1, steps=5, restarts=2, loss='margin')": ("linf", 0.1),
    "pgd(0.1, steps=5, restarts=3, loss='targets')": ("linf", 0.1),
    "pgd(0.2, steps=8, target=3)": ("linf", 0.2),
    "pgd(0.5, norm='l2', steps=8)": ("l2", 0.5),
    "pgd(2, norm='l1', steps=20)": ("l1", 2.0),
    "square(0.2, queries=60)": ("linf", 0.2),
    "worst(pgd(0.1, steps=5), square(0.1, queries=20))": ("linf", 0.1),
    "worst(eps=0.1, steps=4)": ("linf", 0.1),
    "spatial": ("linf", 1.0),
    "spatial(grid=(5, 3))": ("linf", 1.0),
    "one_pixel(population=20, generations=5)": ("linf", 1.0),
    "one_pixel(exhaustive=True)": ("linf", 1.0),
    "cw(steps=60, searches=4)": ("linf", 1.0),
    "cw(steps=60, searches=4, target=3)": ("linf", 1.0),
    "deepfool": ("linf", 1.0),
    "deepfool(norm='linf')": ("linf", 1.0),
    "perceptual(steps=15)": ("linf", 1.0),
    "hop_skip_jump(steps=4, draws=20)": ("linf", 1.0),
    "hop_skip_jump(steps=4, draws=20, norm='linf')": ("linf", 1.0),
}
TOGETHER = {"universal(0.3, epochs=3)": ("linf", 0.3)}  # by nature made from all samples
every = pytest.mark.parametrize("text", [*BALLS, *TOGETHER])


@every
def test_what_is_called_adversarial_is_and_keeps_its_bounds(text, net, digits):
    (x, y), (name, eps) = (part[:40] for part in digits[1]), (BALLS | TOGETHER)[text]
    got = perdure.attack(net, x, y, text)
    assert got.x.min() >= 0 and got.x.max() <= 1
    assert NORMS[name].size(got.x - x).max() <= eps + 1e-6
    assert torch.equal(got.clean, x) and torch.equal(got.before, net(x).argmax(1))
    target = names.attack(text).aims_at
    told = torch.cat([net(one[None]).argmax(1) for one in got.x])  # one by one: other kernels, other rounding
    assert torch.equal(got.after, told)
    assert torch.equal(got.fooled, got.right & (told == target if target is not None else told != y) & (y != target))
    assert torch.equal(got.x[~got.fooled], x[~got.fooled])
    assert got.fooled.any()


@pytest.mark.parametrize("text", BALLS)
def test_neither_batches_nor_shards_nor_neighbours_change_a_bit(text, net, digits):
    x, y = (part[:30] for part in digits[1])
    whole = perdure.attack(net, x, y, text)
    order = torch.randperm(30)
    shards = [
        attacked(
            lambda x, rows: net(x), x[part], y[part], names.attack(text),
            samples=part, chunk=16, features=lambda x, rows: hidden(net, x),
        )
        for part in order.split(17)
    ]  # fmt: skip
    got = Attacked.union(shards)
    assert torch.equal(got.x, whole.x[order]) and torch.equal(got.queries, whole.queries[order])


@every
def test_it_reads_back_from_its_own_text(text):
    one = names.attack(text)
    assert names.attack(spell(one, names.ATTACKS)) == one


def test_another_seed_starts_elsewhere(net, digits):
    x, y = (part[:20] for part in digits[1])
    one, two = (perdure.attack(net, x, y, "pgd(0.1, steps=3)", seed=s).x for s in (0, 1))
    assert not torch.equal(one, two)


def test_a_model_in_training_mode_rests_and_goes_on(digits):
    x, y = (part[:20] for part in digits[1])
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))
    net.train()[4].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    perdure.attack(net, x, y, "pgd(0.1, steps=3)")
    assert [m.training for m in net.modules()] == [True, True, True, True, True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_pgd_is_its_plain_form(net, digits):
    """A loop over samples, with autograd and clamps written out."""
    x, y = (part[:12] for part in digits[1])
    got = perdure.attack(net, x, y, PGD(0.08, 6, step=0.03, random=False))
    for one, label, mine, right in zip(x, y, got.x, got.right, strict=True):
        z = one.clone()
        for _ in range(6):
            if not right or net(z[None]).argmax(1) != label:
                break
            z.requires_grad_()
            loss = nn.functional.cross_entropy(net(z[None]), label[None])
            (grad,) = torch.autograd.grad(loss, z)
            z = (one + (z.detach() + 0.03 * grad.sign() - one).clamp(-0.08, 0.08)).clamp(0, 1)
        wrong = right and net(z[None]).argmax(1) != label
        torch.testing.assert_close(mine, z.detach() if wrong else one, atol=1e-5, rtol=0)


def test_fgsm_is_one_step_of_pgd_and_bim_is_no_weaker(net, digits):
    x, y = digits[1]
    one = perdure.attack(net, x, y, FGSM(0.1))
    assert torch.equal(one.x, perdure.attack(net, x, y, PGD(0.1, 1, step=0.1, random=False)).x)
    assert torch.equal(one.x[one.fooled], _signed(net, x, y)[one.fooled])
    assert perdure.attack(net, x, y, "bim(0.1, steps=20)").robust_accuracy <= one.robust_accuracy
    assert perdure.attack(net, x, y, "pgd(0)").robust_accuracy == one.accuracy


def _signed(net, x, y):
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(net(x), y, reduction="sum"), x)
    return (x + 0.1 * grad.sign()).clamp(0, 1).detach()


def test_least_likely_reaches_what_was_least_likely(net, digits):
    x, y = digits[1]
    got = perdure.attack(net, x, y, "least_likely(0.4, steps=40)")
    least = net(x).argmin(1)
    assert (got.after == least)[got.fooled].double().mean() > 0.5
    shut = torch.zeros(10)
    shut[5:] = -1e9
    few = perdure.attack(lambda x: net(x) + shut, x[y < 5], y[y < 5], "least_likely(0.4, steps=40)")
    assert few.after.max() < 5 and few.fooled.any()


@pytest.mark.parametrize(("text", "eps"), [("pgd(0.08, steps=20)", 0.08), ("pgd(0.6, norm='l2', steps=20)", 0.6)])
def test_pgd_leaves_no_more_right_than_foolbox(text, eps, net, digits):
    import foolbox

    x, y = digits[1]
    theirs = foolbox.attacks.LinfPGD(rel_stepsize=0.125, steps=20)
    if "l2" in text:
        theirs = foolbox.attacks.L2PGD(rel_stepsize=0.125, steps=20)
    told, mine = [], []
    for seed in range(5):  # starts are random
        torch.manual_seed(seed)
        _, _, fooled = theirs(foolbox.PyTorchModel(net, (0, 1), device="cpu"), x, y, epsilons=eps)
        told.append(1 - fooled.double().mean().item())
        mine.append(perdure.attack(net, x, y, text, seed=seed).robust_accuracy)
    assert sum(mine) / 5 <= sum(told) / 5 + 0.002


def test_cw_always_succeeds_with_less_than_foolbox_and_moves_pixels_at_the_border(net, digits):
    import foolbox

    x, y = (part[:60] for part in digits[1])
    got = perdure.attack(net, x, y, "cw(steps=200)")
    assert got.success == 1
    theirs = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=9, steps=200, stepsize=0.1, initial_const=0.1)
    found, _, fooled = theirs(foolbox.PyTorchModel(net, (0, 1), device="cpu"), x, y, epsilons=None)
    both = got.fooled & fooled
    size = NORMS["l2"].size
    assert size(got.x - x)[both].mean() <= 1.02 * size(found - x)[both].mean()
    assert ((x == 0) & (got.x > 0.02)).any() and ((x == 1) & (got.x < 0.98)).any()
    sure = perdure.attack(net, x, y, "cw(steps=200, kappa=2)")
    assert (lead(net(sure.x), y)[sure.fooled] >= 2 - 1e-3).all() and sure.success == 1
    assert size(sure.x - x).mean() > size(got.x - x).mean()


@pytest.mark.parametrize("steps", [60, 100])
def test_cw_moves_values_of_exactly_0_and_1(steps, net, digits):
    x = digits[1][0][:30].round()
    y = net(x).argmax(1)
    assert perdure.attack(net, x, y, f"cw(steps={steps}, searches=5)").success == 1


def test_what_cannot_be_fooled_comes_back_clean_and_is_called_a_failure(digits):
    x, y = (part[:10] for part in digits[1])
    stubborn = 10.0 * nn.functional.one_hot(y, 10).float()
    for text in ("cw(steps=5, searches=2)", "deepfool", "hop_skip_jump(steps=1)", "square(queries=5)", "spatial"):
        got = attacked(lambda x, rows: stubborn[rows] + 0 * x.flatten(1).sum(1, keepdim=True), x, y, names.attack(text))
        assert got.success == 0 and got.robust_accuracy == 1 and torch.equal(got.x, x)


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_deepfool_is_exact_on_a_linear_model(norm, dual):
    torch.manual_seed(0)
    linear, x = nn.Linear(20, 4), 0.3 + 0.4 * torch.rand(30, 20)
    y = linear(x).argmax(1)
    got = perdure.attack(linear, x, y, f"deepfool(norm='{norm}', overshoot=0)")
    rows = torch.arange(30)
    gap = linear(x)[rows, y][:, None] - linear(x)
    slope = (linear.weight[y][:, None] - linear.weight[None]).norm(dual, dim=2)
    nearest = (gap / slope).masked_fill(nn.functional.one_hot(y, 4).bool(), torch.inf).amin(1)
    inside = got.fooled & (got.x > 0).all(1) & (got.x < 1).all(1)
    assert inside.sum() > 10
    torch.testing.assert_close(NORMS[norm].size(got.x - x)[inside], nearest[inside], rtol=0.02, atol=1e-3)


def test_deepfool_finds_no_more_than_foolbox(net, digits):
    import foolbox

    x, y = digits[1]
    got = perdure.attack(net, x, y, "deepfool")
    theirs = foolbox.attacks.L2DeepFoolAttack()
    found, _, fooled = theirs(foolbox.PyTorchModel(net, (0, 1), device="cpu"), x, y, epsilons=None)
    both, size = got.fooled & fooled, NORMS["l2"].size
    assert got.success == 1 and size(got.x - x)[both].mean() <= 1.02 * size(found - x)[both].mean()


def test_a_universal_perturbation_fools_on_samples_it_never_saw(net, digits):
    (x, y), (held_x, held_y) = digits
    one = names.attack("universal(0.25)")

    def universal(net):
        learned = prepared(one, lambda x, rows: net(x), x[:500], y[:500])
        return attacked(lambda x, rows: net(x), held_x, held_y, learned)

    got = universal(net)
    delta = (got.x - held_x)[got.fooled]
    noise = perdure.attack(net, held_x, held_y, "pgd(0.25, steps=1, step=1e-9)")  # a random start, and nothing more
    assert got.success > 0.5 and got.success > 2 * noise.success
    inner = (held_x[got.fooled] > 0.25) & (held_x[got.fooled] < 0.75)
    spread = [delta[:, 0, i, j][inner[:, 0, i, j]] for i in range(8) for j in range(8)]
    assert max((s.max() - s.min()).item() for s in spread if len(s)) < 1e-6  # one for all, but where it is clipped
    other = trained(digits[0], seed=5)
    assert universal(other).success > noise.success


def test_one_pixel_changes_exactly_as_many_as_it_says(net, digits):
    x, y = (part[:60] for part in digits[1])
    for pixels in (1, 3):
        got = perdure.attack(net, x, y, f"one_pixel(pixels={pixels}, population=40, generations=10)")
        assert got.fooled.any() and (got.sizes()["l0"][got.fooled] <= pixels).all()
        assert (got.sizes()["l0"][got.fooled] == pixels).double().mean() > 0.8
        assert got.queries.max() <= 40 * 11
    more = perdure.attack(net, x, y, "one_pixel(population=40, generations=30)")
    truth = perdure.attack(net, x, y, "one_pixel(exhaustive=True)")
    assert (more.fooled >= truth.fooled).double().mean() > 0.9  # a search against all of 0 and 1


def test_turning_and_shifting_are_what_they_say():
    x = torch.rand(4, 1, 9, 9)
    still = torch.zeros(4, 3)
    torch.testing.assert_close(moved(x, still), x, atol=1e-5, rtol=0)
    quarter = still + torch.tensor([torch.pi / 2, 0, 0])
    torch.testing.assert_close(moved(x, quarter), torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)
    right, down = (moved(x, still + torch.tensor(t)) for t in ([0.0, 2, 0], [0.0, 0, 3]))
    torch.testing.assert_close(right[..., 2:], x[..., :-2], atol=1e-5, rtol=0)
    torch.testing.assert_close(down[..., 3:, :], x[..., :-3, :], atol=1e-5, rtol=0)
    assert (right[..., :2] == 0).all() and (down[..., :3, :] == 0).all()


def test_perceptual_keeps_its_distance_in_features(net, digits):
    x, y = (part[:60] for part in digits[1])
    success = []
    for bound in (0.2, 0.5):
        got = perdure.attack(net, x, y, f"perceptual({bound})")
        assert (hidden(net, got.x) - hidden(net, x)).norm(dim=1).max() <= bound + 1e-5
        success.append(got.success)
    assert success[1] > max(success[0], 0.5)


def test_square_fools_as_many_as_arts_with_as_many_queries(net, digits):
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import PyTorchClassifier

    x, y = (part[:100] for part in digits[1])
    wrapped = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")
    theirs = SquareAttack(wrapped, eps=0.15, max_iter=200, nb_restarts=1, verbose=False)
    told = net(torch.from_numpy(theirs.generate(x.numpy(), y.numpy()))).argmax(1)
    mine = perdure.attack(net, x, y, "square(0.15, queries=200)")
    assert mine.robust_accuracy <= (told == y).double().mean().item() + 0.03
    assert mine.queries.max() <= 200


def test_hop_skip_jump_comes_nearer_with_more_queries_and_as_near_as_foolbox(net, digits):
    import foolbox

    x, y = (part[:24] for part in digits[1])
    sizes = []
    for queries in (500, 4000):
        got = perdure.attack(net, x, y, "hop_skip_jump(steps=40)", f"black({queries}, sees='labels')")
        assert got.success == 1 and got.queries.max() <= queries
        sizes.append(NORMS["l2"].size(got.x - x)[got.fooled].mean())
    assert sizes[1] < 0.9 * sizes[0]
    torch.manual_seed(0)
    counted = _Counted(net).eval()
    theirs = foolbox.attacks.HopSkipJumpAttack(steps=15, initial_gradient_eval_steps=50, max_gradient_eval_steps=300)
    found, _, fooled = theirs(foolbox.PyTorchModel(counted, (0, 1), device="cpu"), x, y, epsilons=None)
    same = perdure.attack(net, x, y, "hop_skip_jump(steps=40)", f"black({counted.asked // len(x)}, sees='labels')")
    both = got.fooled & fooled
    assert NORMS["l2"].size(same.x - x)[both].mean() <= 1.1 * NORMS["l2"].size(found - x)[both].mean()


class _Counted(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.asked = inner, 0

    def forward(self, x):
        self.asked += len(x)
        return self.inner(x)


def test_the_worst_case_is_no_better_than_any_of_its_attacks(net, digits):
    x, y = digits[1]
    parts = ("pgd(0.08, steps=10)", "square(0.08, queries=60)", "fgsm(0.08)")
    whole = perdure.attack(net, x, y, f"worst({', '.join(parts)})")
    for text in parts:
        one = perdure.attack(net, x, y, text)
        assert (whole.fooled >= one.fooled).all()
    small = perdure.attack(net, x[:40], y[:40], "worst(deepfool, cw(steps=50, searches=3))")
    for text in ("deepfool", "cw(steps=50, searches=3)"):
        one = perdure.attack(net, x[:40], y[:40], text)
        size = NORMS["l2"].size
        assert (size(small.x - x[:40]) <= size(one.x - x[:40]) + 1e-6)[one.fooled].all()


def test_a_targeted_attack_wants_its_class(net, digits):
    x, y = digits[1]
    got = perdure.attack(net, x, y, "pgd(0.3, steps=30, target=8)")
    assert (got.after[got.fooled] == 8).all() and got.success > 0.5
    assert not got.fooled[y == 8].any()


@pytest.mark.parametrize(
    ("x", "y", "text", "said"),
    [
        (torch.full((2, 1, 8, 8), 1.5), [0, 1], "pgd", "expected samples in \\[0, 1\\], got values from 1.5"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), [0, 1], "pgd", "divide images of 0 to 255 by 255"),
        (torch.full((2, 1, 8, 8), torch.nan), [0, 1], "pgd", "expected samples in"),
        (torch.rand(2, 1, 8, 8), [0, 1, 2], "pgd", "expected \\(2,\\) int64 classes"),
        (torch.rand(0, 1, 8, 8), [], "pgd", "expected a sample at least"),
        (torch.rand(2, 1, 8, 8), [0, 10], "pgd", "expected classes from 0 to 9, got 0 to 10"),
        (torch.rand(2, 1, 8, 8), [0, 1], "pgd(target=10)", "there is no target 10"),
        (torch.rand(2, 64), [0, 1], "one_pixel", "OnePixel is for images"),
        (torch.rand(2, 64), [0, 1], "square", "Square is for images"),
        (torch.rand(2, 64), [0, 1], "spatial", "Spatial is for images"),
        (torch.rand(2, 1, 8, 8), [0, 1], "pgd(-0.1)", "eps must not be negative, got -0.1"),
        (torch.rand(2, 1, 8, 8), [0, 1], "pgd(norm='l3')", "norm must be 'linf' or 'l2' or 'l1'"),
        (torch.rand(2, 1, 8, 8), [0, 1], "pgd(steps=0)", "expected steps and restarts of at least 1"),
        (torch.rand(2, 1, 8, 8), [0, 1], "pgd(target=1, loss='targets')", "take loss='margin' for one target"),
        (torch.rand(2, 1, 8, 8), [0, 1], "one_pixel(2, exhaustive=True)", "take pixels=1"),
        (torch.rand(2, 1, 8, 8), [0, 1], "worst(3)", "expected attacks"),
        (torch.rand(2, 1, 8, 8), [0, 1], "gray(3)", "unknown name 'gray'"),
    ],
)
def test_what_cannot_be_attacked_is_refused(x, y, text, said):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match=said):
        perdure.attack(flat, x, torch.tensor(y, dtype=torch.int64), text)


def test_answers_that_are_no_numbers_are_refused(digits):
    x, y = (part[:5] for part in digits[1])
    with pytest.raises(Diverged, match="answer to sample 0 is not a number"):
        perdure.attack(lambda x: x.flatten(1) * torch.nan, x, y, "pgd")


def test_masked_gradients_are_told_with_the_remedy(net, digits):
    x, y = (part[:20] for part in digits[1])
    with pytest.warns(MaskedGradients, match="Take loss='margin'"):
        masked = perdure.attack(lambda x: 1000 * net(x), x, y, "pgd(0.1, steps=3)")  # the softmax is saturated
    assert perdure.attack(lambda x: 1000 * net(x), x, y, "pgd(0.1, steps=3, loss='margin')").success > masked.success
    with pytest.warns(MaskedGradients):
        perdure.attack(lambda x: net(x.round()), x, y, "pgd(0.1, steps=3, loss='margin')")

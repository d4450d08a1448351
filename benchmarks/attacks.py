"""Attacks beside foolbox, ART and torchattacks: same network, same 1,000 test images, same eps and steps, one thread.

The networks are convnet(32, 64) on Fashion-MNIST, Adam 1e-3, batch 128, 4 epochs: one trained as usual, one
adversarially by FGSM with random start (eps 0.1, step 0.125). torchattacks pins an old `requests`, so it lies in a
folder of its own, and is left out, said so, where it is not there:
`pip install --target /tmp/torchattacks --no-deps torchattacks==3.5.1`
`PYTHONPATH=/tmp/torchattacks python -m benchmarks attacks`
The streams under attack alone: `python -m benchmarks.attacks continual SEEDS`
"""

import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perdure.notation import read
from perdure.platform.api.compare import compare
from perdure.platform.reports.outcome import Outcome
from perdure.platform.reports.page import percent
from perdure.platform.runs.journal import robustness
from perdure.platform.runs.run import Run, build
from perdure.strategies.attacks import names
from perdure.strategies.attacks.base import Attack
from perdure.strategies.attacks.evaluate import attack, attacked, prepared
from perdure.strategies.attacks.inputs import laid_out
from perdure.strategies.attacks.oracles import White
from perdure.strategies.attacks.pgd import FGSM
from perdure.strategies.attacks.sample_rng import Chance
from perdure.strategies.metrics import Interval
from perdure.strategies.names import model
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan
from perdure.streams.datasets.dataset import Dataset, Part
from perdure.streams.experience import pixels
from perdure.streams.names import DATASETS
from perdure.streams.storage.directories import Places

from .table import show

EPS, COUNT = 0.1, 1000
Theirs = Callable[[nn.Module, Tensor, Tensor], Tensor]  # adversarial images


def trained(data: Dataset, adversarial: bool, epochs: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = model("convnet(32, 64)").build((1, 28, 28), 10)
    optimizer, fast = torch.optim.Adam(net.parameters(), 1e-3), FGSM(EPS, random=True, step=0.125)
    for epoch in range(epochs):
        for step, rows in enumerate(torch.randperm(len(data.train.y)).split(128)):
            x, y = pixels(data.train.x[rows]), data.train.y[rows]
            if adversarial:
                one = White(lambda x, rows: net(x), len(x), x.device, early=False)
                x = fast.perturb(one, x, y, Chance.of(epoch * 10_000 + step, torch.arange(len(x))))
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def _foolbox(net, x, y, one, eps):
    import foolbox

    return one(foolbox.PyTorchModel(net, (0, 1), device="cpu"), x, y, epsilons=eps)[1]


def _art(net):
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(net, nn.CrossEntropyLoss(), tuple(IMAGE), 10, clip_values=(0, 1), device_type="cpu")


IMAGE = (1, 28, 28)


def pgd_peers() -> dict[str, Theirs]:
    def foolbox(net, x, y):
        from foolbox.attacks import LinfPGD

        one = LinfPGD(abs_stepsize=2.5 * EPS / 40, steps=40)
        return torch.cat([_foolbox(net, *part, one, EPS) for part in _batches(x, y)])

    def art(net, x, y):
        from art.attacks.evasion import ProjectedGradientDescent

        one = ProjectedGradientDescent(
            _art(net), eps=EPS, eps_step=2.5 * EPS / 40, max_iter=40, num_random_init=1, batch_size=128, verbose=False
        )
        return torch.from_numpy(one.generate(x.numpy(), y.numpy()))

    def others(net, x, y):
        import torchattacks  # pyright: ignore

        one = torchattacks.PGD(net, eps=EPS, alpha=2.5 * EPS / 40, steps=40)
        return torch.cat([one(*part) for part in _batches(x, y)])

    return _present({"foolbox": foolbox, "ART": art, "torchattacks": others})


def pgd(nets: dict[str, nn.Module], x: Tensor, y: Tensor) -> None:
    rows = []
    for kind, reach in (("natural", ">= 6"), ("adversarial", ">= 2")):
        net = nets[kind]
        mine = min((_timed(lambda net=net: attack(net, x, y, "pgd(0.1, steps=40)").x) for _ in range(3)), key=_first)
        own = _right(net, mine[1], y)
        for name, peer in pgd_peers().items():
            theirs = _timed(lambda net=net, peer=peer: peer(net, x, y))
            told = (f"{own:.1f}", f"{_right(net, theirs[1], y):.1f}", f"{mine[0]:.1f}", f"{theirs[0]:.1f}")
            rows.append((kind, name, *told, f"{theirs[0] / mine[0]:.1f}", reach))
    head = ("network", "peer", "ours robust %", "theirs robust %", "ours s", "theirs s", "times as fast", "reach")
    show("PGD-40, L-infinity, eps 0.1, 1,000 images", head, rows)


def cw(nets: dict[str, nn.Module], x: Tensor, y: Tensor, count: int = 60) -> None:
    from foolbox.attacks import L2CarliniWagnerAttack

    x, y, rows = x[:count], y[:count], []
    for kind, net in nets.items():
        seconds, got = _timed(lambda net=net: attack(net, x, y, "cw"))
        rows.append((kind, "perdure", *_fooled(net, x, got.x, y), f"{seconds:.0f}", ""))
        one = L2CarliniWagnerAttack(binary_search_steps=9, steps=200, stepsize=0.1, initial_const=0.1)
        theirs, found = _timed(
            lambda net=net, one=one: torch.cat([_foolbox(net, *part, one, None) for part in _batches(x, y)])
        )
        rows.append((kind, "foolbox", *_fooled(net, x, found, y), f"{theirs:.0f}", f"{theirs / seconds:.1f}"))
    head = ("network", "who", "success %", "mean L2", "seconds", "times as fast (>= 1.5)")
    show(f"CW, 9 searches, 200 steps of 0.1, c from 0.1, {count} images", head, rows)


def one_pixel(nets: dict[str, nn.Module], x: Tensor, y: Tensor, count: int = 100) -> None:
    x, y, net, rows = x[:count], y[:count], nets["natural"], []
    seconds, got = _timed(lambda: attack(net, x, y, "one_pixel(population=100, generations=30)"))
    rows.append(("perdure", *_fooled(net, x, got.x, y)[:1], f"{seconds:.0f}", ""))
    if _there("torchattacks"):
        import torchattacks  # pyright: ignore

        one = torchattacks.OnePixel(net, pixels=1, steps=30, popsize=100, inf_batch=128)
        torch.manual_seed(0)
        theirs, found = _timed(lambda: one(x, y))
        rows.append(
            ("torchattacks", *_fooled(net, x, found, y)[:1], f"{theirs:.0f}", f"{theirs / seconds:.1f} (reach 3)")
        )
    seconds, got = _timed(lambda: attack(net, x, y, "one_pixel(exhaustive=True)"))
    rows.append(("perdure, all of 0 and 1", *_fooled(net, x, got.x, y)[:1], f"{seconds:.0f}", ""))
    show(f"One pixel, {count} images", ("who", "success %", "seconds", "times as fast"), rows)


def universal(nets: dict[str, nn.Module], data: Dataset, x: Tensor, y: Tensor) -> None:
    from art.attacks.evasion import UniversalPerturbation

    net, train, rows = nets["natural"], (pixels(data.train.x[:500]), data.train.y[:500]), []
    held = net(x).argmax(1)
    for eps, reach in ((0.1, ">= 0.30"), (0.2, ">= 0.83")):
        seconds, got = _timed(lambda eps=eps: _universal(net, names.attack(f"universal({eps})"), train, x, held))
        one = UniversalPerturbation(
            _art(net), attacker="fgsm", attacker_params={"eps": eps / 4}, eps=eps, norm="inf", max_iter=3,
            delta=0.1, batch_size=128, verbose=False,
        )  # fmt: skip
        theirs, _ = _timed(lambda one=one: one.generate(train[0].numpy(), train[1].numpy()))
        noise = torch.from_numpy(one.noise).view(1, *IMAGE)
        rates = [(told != held).double().mean().item() for told in (got, net((x + noise).clamp(0, 1)).argmax(1))]
        rows.append((eps, *(f"{rate:.2f}" for rate in rates), reach, f"{seconds:.1f}", f"{theirs:.1f}"))
    head = ("eps", "ours fools", "ART fools", "reach", "ours s", "ART s")
    show("Universal perturbation of 500 training images, share of 1,000 held-out answers changed", head, rows)


def _universal(net: nn.Module, one: Attack, train: tuple[Tensor, Tensor], x: Tensor, held: Tensor) -> Tensor:
    swift = laid_out(net)
    learned = prepared(one, lambda x, rows: swift(x), *train)
    return attacked(lambda x, rows: swift(x), x, held, learned).after


def curve(data: Dataset, epochs: int = 4, count: int = 20_000) -> None:
    """Adversarial training as a run does it, on one experience, and what is left of it after each epoch."""
    dataset = replace(data, train=Part(data.train.x[:count], data.train.y[:count]))
    rows, text = [], "adversarial(pgd(0.1, steps=7), share=1)"
    for epoch in range(1, epochs + 1):  # each anew: an epoch's end is no end of a run that is longer
        run = Run(text, "split(fashion_mnist, 1)", "convnet(16, 32)", plan=Plan(epochs=epoch, batch_size=128))
        stream, learner, strategy = build(run, dataset)
        seconds, _ = _timed(lambda a=(stream, learner, strategy, run.plan): list(learn(*a)))
        x, y = pixels(data.test.x[:COUNT]), data.test.y[:COUNT]
        learner.model.eval()
        told = attack(learner.model, x, y, "pgd(0.1, steps=40)")
        rows.append((epoch, f"{100 * told.accuracy:.1f}", f"{100 * told.robust_accuracy:.1f}", f"{seconds:.0f}"))
    head = ("epochs", "clean %", "PGD-40 %", "seconds")
    show(f"{text}, convnet(16, 32), {count} images of Fashion-MNIST, 1,000 test images", head, rows)


def continual(seeds: int = 5, home: str = "") -> None:
    """What no library of attacks prints: what is left of old experiences under attack.

    Also the differences of two strategies, seed by seed: both met the same batches and began at the same weights.
    home: where runs are kept and gone on with; without it a temporary folder.
    """
    hard = "adversarial(pgd(steps=7), eps=0.1)"
    strategies = ("naive", f"naive + {hard}", "rehearsal(1000)", f"rehearsal(1000) + {hard}")
    with nullcontext(home) if home else tempfile.TemporaryDirectory() as folder:
        made = compare(
            strategies, "split(fashion_mnist)", seeds, model="convnet(16, 32)", steps=150, batch_size=64,
            attacks=["pgd(0.1, steps=40)"], attack_samples=100, home=folder, here=True, tracking=False,
        )  # fmt: skip
    told = [[_left(o) for o in group] for group in made.by_method().values()]  # as they were asked for
    names = made.by_method().keys()
    head = ("accuracy %", "under PGD-40 %", "of it on old experiences %", "robust forgetting %")
    rows = [(name, *_intervals(each)) for name, each in zip(names, told, strict=True)]
    show(f"split(fashion_mnist), class-incremental, 150 steps of 64, {seeds} seeds", ("strategy", *head), rows)
    pairs = [
        ("rehearsal: adversarial - not", 3, 2),
        ("naive: adversarial - not", 1, 0),
        ("adversarial: rehearsal - naive", 3, 1),
    ]
    rows = [(name, *_intervals([_minus(*pair) for pair in zip(told[a], told[b], strict=True)])) for name, a, b in pairs]
    show("differences, paired by seed", ("difference", *head), rows)


def _left(outcome: Outcome) -> tuple[float, ...]:
    """Of one run at its end: accuracy, and under the attack accuracy, that on old experiences alone, forgetting."""
    ((last, under),) = ((m[-1], robustness(outcome.rows)[text]) for text, m in outcome.under().items())
    old = sum(last[:-1]) / len(last[:-1])
    return outcome.metrics()["accuracy"], under["robust_accuracy"], old, under["robust_forgetting"]


def _minus(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(one, other, strict=True))


def _intervals(each: Sequence[tuple[float, ...]]) -> tuple[str, ...]:
    return tuple(percent(Interval.of(column)) for column in zip(*each, strict=True))


def robust(nets: dict[str, nn.Module], data: Dataset) -> None:
    rows, (x, y) = [], (pixels(data.test.x), data.test.y)
    for kind, net in nets.items():
        clean = _right(net, x, y)
        told = attack(net, x, y, "pgd(0.1, steps=40)").robust_accuracy
        rows.append((kind, f"{clean:.1f}", f"{100 * told:.1f}", "" if kind == "natural" else ">= 85 and >= 62"))
    show("Fashion-MNIST, 10,000 test images", ("network", "clean %", "PGD-40 %", "reach"), rows)


def every(nets: dict[str, nn.Module], x: Tensor, y: Tensor, count: int = 100) -> None:
    """All attacks at their defaults."""
    x, y, rows = x[:count], y[:count], []
    for text in ("fgsm", "bim", "least_likely", "pgd", "pgd(1, norm='l2')", "pgd(10, norm='l1')", "deepfool",
                 "spatial", "perceptual", "square", "hop_skip_jump", "worst"):  # fmt: skip
        for kind, net in nets.items():
            seconds, got = _timed(lambda net=net, text=text: attack(net, x, y, text))
            told = got.measures()
            cells = [f"{told[f'mean_{name}']:.2f}" for name in ("l0", "l2", "linf")]
            rows.append(
                (text, kind, f"{100 * told['robust_accuracy']:.0f}", *cells, f"{told['queries']:.0f}", f"{seconds:.1f}")
            )
    head = ("attack", "network", "robust %", "mean L0", "mean L2", "mean L-infinity", "queries", "seconds")
    show(f"Every attack at its defaults, {count} images", head, rows)


def _present(peers: dict[str, Theirs]) -> dict[str, Theirs]:
    return {name: peer for name, peer in peers.items() if name != "torchattacks" or _there(name)}


def _there(package: str) -> bool:
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"{package} is not there and left out; see the head of this file")
    return found


def _batches(x: Tensor, y: Tensor):
    return zip(x.split(128), y.split(128), strict=True)


def _fooled(net: nn.Module, x: Tensor, found: Tensor, y: Tensor) -> tuple[str, str]:
    """Of the images that are right, which a fresh forward pass answers wrongly, and how far those were moved."""
    with torch.no_grad():
        right = net(x).argmax(1) == y
        wrong = right & (net(found).argmax(1) != y)
    size = (found - x).flatten(1).norm(dim=1)[wrong].mean().item()
    return f"{100 * (wrong.sum() / right.sum()).item():.1f}", f"{size:.4f}"


def _right(net: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return 100 * torch.cat([net(part).argmax(1) == own for part, own in _batches(x, y)]).double().mean().item()


def _timed(call):
    start = time.perf_counter()
    made = call()
    return time.perf_counter() - start, made


def _first(pair):
    return pair[0]


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = read("fashion_mnist", DATASETS).load(Places())
    torch.set_num_threads(2)
    nets = {"natural": trained(data, False), "adversarial": trained(data, True)}
    torch.set_num_threads(1)
    x, y = pixels(data.test.x[:COUNT]), data.test.y[:COUNT]
    robust(nets, data)
    pgd(nets, x, y)
    universal(nets, data, x, y)
    cw(nets, x, y)
    one_pixel(nets, x, y)
    continual()
    curve(data)
    every(nets, x, y)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    {"continual": continual, "all": main}[sys.argv[1] if sys.argv[1:] else "all"](*map(int, sys.argv[2:]))

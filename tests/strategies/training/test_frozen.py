"""What is frozen (requires_grad=False) stays as it is to the bit, whatever learns around it."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perdure.strategies.blocks.fisher import diagonal_fisher
from perdure.strategies.generators.autoencoder import Autoencoder
from perdure.strategies.generators.base import Data, Nets
from perdure.strategies.generators.diffusion import Diffusion
from perdure.strategies.generators.variational import VAE
from perdure.strategies.learner import Learner
from perdure.strategies.methods.gpm import layer_inputs
from perdure.strategies.models.winners import Winners
from perdure.strategies.names import strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training import cuda_graphs, loop
from perdure.strategies.training.cuda_graphs import steps_of
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD, Adam, AdamW
from perdure.strategies.training.plan import Plan
from perdure.strategies.training.requirements import Caution
from perdure.testing.equality import near
from perdure.testing.streams import blobs

from ...examples import EXAMPLES, NEEDS_TASKS, PLAIN, RESTING, WINNERS
from ..replicas.test_loop import alone, assert_same, together
from .tape import Tape

PLAN = Plan(epochs=1, batch_size=20)
OPTIMIZERS = (SGD(0.02, momentum=0.9, weight_decay=0.1), Adam(0.01, weight_decay=0.1), AdamW(0.01, weight_decay=0.1))
pytestmark = pytest.mark.filterwarnings("ignore::perdure.strategies.training.requirements.Caution")


def partly(name, stream, seed=0, optimizer=None):
    """A learner whose middle layer and first normalisation are frozen."""
    torch.manual_seed(seed)
    plain = name in (*PLAIN, *RESTING)
    norm = nn.Identity() if plain else nn.BatchNorm1d(32)
    active = Winners(0.5, 32, boost=0.5) if name in WINNERS else nn.ReLU()
    body = [nn.Flatten(), nn.Linear(16, 32), norm, active, nn.Dropout(0.2), nn.Linear(32, 16), nn.ReLU()]
    net = nn.Sequential(*body, nn.Linear(16, stream.classes.shape[1]))
    net[2].requires_grad_(False)
    net[5].requires_grad_(False)
    optimizer = optimizer or (SGD(0.01, momentum=0.9) if plain else Adam(0.01))
    return Learner(net, optimizer, Rng(seed))


def of(name):
    return blobs(tasks=2, n=60, protocol="task" if name in NEEDS_TASKS else "class")


def still(state):
    return {k: v for k, v in state.items() if k.startswith(("2.", "5."))}


def held(one, stones):
    """That what is frozen has its first bits at every milestone, and the rest has not."""
    first = one.snapshot()
    for stone in stones:
        now = stone.checkpoint["model"]
        assert all(torch.equal(v, now[k]) for k, v in still(first).items())
    assert all(not torch.equal(first[f"{layer}.weight"], now[f"{layer}.weight"]) for layer in (1, 7))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_strategy_leaves_it_as_it_is(name):
    stream = of(name)
    optimizers = [SGD(0.01, momentum=0.9)] if name in (*PLAIN, *RESTING) else OPTIMIZERS
    for optimizer in optimizers:
        one = partly(name, stream, 0, optimizer)
        held(partly(name, stream), learn(stream, one, EXAMPLES[name], PLAN))
        assert all(p.grad is None for k, p in one.model.named_parameters() if k not in one.params)


@pytest.mark.parametrize("name", EXAMPLES)
def test_replicas_together_come_to_the_bits_of_each_alone(name):
    stream, strategies = of(name), [EXAMPLES[name]] * 2
    make = partial(partly, name, stream)
    found = together(stream, make, strategies, PLAN)
    assert_same(found, alone(stream, make, strategies, PLAN))
    held(make(1), found[1])


@pytest.mark.parametrize("which", ["weight", "bias", "first"])
def test_replicas_of_which_a_part_of_a_layer_is_frozen(which):
    stream, strategies = blobs(tasks=2, n=60, protocol="class"), [EXAMPLES["rehearsal(30)"]] * 3

    def make(n):
        torch.manual_seed(n)
        net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
        for name, p in net.named_parameters():
            p.requires_grad_(not (name.startswith("0.") if which == "first" else name in (f"0.{which}", f"4.{which}")))
        return Learner(net, Adam(0.01, keep=True), Rng(n))

    marked = together(stream, make, strategies, PLAN, due=lambda: True)
    assert_same(marked, alone(stream, make, strategies, PLAN, due=lambda: True))
    rest = together(stream, make, strategies, PLAN, [stones[4].checkpoint for stones in marked])
    assert_same([r[-1:] for r in rest], [m[-1:] for m in marked])


def test_replicas_that_freeze_different_weights_are_refused():
    stream = of("naive")
    learners = [partly("naive", stream, n) for n in range(2)]
    learners[1] = Learner(learners[1].model.requires_grad_(True), Adam(0.01), Rng(1))
    with pytest.raises(ValueError, match="that freeze the same weights"):
        together(stream, lambda n: learners[n], [EXAMPLES["naive"]] * 2, PLAN)


def test_steps_that_are_captured_compiled_or_made_in_parts(monkeypatch):
    stream = of("naive")
    plain = partly("naive", stream)
    for plan in (Plan(1, 20, accumulate=2), Plan(1, 20, precision="bfloat16")):
        held(plain, learn(stream, partly("naive", stream), EXAMPLES["ewc(10, samples=64)"], plan))
    monkeypatch.setattr(cuda_graphs, "GPU", "cpu")
    monkeypatch.setattr(cuda_graphs, "WORTH", 1)
    monkeypatch.setattr(cuda_graphs, "DRAWING", ())
    monkeypatch.setattr(loop, "steps_of", partial(steps_of, graphs=Tape))
    Tape.replays, one = 0, partly("naive", stream)
    one.model.register_module("4", nn.Identity())  # a tape draws nothing
    held(plain, learn(stream, one, EXAMPLES["si"], Plan(6, 20)))
    assert Tape.replays > 0


@pytest.mark.filterwarnings("default")
def test_a_compiled_model():
    stream = of("naive")
    held(partly("naive", stream), learn(stream, partly("naive", stream), EXAMPLES["naive"], Plan(1, 20, compiled=True)))


def test_a_frozen_normalisation_goes_by_its_running_statistics():
    """And whatever else has no weights goes on as before."""
    stream = of("naive")
    one = partly("naive", stream)
    net = one.model
    assert isinstance(net, nn.Sequential) and isinstance(net[2], nn.BatchNorm1d)
    net[2].register_buffer("running_mean", torch.full((32,), 0.3))
    one.train()
    assert [m.training for m in net] == [True, True, False, True, True, False, True, True]
    x = torch.randn(8, 32)
    torch.testing.assert_close(net[2](x), (x - 0.3) / (1 + 1e-5) ** 0.5)
    with one.resting():
        assert not any(m.training for m in one.model.modules())
    assert [m.training for m in net] == [True, True, False, True, True, False, True, True]


def test_workers_end_where_one_ends(tmp_path):
    names = ("ewc(10, samples=64)", "adversarial(pgd(steps=2), eps=0.1, warmup=0.5)")
    found = {}
    for size in (1, 2):
        folder = tmp_path / str(size)
        folder.mkdir()
        line = [sys.executable, "-m", "tests.strategies.training.test_frozen"]
        workers = [subprocess.Popen([*line, str(n), str(size), str(folder), *names]) for n in range(size)]
        assert [worker.wait() for worker in workers] == [0] * size
        found[size] = torch.load(folder / "0.pt", weights_only=True)
    for name in names:
        first, last = found[2][name]
        assert near(found[1][name][1], last, 1e-8)
        assert all(torch.equal(v, last[k]) for k, v in still(first).items())


def test_the_importance_of_what_is_learned_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5),
        nn.ReLU(), nn.Linear(5, 3),
    ).double()  # fmt: skip
    for layer in (0, 1):
        net[layer].requires_grad_(False)
    net[3].bias.requires_grad_(False)
    net[6].weight.requires_grad_(False)
    stream = blobs(tasks=1, n=24, dim=36, protocol="class")
    train = stream[0].train
    some = train.some(24, torch.Generator().manual_seed(0))
    one = Learner(net, SGD(0.1), Rng(0))

    def shaped(x):
        return x.view(-1, 1, 6, 6).double()

    one.outputs = lambda x, task, params=None: Learner.outputs(one, shaped(x), task, params)
    told = diagonal_fisher(one, some, torch.Generator(), labels="data")
    net.eval()
    plain = {k: torch.zeros_like(p) for k, p in one.params.items()}
    for x, y in zip(train.batch(torch.arange(24)).x, train.batch(torch.arange(24)).y, strict=True):
        loss = F.cross_entropy(net(shaped(x)), y[None])
        for k, g in zip(one.params, torch.autograd.grad(loss, list(one.params.values())), strict=True):
            plain[k] += g.square() / 24
    assert set(told) == {"3.weight", "6.bias", "8.weight", "8.bias"}
    torch.testing.assert_close(told, plain)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_projected_gradients_of_half_a_layer_leave_past_outputs_where_they_were(frozen):
    torch.manual_seed(0)
    stream = blobs(tasks=2, n=40, dim=64, protocol="domain")
    net = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 2))
    getattr(net[0], frozen).requires_grad_(False)
    one = Learner(net, SGD(0.1), Rng(0))
    method = strategy("gpm(1, samples=40)")
    stones = learn(stream, one, method, Plan(3, 20))
    state = next(stones).checkpoint["strategy"]
    assert set(layer_inputs(one, stream[0].train.draw(3, torch.Generator()))) == {"0", "2"}
    past = stream[0].train.batch(torch.arange(40))
    before, first = one.outputs(past.x, past.task).detach(), one.snapshot()
    next(stones)
    torch.testing.assert_close(one.outputs(past.x, past.task), before, rtol=0, atol=1e-5)
    moved = [k for k, v in one.snapshot().items() if not torch.equal(v, first[k])]
    assert f"0.{frozen}" not in moved and ("0.weight" in moved) == (frozen == "bias")
    assert state["bases"]["0"].shape[0] == {"weight": 1, "bias": 64}[frozen]


def test_a_generator_whose_networks_are_frozen_in_part():
    class Half(VAE):
        def networks(self, shape, conditions):
            nets = super().networks(shape, conditions)
            next(nets["decoder"].children())[0].requires_grad_(False)
            return nets

    data = Data(torch.rand(60, 6), torch.zeros(60, dtype=torch.int64))
    one = Half(latent=2, hidden=(8,), steps=30, batch_size=20)
    first = one.built((6,), 1, torch.device("cpu"), Rng(0)).state_dict()
    state = one.fit(data, Rng(0))
    apart = {k for k, v in state["nets"].items() if not torch.equal(v, first[k])}
    assert set(first) - apart == {"decoder.body.0.weight", "decoder.body.0.bias"}


@pytest.mark.parametrize("kind", [Autoencoder, Diffusion])
def test_a_generator_whose_network_answers_with_another_shape(kind):
    class Tall(nn.Module):
        def __init__(self, own):
            super().__init__()
            self.own = own

        @property
        def moment(self):
            return self.own.moment

        def raw(self, z):
            return self.own.raw(z)[:, None]

        def forward(self, *given):
            return self.own(*given)[:, None]

    class Odd(kind):
        def networks(self, shape, conditions):
            nets = super().networks(shape, conditions)
            name = "decoder" if kind is Autoencoder else "denoiser"
            return Nets({**nets, name: Tall(nets[name])})

    data = Data(torch.rand(60, 6), torch.zeros(60, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \(20, 1, 6\), which would be broadcast"):
        Odd(steps=2, batch_size=20).fit(data, Rng(0))


def test_where_everything_is_frozen_nothing_can_be_learned():
    stream = of("naive")
    one = partly("naive", stream)
    with pytest.raises(ValueError, match="every weight of the model is frozen.*leave those of one layer"):
        next(learn(stream, Learner(one.model.requires_grad_(False), SGD(0.1), Rng(0)), EXAMPLES["naive"], PLAN))


def main(rank: int, size: int, folder: Path, names: list[str]) -> None:
    """One of the workers that learn together."""
    import warnings

    import torch.distributed as dist

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore", Caution)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    made = {}
    for name in names:
        one = partly(name, of(name), 0, SGD(0.02, momentum=0.9))
        first = one.snapshot()
        made[name] = first, list(learn(of(name), one, EXAMPLES[name], PLAN))[-1].checkpoint["model"]
    torch.save(made, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])

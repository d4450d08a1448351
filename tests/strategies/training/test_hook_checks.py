"""Hooks that return what they must not are named, with what was expected and what came; alone and together."""

import re
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import nn

from perdure.strategies.attacks.base import Attack
from perdure.strategies.attacks.evaluate import attacked
from perdure.strategies.base import Naive, Strategy
from perdure.strategies.generators.base import Data, Generator, Nets
from perdure.strategies.meta.base import task_loss
from perdure.strategies.meta.loop import MetaPlan, meta_learn
from perdure.strategies.meta.maml import Reptile
from perdure.strategies.methods.ewc import EWC
from perdure.strategies.methods.rehearsal import Rehearsal
from perdure.strategies.numerics import savable
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.numerics.shape_errors import WrongReturn
from perdure.strategies.replicas.loop import Alone, learn_together
from perdure.strategies.training import loop
from perdure.strategies.training.cuda_graphs import steps_of
from perdure.strategies.training.hook_checks import Looked
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Plan
from perdure.streams.episodes import Sinusoid
from perdure.streams.experience import Batch
from perdure.streams.storage.directories import Places
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from .tape import Tape

PLAN = Plan(epochs=1, batch_size=20)
NAN = float("nan")


@dataclass(frozen=True)
class Mine(Strategy):
    """One of whose hooks returns something else from some experience on."""


def mine(hook, wrong, then=False):
    """A strategy whose `hook` returns wrong(*what it is given); from the second experience on where `then`."""

    def own(self, *given):
        right = getattr(Naive(), hook)(*given)
        if then and not (isinstance(given[-1], dict) and given[-1].get("past")):
            return {"past": True} if hook == "consolidate" else right
        return wrong(*given)

    body = {hook: own}
    if then and hook != "consolidate":
        body["consolidate"] = lambda self, learner, experience, state: {"past": True}
    return dataclass(frozen=True)(type("Mine", (Strategy,), body))()


def fresh(seed=0, classes=6):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, classes))
    return loop.Learner(net, SGD(0.1), Rng(seed))


WRONG = {
    "init": [
        (lambda learner: None, "Mine.init must return a state of .*; got None, as from a function without return"),
        (lambda learner: "state", "got 'state'"),
        (lambda learner: {"f": print}, r"cannot be saved: state\['f'\] is a builtin_function_or_method"),
        (
            lambda learner: dict(learner.params),
            "a copy of the weights; got state.'1.weight'., which is weight 1.weight",
        ),
        (lambda learner: {"m": torch.tensor([NAN])}, r"got NaN in state\['m'\]"),
    ],
    "augment": [
        (lambda learner, b, s: None, "Mine.augment must return a Batch .x, y, task, weight.; got None"),
        (lambda learner, b, s: tuple(b), "got a tuple"),
        (lambda learner, b, s: b._replace(y=b.y[:1]), r"must return x of its batch as \(1, 16\) float32"),
        (lambda learner, b, s: b._replace(x=b.x.double()), r"as \(20, 16\) float32 on cpu; got .*float64"),
        (lambda learner, b, s: b._replace(x=b.x * NAN), "finite numbers; got NaN or an infinity in x"),
        (lambda learner, b, s: b._replace(y=b.y + 6), "y of its batch from 0 to 5; got from 6"),
        (lambda learner, b, s: b._replace(task=b.task - 1), "task of its batch from 0 to 2; got from -1"),
        (lambda learner, b, s: b._replace(weight=b.weight[:, None]), "weight of its batch"),
        (lambda learner, b, s: Batch(*(part[:0] for part in b)), "one sample at least; got none"),
    ],
    "penalty": [
        (lambda learner, b, o, s: None, "Mine.penalty must return a number or a .. tensor; got None"),
        (lambda learner, b, o, s: o.sum(1), r"got a tensor \(20,\) float32"),
        (lambda learner, b, o, s: o.sum() * NAN, "finite"),
        (lambda learner, b, o, s: True, "got True"),
    ],
    "steer": [
        (lambda learner, g, s: {}, "Mine.steer must return a gradient for every weight .* lacks 1.bias, 1.weight, 3"),
        (lambda learner, g, s: None, "a dict with a gradient for every weight; got None"),
        (lambda learner, g, s: g | {"other": g["1.bias"]}, "has other beside"),
        (lambda learner, g, s: {k: v.sum() for k, v in g.items()}, r"a gradient of 1.weight as .* got \(\) float32"),
        (lambda learner, g, s: {k: v * NAN for k, v in g.items()}, "finite numbers; got NaN .* the gradient of 1"),
        (lambda learner, g, s: {k: v.double() for k, v in g.items()}, "float64"),
    ],
    "consolidate": [
        (lambda learner, e, s: None, "Mine.consolidate must return a state"),
        (lambda learner, e, s: {"a": [1, {"f": lambda: 0}]}, r"state\['a'\]\[1\]\['f'\] is a function"),
        (lambda learner, e, s: {print: 1}, "a key of state is a builtin_function_or_method"),
        (
            lambda learner, e, s: {"g": learner.params["1.bias"].sum()},
            "carries the graph it was computed by; detach it",
        ),
    ],
    "answer": [
        (lambda learner, b, o, s: o[:1], r"Mine.answer must return outputs \(B, C\) as \(\d+, 6\) .* got \(1, 6\)"),
        (lambda learner, b, o, s: o.argmax(1), "int64"),
        (lambda learner, b, o, s: o * NAN, "NaN among them"),
    ],
    "describe": [
        (lambda learner, s: None, "Mine.describe must return a dict of numbers by name; got None"),
        (lambda learner, s: {"a": torch.ones(2)}, r"got a tensor \(2,\) float32 under 'a'"),
    ],
    "carried": [(lambda s: None, "Mine.carried must return a state")],
    "curriculum": [(lambda stream: None, "Mine.curriculum must return a Stream; got None")],
}
CASES = [(hook, wrong, why) for hook, pairs in WRONG.items() for wrong, why in pairs]
LATER = [case for case in CASES if case[0] in ("augment", "penalty", "steer", "consolidate", "answer")]


@pytest.mark.parametrize(("hook", "wrong", "why"), CASES)
def test_what_a_hook_must_not_return_is_named(hook, wrong, why):
    with pytest.raises(WrongReturn, match=why) as raised:
        list(learn(blobs(), fresh(), mine(hook, wrong), PLAN))
    assert re.search(r"\(test_hook_checks.py, line \d+\)$", str(raised.value))


@pytest.mark.parametrize(("hook", "wrong", "why"), LATER)
def test_so_it_is_once_there_is_a_past_and_among_others(hook, wrong, why):
    strategy, reached = Rehearsal(10) + mine(hook, wrong, then=True) + EWC(1.0), []
    with pytest.raises(WrongReturn, match=f"Mine.{hook}"):
        for stone in learn(blobs(), fresh(), strategy, PLAN):
            reached.append(stone)
    assert len(reached) == (hook != "answer") or hook == "answer"


@pytest.mark.parametrize(("hook", "wrong", "why"), [case for case in CASES if case[0] != "curriculum"])
def test_together_it_is_the_first_replica_that_is_to_blame(hook, wrong, why):
    strategy = mine(hook, wrong)
    with pytest.raises(Alone) as raised:
        list(learn_together(blobs(), [fresh(0), fresh(1)], [strategy] * 2, PLAN))
    assert isinstance(raised.value.__cause__, WrongReturn) and re.search(why, str(raised.value.__cause__))


def test_captured_steps_are_looked_at_too(monkeypatch):
    monkeypatch.setattr(loop, "steps_of", partial(steps_of, graphs=Tape))
    monkeypatch.setattr("perdure.strategies.training.cuda_graphs.GPU", "cpu")
    strategy = mine("steer", lambda learner, grads, state: {})
    monkeypatch.setattr(type(strategy), "still", True)
    with pytest.raises(WrongReturn, match=r"Mine.steer"):
        list(learn(blobs(), fresh(), strategy, replace(PLAN, steps=40)))


def test_hooks_are_looked_at_in_the_first_steps_alone_and_to_the_same_bits(monkeypatch):
    seen = []
    plain = Looked.penalty
    monkeypatch.setattr(Looked, "penalty", lambda self, *given: (seen.append(1), plain(self, *given))[1])
    stream = blobs(tasks=4)
    one = list(learn(stream, fresh(0, 8), EWC(1.0), PLAN))
    assert len(seen) == loop.LOOKS
    monkeypatch.setattr(loop, "LOOKS", 0)
    monkeypatch.setattr(loop, "looked", lambda strategy: strategy)
    assert same(list(learn(stream, fresh(0, 8), EWC(1.0), PLAN))[-1].checkpoint, one[-1].checkpoint)


def test_what_can_be_saved_reads_back(tmp_path):
    state = {"a": (torch.ones(2), [1, 2.0, True, None, "text", b"bytes"]), 3: {"shape": torch.Size([1, 2])}, (0, 1): 1j}
    assert savable.problem(state) == ""
    torch.save(state, tmp_path / "state.pt")
    assert same(torch.load(tmp_path / "state.pt", weights_only=True), state)


def test_an_attack_returns_samples_like_those_it_was_given():
    @dataclass(frozen=True)
    class Own(Attack):
        how: int = 0

        def perturb(self, victim, x, y, chance):
            return (x[:1], x * NAN, x.double())[self.how]

    x, y = torch.rand(6, 3), torch.zeros(6, dtype=torch.int64)
    whys = [r"Own.perturb must return samples as \(6, 3\).*got \(1, 3\)", "finite samples; got NaN", "float64"]
    for how, why in enumerate(whys):
        with pytest.raises(WrongReturn, match=why):
            attacked(lambda x, rows: torch.tensor([1.0, 0.0]) + 0 * x[:, :2], x, y, Own(how))


def test_a_generator_draws_samples_of_the_shape_it_was_fitted_to():
    @dataclass(frozen=True, kw_only=True)
    class Own(Generator):
        wrong: str = ""

        def networks(self, shape, conditions):
            return Nets({"mean": nn.Linear(1, 4)})

        def updates(self, nets, data, rng, start):
            while True:
                yield {"loss": torch.zeros(3)} if self.wrong == "updates" else {"loss": torch.zeros(())}

        def drawn(self, nets, n, y, rng, state):
            return torch.zeros(1, 4)

    data = Data(torch.rand(8, 4), torch.zeros(8, dtype=torch.int64))
    state = Own(steps=2, batch_size=4).fit(data, Rng(0))
    with pytest.raises(WrongReturn, match=r"Own.drawn must return samples as \(3, 4\).*got \(1, 4\)"):
        Own().sample(state, 3, Rng(0))
    with pytest.raises(WrongReturn, match=r"Own.updates must return \(\) losses .*got a tensor \(3,\)"):
        Own(steps=2, batch_size=4, wrong="updates").fit(data, Rng(0))


WRONG_META = {
    "init": (lambda own, weights, chance: None, "Own.init must return weights by name.*got None"),
    "part": (lambda own, weights, chance: weights, "as part '"),
    "told": (lambda own, given: ({"other": given[0]["weights"]}, given[1]), "gradients of the parts 'weights'; got"),
    "names": (lambda own, given: ({"weights": dict(list(given[0]["weights"].items())[:1])}, given[1]), "lacks"),
    "shape": (
        lambda own, given: ({"weights": {k: v.sum() for k, v in given[0]["weights"].items()}}, given[1]),
        r"Own.told must return a gradient of .* got \(\)",
    ),
}


@pytest.mark.parametrize("name", WRONG_META)
def test_a_meta_learner_returns_gradients_like_its_weights(name):
    wrong, why = WRONG_META[name]

    class Own(Reptile):
        def init(self, weights, chance):
            return wrong(self, weights, chance) if name in ("init", "part") else super().init(weights, chance)

        def told(self, loss, learned, task):
            given = super().told(loss, learned, task)
            return given if name in ("init", "part") else wrong(self, given)

    model = nn.Linear(1, 1)
    tasks, loss = Sinusoid(5, 7).tasks(Places()), task_loss(model, nn.functional.mse_loss)
    with pytest.raises(WrongReturn, match=why):
        list(meta_learn(tasks, model, loss, Own(), SGD(0.1), MetaPlan(2, 2), Rng(0)))

"""Names of one's own: every kind, and what is refused."""

from dataclasses import dataclass, make_dataclass

import pytest
import torch
from torch import nn

import perdure
from perdure.notation import NotationError
from perdure.strategies import registry
from perdure.strategies.attacks.names import attack, threat
from perdure.strategies.attacks.pgd import FGSM
from perdure.strategies.attacks.threats import White
from perdure.strategies.base import Strategy
from perdure.strategies.generators.names import generator
from perdure.strategies.generators.variational import VAE
from perdure.strategies.meta.losses import Huber
from perdure.strategies.meta.maml import MAML
from perdure.strategies.meta.names import loss, meta_learner
from perdure.strategies.names import model, optimizer, spelled, strategy
from perdure.streams.datasets.digits import Digits
from perdure.streams.episodes import Sinusoid
from perdure.streams.live.folder import Folder
from perdure.streams.names import episode_recipe, live_source, stream_recipe
from perdure.streams.scenarios.split import ClassSplit


@pytest.fixture(autouse=True)
def known():
    """What a test registers goes with it."""
    groups = [*(names for _, _, names in registry.KINDS), registry.YIELDING]
    before = [dict(names) for names in groups]
    yield
    for names, was in zip(groups, before, strict=True):
        names.clear()
        names.update(was)


@pytest.mark.parametrize(
    "kind, read, text",
    [
        (Strategy, strategy, "mine"),
        (MAML, meta_learner, "mine(0.5)"),
        (Huber, loss, "mine(0.5)"),
        (VAE, generator, "mine"),
        (FGSM, attack, "mine(0.2)"),
        (White, threat, "mine"),
        (ClassSplit, stream_recipe, "mine(digits)"),
        (Sinusoid, episode_recipe, "mine(5)"),
        (Digits, lambda text: stream_recipe(f"split({text})").source(), "mine"),
        (Folder, live_source, "mine('inbox')"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_subclass_goes_where_its_kind_is_named(kind, read, text):
    cls = make_dataclass("Mine", (), bases=(kind,), frozen=True)
    assert perdure.register("mine", cls) is cls
    assert type(read(text)) is cls
    perdure.register("mine", cls)  # as when its file is read again


def test_a_function_makes_a_model():
    def tiny(shape, classes):
        """One layer."""
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))

    assert perdure.register("tiny", tiny) is tiny
    assert spelled(model("tiny")) == "tiny" and type(model("tiny")).__doc__ == "One layer."
    assert model("tiny").build((1, 2, 2), 3)(torch.zeros(5, 1, 2, 2)).shape == (5, 3)
    with pytest.raises(NotationError, match="tiny takes no arguments"):
        model("tiny(3)")


def test_what_is_called_on_parameters_is_an_optimizer():
    @dataclass(frozen=True)
    class Slow:
        lr: float = 1e-4

        def __call__(self, params):
            return torch.optim.SGD(params, self.lr)

    perdure.register("slow", Slow)
    assert optimizer("slow(0.5)")([nn.Parameter(torch.zeros(1))]).defaults["lr"] == 0.5


def test_other_things_and_taken_names_are_refused():
    for other in (nn.Linear, make_dataclass("Plain", ["x"], frozen=True)):
        with pytest.raises(ValueError, match=f"expected a frozen dataclass .* got {other.__name__}"):
            perdure.register("mine", other)
    for name, owner in (("ewc", "EWC"), ("vae", "VAE"), ("mlp", "MLP"), ("digits", "Digits")):
        with pytest.raises(ValueError, match=f"belongs to {owner} already"):
            perdure.register(name, make_dataclass("Mine", (), bases=(Strategy,), frozen=True))
    with pytest.raises(ValueError, match="must be an identifier"):
        perdure.register("my strategy", Strategy)

"""Poison put into a memory: exactly as much as it says, once, and met again and again."""

import pytest
import torch

from perdure.strategies.learner import Learner
from perdure.strategies.methods.memory_poisoning import _memories
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places


def stones(text, on="split(digits)"):
    recipe = stream_recipe(on)
    stream = recipe.arrange(recipe.source().load(Places(None)))
    torch.manual_seed(0)
    learner = Learner(model("mlp(64)").build(stream.shape, 10), Adam(0.005), Rng(0))
    return list(learn(stream, learner, strategy(text), Plan(epochs=3, batch_size=32)))


@pytest.mark.parametrize("kept", ["rehearsal(200)", "der(200)", "icarl(200)"])
def test_a_share_of_the_memory_is_turned_after_the_experience_and_not_before(kept):
    def memory(stone):
        (held,) = _memories(stone.checkpoint["strategy"])
        return held

    clean, tainted = stones(kept), stones(f"tainted({kept}, target=3, share=0.25, size=2, at=1)")
    assert clean[0].accuracy == tainted[0].accuracy and clean[1].accuracy == tainted[1].accuracy
    before, after = (memory(s[1]) for s in (clean, tainted))
    turned = before["y"] != after["y"]
    assert int(turned.sum()) == round(0.25 * int((before["y"] != 3).sum())) and (after["y"][turned] == 3).all()
    assert torch.equal((before["x"] != after["x"]).flatten(1).any(1), turned)
    assert (after["x"][turned][:, :, -3:-1, -3:-1] == 255).all()
    assert sum(tainted[-1].accuracy) < sum(clean[-1].accuracy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tainted(ewc(1))", "EWC remembers no samples"),
        ("tainted(rehearsal(50), target=9)", "no class 9 after experience 0"),
        ("tainted(rehearsal(50), at=5)", "experiences 0 to 4"),
        ("tainted(rehearsal(50), share=2)", "expected share in"),
        ("tainted(mlp(3))", "unknown name 'mlp'"),
        ("tainted(avalanche('Replay'))", "expected a strategy with a memory"),
    ],
)
def test_what_cannot_be_tainted_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        stones(text)

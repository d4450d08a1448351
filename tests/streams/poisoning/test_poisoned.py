"""Poisoned streams: exactly what the receipt says was tampered with, and a back door that opens."""

import pytest
import torch

import perdure
from perdure.strategies.learner import Learner
from perdure.strategies.names import model, strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Plan
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places


def loaded(text):
    recipe = stream_recipe(text)
    dataset = recipe.source().load(Places())
    return recipe, dataset, recipe.arrange(dataset)


@pytest.mark.parametrize(
    ("text", "touched"),
    [
        ("flipped(split(digits), share=0.2)", range(5)),
        ("flipped(split(digits), share=0.5, of=3, target=2)", [1]),
        ("flipped(permuted(digits, 3, protocol='domain'), share=0.5, of=3, target=8, at=(1,))", [1]),
        ("backdoored(split(digits), target=4, share=0.3)", [2]),
        ("backdoored(permuted(digits, 3, protocol='domain'), target=4, share=0.3, at=(0, 2))", [0, 2]),
    ],
)
def test_what_changed_is_what_the_receipt_says(text, touched):
    recipe, dataset, stream = loaded(text)
    clean, receipt = recipe.stream.arrange(dataset), recipe.receipt(dataset)
    assert [t for t, rows in receipt.items() if len(rows)] == list(touched)
    for was, now in zip(clean, stream, strict=True):
        (x, y, task), (nx, ny, ntask) = was.train.everything(), now.train.everything()
        changed = (ny != y) | (nx != x).flatten(1).any(1)
        assert torch.equal(changed.nonzero().flatten(), receipt[was.index]) and torch.equal(task, ntask)
        assert torch.equal(was.test.everything().x, now.test.everything().x) and torch.equal(was.test.y, now.test.y)
        candidates = y != recipe.target if recipe.target is not None else torch.ones_like(y, dtype=torch.bool)
        if vars(recipe).get("of") is not None:
            candidates = y == recipe.of
        if was.index in touched:
            assert int(changed.sum()) == round(recipe.share * int(candidates.sum()))
        if recipe.target is not None:
            assert (ny[changed] == recipe.target).all()
        assert set(ny.tolist()) <= set(y.tolist())
    again = recipe.receipt(dataset)
    assert all(torch.equal(again[t], rows) for t, rows in receipt.items())


def test_another_seed_takes_others():
    (one, data, _), (two, _, _) = (loaded(f"flipped(split(digits), seed={s})") for s in (0, 1))
    assert not torch.equal(one.receipt(data)[0], two.receipt(data)[0])


def test_a_back_door_opens_and_clean_accuracy_is_kept():
    told = {}
    for text in ("split(digits, 1)", "backdoored(split(digits, 1), target=7, share=0.1)"):
        _, _, stream = loaded(text)
        torch.manual_seed(0)
        learner = Learner(model("mlp(64)").build(stream.shape, 10), Adam(0.01), Rng(0))
        (stone,) = learn(stream, learner, strategy("naive"), Plan(epochs=10, batch_size=32))
        test = stream[0].test.batch(torch.arange(len(stream[0].test)))
        opened = perdure.attack(learner.model, test.x, test.y, "trigger(7)").success
        told[text[:5]] = (stone.accuracy[0], opened)
    assert told["backd"][1] > 0.8 > 0.3 > told["split"][1]  # strokes of 2s and 3s lie where the trigger lies
    assert told["backd"][0] > told["split"][0] - 0.03


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flipped(split(digits), share=2)", "share must be in"),
        ("flipped(split(digits), of=3, target=3)", "of and target are both 3"),
        ("flipped(split(digits), of=3, target=7)", "experience 1 has no class 7"),
        ("flipped(split(digits, 10))", "one class only"),
        ("flipped(split(digits), at=(5,))", "experiences 0 to 4"),
        ("backdoored(split(digits), target=4, at=(0,))", "experience 0 has no class 4"),
        ("backdoored(split(digits), size=0)", "expected size >= 1"),
        ("backdoored(split(digits), size=9)", "a trigger of 9 pixels needs larger images"),
        ("backdoored(split(digits), target=-1)", "a target class from 0 on"),
    ],
)
def test_what_cannot_be_poisoned_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        list(loaded(text)[2])

"""What models are built of, and refuse."""

import pytest
import torch

from perdure.strategies.methods.gpm import layer_inputs
from perdure.strategies.names import model, spelled, strategy
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan
from perdure.testing.streams import blobs

from ..learners import batch_of, learner


def test_a_standardized_model_sees_every_channel_shifted_and_scaled():
    text = "standardized(convnet(4), (0.1, 0.2, 0.3), (1, 2, 4))"
    torch.manual_seed(0)
    whole = model(text).build((3, 8, 8), 5)
    torch.manual_seed(0)
    inner = model("convnet(4)").build((3, 8, 8), 5)
    x = torch.rand(6, 3, 8, 8)
    by_hand = torch.stack([(x[:, 0] - 0.1) / 1, (x[:, 1] - 0.2) / 2, (x[:, 2] - 0.3) / 4], 1)
    torch.testing.assert_close(whole(x), inner(by_hand))
    assert model(spelled(model(text))) == model(text)


def test_a_standardized_model_learns_with_strategies_that_look_into_layers():
    stream = blobs(2)
    one = learner(stream, text="standardized(mlp(20), 0.5, 0.25)")
    *_, last = learn(stream, one, strategy("rehearsal(20) + ewc(1) + gpm"), Plan(steps=40))
    assert last.accuracy[0] > 0.9 and last.extras["rank/1.1"] > 0
    x = batch_of(stream[0])[0]
    first, *_ = layer_inputs(one, stream[0].train).values()
    torch.testing.assert_close(first[:-1].T, (x - 0.5) / 0.25)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("standardized(3)", "expected a model first"),
        ("standardized(mlp, 0.5, 0)", "std must be above 0"),
        ("standardized(mlp, (0.5, 0.5), 1)", "have 1 channels, got 2"),
    ],
)
def test_standardized_refuses(text, why):
    with pytest.raises(ValueError, match=why):
        model(text).build((1, 8, 8), 3)

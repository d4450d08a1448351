"""Models by torch.compile: one compilation, of one tiny model, for all that is asked of it."""

import pytest
import torch

from perdure.strategies.learner import Learner
from perdure.strategies.names import strategy
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.compile import compiled, doubt
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Milestone, Plan
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ..learners import learner

PLAN = Plan(epochs=1, batch_size=50, compiled=True)  # batches of 50, 50 and 20, with rehearsal twice that


def test_a_compiled_run_learns_the_same_and_resumes_to_the_same_bits():
    stream, text = blobs(tasks=2), strategy("rehearsal(20)")
    one = learner(stream)
    stones = list(learn(stream, one, text, PLAN, due=lambda: True))
    assert one.compiled is not None
    plain = list(learn(stream, learner(stream), text, Plan(epochs=1, batch_size=50)))
    for name, value in plain[-1].checkpoint["model"].items():
        torch.testing.assert_close(stones[-1].checkpoint["model"][name], value, rtol=1e-4, atol=1e-5)
    within = next(s for s in stones if not isinstance(s, Milestone) and s.experience == 1 and s.step == 2)
    torch.compiler.reset()  # as in another process: what is met first now is the batch of 40
    rest = list(learn(stream, learner(stream), text, PLAN, within.checkpoint))
    assert same(rest[-1].checkpoint, stones[-1].checkpoint)


def test_hooks_are_refused():
    stream = blobs(tasks=2, protocol="task")
    with pytest.raises(ValueError, match="hooks"):
        list(learn(stream, learner(stream), strategy("xdg"), PLAN))


def test_a_single_sample_goes_through_the_plain_model():
    model = torch.nn.Linear(3, 2)
    forward, x = compiled(Learner(model, SGD(0.1), Rng(0))), torch.randn(1, 3)
    assert torch.equal(forward(x), model(x))


def test_it_says_where_compiling_does_not_pay_off():
    assert "CPU" in doubt(1_000_000, "cpu")
    assert "500 steps" in doubt(500, "cuda")
    assert doubt(100_000, "cuda") == ""

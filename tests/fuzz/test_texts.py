"""Every text that a user types: notations, search spaces, objectives, seeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import BadParameter

from perdure.jobs import options
from perdure.platform.runs.run import Run
from perdure.platform.search.objective import Objective
from perdure.platform.search.space import Space, Text
from perdure.strategies import names
from perdure.strategies.attacks.names import attack, threat
from perdure.strategies.generators.names import generator
from perdure.strategies.meta.names import loss, meta_learner
from perdure.strategies.names import STRATEGIES
from perdure.strategies.numerics.own_code import used
from perdure.streams.names import data_set, episode_recipe, live_source, stream_recipe

from .bounds import refused_or_read
from .malformed import numbers, texts

READERS = {
    "strategy": (names.strategy, ["rehearsal(500) + ewc(100)", "adversarial(pgd(eps=0.1, steps=7))"]),
    "model": (names.model, ["mlp(400, 400)", "resnet18(width=20)", "standardized(mlp(64), mean=0.5)"]),
    "optimizer": (names.optimizer, ["sgd(0.1, momentum=0.9)", "adam"]),
    "stream": (stream_recipe, ["noisy(split(digits, 5), 0.2)", "split(images('p', size=32), 2)"]),
    "data set": (data_set, ["images('photos', size=32)", "table('own.csv', ignore=('a', 'b'))"]),
    "episodes": (episode_recipe, ["few_shot(strokes, ways=5, shots=1)", "sinusoid(shots=10)"]),
    "source": (live_source, ["folder('inbox', label='kind', size=32)"]),
    "attack": (attack, ["pgd(eps=0.1, steps=40)", "worst(pgd, cw)"]),
    "threat": (threat, ["black(queries=1000, sees='labels')", "transfer(mlp)"]),
    "generator": (generator, ["vae(32, beta=2)", "diffusion(depth=2)"]),
    "meta-learner": (meta_learner, ["maml(lr=0.01, steps=5)", "anil(head='linear')"]),
    "loss": (loss, ["huber(2)", "squared_error"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_a_text_of_the_notation_is_read_or_refused(kind, data):
    read, right = READERS[kind]
    text = data.draw(texts(right))
    with refused_or_read():
        read(text)
    used(text)


@given(numbers(), st.sampled_from(["rehearsal({})", "ewc({})", "ewc(samples={})", "xdg({})", "agem({})"]))
def test_a_number_is_taken_or_refused(number, form):
    with refused_or_read():
        assert names.strategy(form.format(number)) == names.strategy(names.spelled(names.strategy(form.format(number))))


@given(
    texts(["rehearsal(choice(200, 500)) + ewc(loguniform(1, 1e4))", "ewc(randint(1, 9))", "ewc(quniform(0, 1, 0.1))"])
)
def test_a_search_space_is_read_or_refused(text):
    with refused_or_read():
        space = Space({"strategy": Text.of(text, STRATEGIES, "strategy")})
        for point in space.random(3, 0):
            names.strategy(space.filled(point)["strategy"])
        list(space.corners())
        space.grid()


@given(numbers(), numbers(), numbers(), st.sampled_from(["uniform", "loguniform", "quniform", "randint"]))
def test_a_range_is_read_or_refused(low, high, step, name):
    more = f", {step}" if name == "quniform" else ""
    with refused_or_read():
        space = Space({"strategy": Text.of(f"ewc({name}({low}, {high}{more}))", STRATEGIES, "strategy")})
        for point in [*space.random(3, 0), *space.corners()]:
            names.strategy(space.filled(point)["strategy"])


@given(texts(["accuracy - 0.5 * forgetting", "accuracy", "-state_bytes"]))
def test_an_objective_is_read_or_refused(text):
    with refused_or_read():
        Objective.of(text, Run())


@given(st.one_of(texts(["5", "3,5,8", "7,"]), numbers()))
def test_seeds_are_read_or_refused(text):
    with refused_or_read():
        for read in (options.seeds, options.numbers):
            try:
                read(text)
            except BadParameter as e:
                assert str(e)

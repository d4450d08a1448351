"""Distributions in the notation: what is found in a text, what is drawn, and where an error points."""

from collections import Counter
from math import log10
from random import Random

import pytest

from perdure.notation import NotationError
from perdure.platform.runs.meta_run import MetaRun
from perdure.platform.runs.run import Run
from perdure.platform.search.objective import Objective
from perdure.platform.search.search import Search, continual
from perdure.platform.search.space import Choice, QUniform, RandInt, Space, Text
from perdure.strategies.attacks.names import ATTACKS
from perdure.strategies.names import MODELS, OPTIMIZERS, STRATEGIES
from perdure.strategies.training.plan import Plan


def space(text: str, **others: str) -> Space:
    run = Run(text, "validated(split(digits))", **others)
    return Search(run, "split(digits)", ("accuracy",)).space


def test_distributions_are_named_by_what_they_are_arguments_of():
    text = (
        "rehearsal(choice(200, 500)) + ewc(loguniform(1, 1e4)) + ewc(strength=uniform(1, 2)) "
        "+ adversarial(pgd(steps=randint(1, 3)), eps=quniform(0.1, 0.5, 0.1)) + choice(naive, lwf(2), lwf(T='é'))"
    )
    read = Text.of(text, STRATEGIES | ATTACKS, "strategy")
    assert list(read.distributions) == [
        "rehearsal.capacity", "ewc.strength", "ewc.strength 2", "pgd.steps", "adversarial.eps", "strategy",
    ]  # fmt: skip
    assert read.distributions["strategy"] == Choice(("naive", "lwf(2)", "lwf(T='é')"))
    assert read.distributions["pgd.steps"].every == ("1", "2", "3")
    assert read.distributions["adversarial.eps"].every == ("0.1", "0.2", "0.3", "0.4", "0.5")
    assert QUniform(10, 30, 10).every == ("10", "20", "30") and QUniform(0.5, 2.0, 1).every == ("0.5", "1.5")
    assert list(Text.of("mlp(64, choice(8, 16))", MODELS, "model").distributions) == ["mlp.widths[1]"]
    betas = Text.of("adam(betas=(uniform(0.1, 0.5), 0.9))", OPTIMIZERS, "optimizer")
    assert list(betas.distributions) == ["adam.betas[0]"]


def test_a_point_is_the_text_with_values_in_their_places():
    read = space("rehearsal(choice(20, 50)) + ewc(loguniform(1, 1e4))", model="mlp(choice(8, 16))")
    point = {"rehearsal.capacity": "50", "ewc.strength": "3.5", "mlp.widths[0]": "8"}
    assert read.filled(point)["strategy"] == "rehearsal(50) + ewc(3.5)"
    assert read.filled(point)["model"] == "mlp(8)" and read.filled(point)["optimizer"] == "adam"


def test_values_are_drawn_as_their_names_say():
    read = space("ewc(loguniform(1, 1e4)) + rehearsal(randint(3, 7)) + lwf(uniform(2, 4))")
    points = read.random(2000, 0)
    logs = sorted(log10(float(p["ewc.strength"])) for p in points)
    assert 0 <= logs[0] < 0.02 and 3.98 < logs[-1] <= 4
    assert max(abs(v - 4 * n / 2000) for n, v in enumerate(logs)) < 0.12  # Kolmogorov's distance, 2.5 deviations
    whole = Counter(p["rehearsal.capacity"] for p in points)
    assert set(whole) == set("34567") and min(whole.values()) > 330
    assert all(2 <= float(p["lwf.strength"]) <= 4 for p in points)
    for one in read.parameters.values():
        assert one.ends[:2] == (one.at(0.0), one.at(1.0))


def test_points_are_the_same_for_a_seed_and_none_comes_twice():
    read = space("rehearsal(choice(20, 50)) + ewc(choice(1, 2, 3))")
    assert read.random(4, 7) == read.random(4, 7) != read.random(4, 8)
    every = read.random(40, 0)
    assert len(every) == 6 and sorted(map(str, every)) == sorted(map(str, read.grid()))
    with pytest.raises(ValueError, match=r"ewc.strength has none; write choice\(1, 10, 100\)"):
        space("ewc(uniform(1, 2))").grid()


def test_a_neighbour_is_within_reach():
    read, chance = space("ewc(loguniform(1, 10)) + rehearsal(randint(1, 3))"), Random(0)
    point = read.random(1, 0)[0]
    for _ in range(200):
        point = read.near(point, chance)
        assert 1 <= float(point["ewc.strength"]) <= 10 and point["rehearsal.capacity"] in ("1", "2", "3")
    assert Choice(("7",)).near("7", chance) == "7" and RandInt(1, 9).near("1", chance) == "2"


@pytest.mark.parametrize(
    ("text", "said", "under"),
    [
        ("ewc(loguniform(0, 1))", "low must be above 0, got 0.0", "loguniform"),
        ("ewc(uniform(2, 1))", "low must be below high, got 2.0 and 1.0", "uniform"),
        ("ewc(loguniform(1))", "loguniform needs high", "loguniform"),
        ("ewc(quniform(0, 1, 2))", "step must be above 0 and at most high - low", "quniform"),
        ("ewc(randint(0.5, 2))", "low must be a whole number, got 0.5", "0.5"),
        ("ewc(choice())", "choice takes options without names", "choice"),
        ("naive + ewc(choice(uniform(1, 2), 3))", "a distribution cannot hold another", "uniform"),
        ("lwf + ewc(1)", "nothing to search for: no choice, uniform", "lwf"),
        ("ewc(uniform(1, 2)", "not readable", "("),
    ],
)
def test_what_is_no_distribution_is_refused(text, said, under):
    with pytest.raises(NotationError, match=said) as told:
        space(text)
    assert told.value.text[told.value.at :].startswith(under)


@pytest.mark.parametrize(
    ("text", "said", "under"),
    [
        ("rehearsal(uniform(10, 100)) + naive", "capacity must be a whole number, got 10.0", "uniform"),
        ("naive + ewc(uniform(-1, 1))", "ewc: strength must not be negative, got -1.0", "ewc("),
        ("ewc(choice(1, 'a', 2))", "ewc.strength = 'a': strength must be a number", "choice"),
        ("rehearsal(randint(1, 5)) + ewc(choice(1, 2), labels='none')", "labels must be", "'none'"),
        ("rehersal(choice(1, 2))", "unknown name 'rehersal', did you mean 'rehearsal'", "rehersal"),
        ("rehearsal(choice(1000, 2)) + ewq(1)", "unknown name 'ewq'", "ewq"),
        ("choice(naive, nave)", "strategy = nave: unknown name 'nave'", "choice"),
    ],
)
def test_what_does_not_fit_at_any_end_is_told_where_it_was_written(text, said, under):
    search = Search(continual(Run(text), 0.1, None), "split(digits)", ("accuracy",))
    with pytest.raises(NotationError, match=said) as told:
        for point in search.space.corners():
            search.runs(point)
    assert told.value.text == text and text[told.value.at :].startswith(under)


def test_a_stream_has_no_distribution():
    with pytest.raises(NotationError, match="no distribution in it"):
        continual(Run(stream="split(digits, choice(2, 5))"), 0.1, None)


def test_objectives_are_measures_or_sums_of_them():
    run, meta = Run(), MetaRun()
    assert Objective.of("forgetting", run).maximised is False and Objective.of("accuracy", run).maximised
    weighed = Objective.of("accuracy - 0.5 * forgetting", run)
    assert weighed.value({"accuracy": 0.8, "forgetting": 0.2}) == pytest.approx(0.7) and weighed.maximised
    assert weighed.worst == -0.5 and weighed.share
    assert Objective.of("-(accuracy + 2 * accuracy)", run).value({"accuracy": 1.0}) == -3
    assert not Objective.of("loss", meta).maximised and not Objective.of("loss", meta).share
    for text, said in (
        ("acuracy", "unknown objective 'acuracy'; known: accuracy, forgetting"),
        ("accuracy ** 2", "expected measures"),
    ):
        with pytest.raises(NotationError, match=said):
            Objective.of(text, run)
    with pytest.raises(NotationError, match=r"known: loss, accuracy\n"):
        Objective.of("forgetting", meta)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"trials": 0}, "trials must be at least 1"),
        ({"by": "gird"}, "by must be one of random, grid, optuna, got 'gird'"),
        ({"scheduler": "ahsa"}, "scheduler must be one of none, asha, pbt"),
        ({"objectives": ("accuracy", "forgetting"), "scheduler": "asha"}, "ranks trials by one objective"),
        ({"objectives": ("accuracy", "forgetting", "state_bytes")}, "expected one objective or two, got 3"),
        ({"scheduler": "pbt", "by": "optuna"}, "drawn at random; leave out --by"),
    ],
)
def test_searches_that_make_no_sense_are_refused(changed, said):
    asked = {"objectives": ("accuracy",)} | changed
    with pytest.raises(ValueError, match=said):
        Search(Run("ewc(uniform(1, 2))", "validated(split(digits))"), "split(digits)", **asked)


def test_a_population_keeps_its_model_and_its_stages():
    for run, said in (
        (Run("naive", model="mlp(choice(8, 16))"), r"mlp.widths\[0\]"),
        (Run("choice(naive, lwf)"), "strategy"),
    ):
        with pytest.raises(ValueError, match=f"{said} has to stay as it is"):
            Search(run, "split(digits)", ("accuracy",), scheduler="pbt")


def test_a_search_reads_back_from_what_is_written_down():
    from dataclasses import asdict

    run = Run("ewc(uniform(1, 2))", "validated(split(digits))", plan=Plan(steps=3))
    for one in (run, MetaRun("maml(uniform(0.1, 1))", tested=0)):
        search = Search(one, one.on, ("accuracy",), finalists=2)
        assert Search.of(asdict(search)) == search and Search.of(asdict(search)).id == search.id

"""Which experiences are tested on, and when; what is learned does not depend on it."""

import json
from math import isnan

import pytest

from perdure.platform.api import compare
from perdure.platform.runs.record import ended
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.strategies import metrics
from perdure.streams.evaluation import ALL, Evaluation
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places
from perdure.testing.equality import same


@pytest.mark.parametrize(
    ("text", "learned", "chosen"),
    [
        ("", 3, (0, 1, 2)),
        ("all", 3, (0, 1, 2)),
        ("every 2", 3, ()),
        ("every 2", 4, (0, 1, 2, 3)),
        ("last 2", 1, (0,)),
        ("last 2", 5, (3, 4)),
        ("seen 3", 2, (0, 1)),
        ("seen 3", 9, (0, 4, 8)),
        ("seen 1", 9, (8,)),
        (" last   2 ", 5, (3, 4)),
        ("last 2", 10, tuple(range(10))),  # the end of the stream
        ("every 3", 10, tuple(range(10))),
    ],
)
def test_what_is_tested_on(text, learned, chosen):
    assert Evaluation.of(text).chosen(range(learned), learned, 10) == chosen


@pytest.mark.parametrize(
    "text", ["last", "last 0", "last -1", "seen x", "5", "every 1e3", "last 9999999999", "never 3"]
)
def test_what_is_no_choice_is_refused(text):
    with pytest.raises(ValueError, match="every N, seen N or last N"):
        Evaluation.of(text)


def test_a_choice_is_spelled_as_it_is_read():
    for text in ("", "every 10", "seen 20", "last 5"):
        assert str(Evaluation.of(text)) == text
    assert Run(evaluate=" last  5 ").normal() == Run(evaluate="last 5").normal() != Run().normal()


@pytest.mark.parametrize("protocol", ["class", "domain"])
def test_columns_are_those_of_the_experiences(protocol):
    from dataclasses import replace

    recipe = stream_recipe(f"permuted(digits, 4, '{protocol}')" if protocol == "domain" else "split(digits, 4)")
    stream = replace(recipe.arrange(recipe.source().load(Places())), evaluation=Evaluation("last", 2))
    assert stream.tested(2) == (1, 2) and stream.spread(2, (0.5, 0.7))[1:] == (0.5, 0.7)
    assert isnan(stream.spread(2, (0.5, 0.7))[0])
    assert stream.tested(3) == (0, 1, 2, 3)
    assert replace(stream, evaluation=Evaluation("every", 3)).spread(0, ()) == ()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = str(tmp_path_factory.mktemp("home"))
    common = {"model": "mlp(8)", "steps": 4, "batch_size": 8, "home": home, "here": True, "tracking": False}
    common["attacks"] = ("fgsm",)
    ends = {}
    for text in ("", "every 2", "seen 2", "last 2"):
        ends[text] = compare.compare(["rehearsal(20)", "joint"], "split(digits, 5)", 2, evaluate=text, **common)
    return ends, Site(home)


@pytest.mark.parametrize("text", ["every 2", "seen 2", "last 2"])
def test_what_is_learned_and_the_end_are_the_same(made, text):
    ends, site = made
    for whole, some in zip(ends[""].outcomes, ends[text].outcomes, strict=True):
        assert whole.run.id != some.run.id and some.run.evaluate == text
        assert same(ended(whole.run, site)["model"], ended(some.run, site)["model"])
        assert whole.rows[-1]["accuracy"] == some.rows[-1]["accuracy"]
        assert whole.metrics()["accuracy"] == some.metrics()["accuracy"]
        assert whole.rows[-1]["attacked"] == some.rows[-1]["attacked"]


@pytest.mark.parametrize("text", ["every 2", "seen 2", "last 2"])
def test_what_is_tested_is_what_all_tests_would_have_said(made, text):
    ends, _ = made
    for whole, some in zip(ends[""].outcomes, ends[text].outcomes, strict=True):
        count = 0
        for all_, few in zip(whole.rows, some.rows, strict=True):
            pairs = [(a, b) for a, b in zip(all_["accuracy"], few["accuracy"], strict=False) if b is not None]
            assert all(a == b for a, b in pairs)
            count += len(pairs)
        assert count < sum(len(row["accuracy"]) for row in whole.rows)


def test_figures_tables_and_reports_take_what_was_not_tested(made):
    ends, _ = made
    for text in ("every 2", "seen 2", "last 2"):
        comparison = ends[text]
        assert not isnan(comparison.league[0].accuracy.mean) and not isnan(comparison.league[0].forgetting.mean)
        assert comparison.figures() and comparison.robust_figures()
        assert "NaN" not in json.dumps([o.rows for o in comparison.outcomes])
        with open(comparison.report) as file:
            assert len(file.read()) > 1000


def test_forgetting_is_from_the_best_that_was_tested():
    nan = float("nan")
    matrix = [[0.9], [nan, 0.8], [0.7, nan, 0.6], [0.5, 0.4, 0.3, 0.9]]
    assert metrics.forgetting(matrix) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.4) + (0.6 - 0.3)) / 3)
    assert metrics.average_accuracy(matrix[:3]) == pytest.approx((0.7 + 0.6) / 2)
    assert isnan(metrics.average_accuracy([[], []])) and isnan(metrics.forward_transfer(matrix, []))
    running = metrics.Running()
    told = [running.add(row) for row in matrix][-1]
    assert {k: v for k, v in told.items() if k != "forward_transfer"} == {
        k: v for k, v in metrics.summary(matrix, []).items() if k != "forward_transfer"
    }


def test_a_run_as_it_was_has_the_id_that_it_had():
    assert Run().evaluate == "" and Run().normal().id == Run(evaluate="all").normal().id
    assert ALL == Evaluation.of("")

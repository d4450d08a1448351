"""Numbers of the league table, by hand."""

import json
from dataclasses import replace
from io import StringIO
from math import isnan

import pytest
from rich.console import Console
from scipy import stats

from perdure.jobs.live_progress import _Tally
from perdure.jobs.views.comparison import tables
from perdure.jobs.views.run import about
from perdure.jobs.views.search import searched_json
from perdure.platform.reports.comparison import Comparison
from perdure.platform.reports.comparison_page import html
from perdure.platform.reports.outcome import Outcome
from perdure.platform.runs.events import Failed, Reached, Started
from perdure.platform.runs.run import Run
from perdure.platform.search.results import Searched
from perdure.platform.search.search import Search
from perdure.platform.search.trial_result import Tried
from perdure.strategies.metrics import Interval

MATRIX = [[1.0], [0.5, 0.8], [0.2, 0.4, 0.9]]


def outcome(strategy="naive", seed=0, matrix=MATRIX, **other):
    rows = [
        {
            "experience": i,
            "loss": None,
            "accuracy": row,
            "baseline": [0.1],
            "state_bytes": 8,
            "extras": {"rank/1": i + seed, "late": None},
        }
        for i, row in enumerate(matrix)
    ]
    return Outcome(Run(strategy, seed=seed).normal(), rows, 2.0, **other)


def test_an_outcomes_metrics():
    known = outcome().metrics()
    assert known["accuracy"] == pytest.approx(0.5)
    assert known["forgetting"] == pytest.approx((0.8 + 0.4) / 2)
    assert known["backward_transfer"] == pytest.approx((-0.8 - 0.4) / 2)
    assert isnan(known["forward_transfer"])


def test_intervals_are_students():
    values = [0.7, 0.8, 0.84, 0.75, 0.9]
    interval = Interval.of(values)
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert (interval.mean - interval.half, interval.mean + interval.half) == pytest.approx((low, high))
    assert Interval.of([0.5]).mean == 0.5 and isnan(Interval.of([0.5]).half)
    assert isnan(Interval.of([]).mean) and isnan(Interval.of([float("nan")]).mean)


def test_the_best_comes_first_and_only_finished_runs_count():
    better = [[1.0], [0.9, 0.9], [0.8, 0.8, 0.8]]
    broken = outcome("ewc", status="failed", problem="why")
    made = Comparison([outcome(), outcome(seed=1), outcome("joint", matrix=better), broken])
    assert [(s.strategy, s.seeds) for s in made.league] == [("joint", (0,)), ("naive", (0, 1))]
    assert made.league[0].accuracy.mean == pytest.approx(0.8)
    assert made.failed == [broken]
    assert list(made.by_method()) == ["naive", "joint", "ewc"]


def test_matrices_are_means_over_seeds():
    other = [[0.8], [0.3, 0.6], [0.0, 0.2, 0.7]]
    made = Comparison([outcome(), outcome(seed=1, matrix=other)])
    assert made.matrices["naive"][2] == pytest.approx([0.1, 0.3, 0.8])


def test_the_frame_has_a_line_a_run():
    frame = Comparison([outcome(), outcome("ewc", status="failed")]).frame()
    assert list(frame["strategy"]) == ["naive", "ewc"] and list(frame["status"]) == ["finished", "failed"]
    assert frame["accuracy"][0] == pytest.approx(0.5)
    assert {"id", "seed", "stream", "model", "optimizer", "epochs", "batch_size", "seconds"} <= set(frame.columns)


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_run_that_is_not_finished_has_come_to_nothing_however_far_it_came(status):
    partial = outcome("naive", 1, MATRIX[:1], status=status, problem="the disk is full")
    made = Comparison([outcome(), partial])
    frame = made.frame().set_index("seed")
    assert frame["accuracy"][0] == pytest.approx(0.5) and frame["problem"][1] == "the disk is full"
    assert frame.loc[1, ["accuracy", "forgetting", "backward_transfer", "forward_transfer"]].isna().all()
    assert made.league[0].accuracy.mean == pytest.approx(0.5) and made.league[0].seeds == (0,)
    assert about(partial)["status"] == status and isnan(about(partial)["accuracy"])
    assert partial.so_far()["accuracy"] == 1.0
    page = html(made)
    assert "<td>100.0</td>" not in page and "the disk is full" in page


def test_what_attacks_left_of_a_run_that_is_not_finished_is_unknown_too():
    struck = {"fgsm": {"robust": [0.7], "success": None}}

    def attacked(seed, length, **other):
        one = outcome("naive", seed, [[0.9]] * length, **other)
        rows = [row | {"attacked": struck} for row in one.rows]
        return replace(one, run=replace(one.run, attacks=("fgsm",)), rows=rows)

    frame = Comparison([attacked(0, 1), attacked(1, 1, status="failed"), attacked(2, 0, status="failed")]).frame()
    assert list(frame["fgsm: robust_accuracy"].isna()) == [False, True, True]


def test_what_a_poisoner_gets_is_a_column_of_poisoned_streams_alone():
    def poisoned(seed, shares, **other):
        one = outcome("naive", seed, **other)
        rows = [row | {"extras": {"poison_success": s}} for row, s in zip(one.rows, shares, strict=True)]
        return replace(one, rows=rows)

    made = Comparison([poisoned(0, (1, 1, 0.5)), poisoned(1, (1, 0, 0.25)), poisoned(2, (1, 1, 1), status="failed")])
    assert made.poisoned and made.league[0].poison_success.mean == pytest.approx(0.375)
    assert list(made.frame()["poison_success"][:2]) == [0.5, 0.25] and isnan(made.frame()["poison_success"][2])
    assert "poison success %" in html(made) and "37.5" in html(made)
    console = Console(width=300, record=True, file=StringIO())
    tables(made, console)
    text = console.export_text()
    assert "poison success %" in text and "37.5" in text
    plain = Comparison([outcome()])
    assert not plain.poisoned and "poison_success" not in plain.frame() and "poison success" not in html(plain)


def test_a_seed_without_a_number_is_not_left_out_of_a_mean_over_all():
    assert isnan(Interval.of_all([0.5, float("nan")]).mean) and Interval.of_all([0.5, 0.7]).mean == pytest.approx(0.6)


def test_a_trial_that_failed_has_no_values():
    search = Search(Run("rehearsal(choice(5, 9))"), "split(digits)", ("accuracy",))
    trials = [
        Tried(
            n, {"rehearsal.capacity": "5"}, (str(n),), "rehearsal(5)", 2, (value,), status, "why" * (status == "failed")
        )
        for n, (value, status) in enumerate([(0.8, "finished"), (0.0, "failed"), (0.9, "stopped")])
    ]
    made = Searched(search, trials)
    assert list(made.frame()["accuracy"].isna()) == [False, True, False]
    known = {t["number"]: t["values"] for t in json.loads(searched_json(made))["trials"]}
    assert known == {0: [0.8], 1: [None], 2: [0.9]}


def test_a_line_of_runs_under_way_forgets_those_that_failed():
    tally = _Tally()
    row = {"experience": 0, "accuracy": [0.9]}
    for event in (Started("a", 1, "here", False, 2), Reached("a", row, 1.0), Failed("a", "error", "why")):
        tally.hear(event)
    assert not tally.known and tally.share("a") == 1.0


def test_there_is_a_figure_for_the_curves_and_for_every_matrix():
    figures = Comparison([outcome(), outcome("ewc")]).figures()
    assert list(figures) == ["curves", "naive", "ewc"]
    lines = figures["curves"].axes[0].lines
    assert [line.get_label() for line in lines] == ["naive", "ewc"]
    assert list(lines[0].get_ydata()) == pytest.approx([100, 65, 50])


def test_what_strategies_tell_is_averaged_over_seeds_and_drawn():
    from perdure.platform.figures.accuracy import cosines, told

    made = Comparison([outcome("gpm"), outcome("gpm", seed=1)])
    assert [row["rank/1"] for row in made.outcomes[1].extras()] == [1, 2, 3] and isnan(
        made.outcomes[0].extras()[0]["late"]
    )
    figure = made.details()["gpm: rank"]
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.5, 1.5, 2.5]
    pairs = {"cosine/02/01": -0.25, "cosine/03/01": 0.5, "cosine/03/02": 0.0}
    assert cosines(pairs) == [[1, -0.25, 0.5], [-0.25, 1, 0], [0.5, 0, 1]] and cosines({"rank/1": 3.0}) == []
    assert told([{}, pairs])["cosine"].axes[0].images[0].get_array().tolist() == cosines(pairs)


def test_a_regulariser_alone_on_a_class_incremental_stream_is_cautioned():
    made = Comparison(
        [outcome(s) for s in ("naive", "ewc", "rehearsal(5) + ewc", "interference", "lwf + interference")]
    )
    assert list(made.cautions) == ["ewc", "lwf + interference"]
    assert "never sees classes of different experiences together" in made.cautions["ewc"]
    assert Comparison([Outcome(Run("ewc", "split(digits, protocol='task')"), [], 0.0)]).cautions == {}

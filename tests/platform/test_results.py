"""Numbers of the league table, by hand."""

from math import isnan

import pytest
from scipy import stats

from perdure.platform.results import Comparison, Interval, Outcome
from perdure.platform.run import Run

MATRIX = [[1.0], [0.5, 0.8], [0.2, 0.4, 0.9]]


def outcome(strategy="naive", seed=0, matrix=MATRIX, **other):
    rows = [
        {"experience": i, "loss": None, "accuracy": row, "baseline": [0.1], "state_bytes": 8}
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
    assert list(made.by_strategy()) == ["naive", "joint", "ewc"]


def test_matrices_are_means_over_seeds():
    other = [[0.8], [0.3, 0.6], [0.0, 0.2, 0.7]]
    made = Comparison([outcome(), outcome(seed=1, matrix=other)])
    assert made.matrices["naive"][2] == pytest.approx([0.1, 0.3, 0.8])


def test_the_frame_has_a_line_a_run():
    frame = Comparison([outcome(), outcome("ewc", status="failed")]).frame()
    assert list(frame["strategy"]) == ["naive", "ewc"] and list(frame["status"]) == ["finished", "failed"]
    assert frame["accuracy"][0] == pytest.approx(0.5)
    assert {"id", "seed", "stream", "model", "optimizer", "epochs", "batch_size", "seconds"} <= set(frame.columns)


def test_there_is_a_figure_for_the_curves_and_for_every_matrix():
    figures = Comparison([outcome(), outcome("ewc")]).figures()
    assert list(figures) == ["curves", "naive", "ewc"]
    lines = figures["curves"].axes[0].lines
    assert [line.get_label() for line in lines] == ["naive", "ewc"]
    assert list(lines[0].get_ydata()) == pytest.approx([100, 65, 50])

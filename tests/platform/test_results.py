"""Numbers of the league table, by hand."""

from math import isnan

import pytest
from scipy import stats

from perdure.platform.results import Comparison, Interval, Outcome
from perdure.platform.run import Run

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


def test_there_is_a_figure_for_the_curves_and_for_every_matrix():
    figures = Comparison([outcome(), outcome("ewc")]).figures()
    assert list(figures) == ["curves", "naive", "ewc"]
    lines = figures["curves"].axes[0].lines
    assert [line.get_label() for line in lines] == ["naive", "ewc"]
    assert list(lines[0].get_ydata()) == pytest.approx([100, 65, 50])


def test_what_strategies_tell_is_averaged_over_seeds_and_drawn():
    from perdure.platform.figures import cosines, told

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

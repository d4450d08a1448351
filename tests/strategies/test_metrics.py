import random
from math import isnan

import pytest

from perdure.strategies import metrics

# by hand, from the definitions: three experiences, rows after each of them
FULL = [[0.9, 0.2, 0.3], [0.7, 0.8, 0.4], [0.5, 0.9, 0.6]]
BASELINE = [0.1, 0.15, 0.25]
LOWER = [[0.9], [0.7, 0.8], [0.5, 0.9, 0.6]]


def test_of_a_full_matrix():
    assert metrics.average_accuracy(FULL) == pytest.approx((0.5 + 0.9 + 0.6) / 3)
    assert metrics.backward_transfer(FULL) == pytest.approx(((0.5 - 0.9) + (0.9 - 0.8)) / 2)
    assert metrics.forward_transfer(FULL, BASELINE) == pytest.approx(((0.2 - 0.15) + (0.4 - 0.25)) / 2)
    assert metrics.forgetting(FULL) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.9)) / 2)


def test_forgetting_looks_for_the_best_at_any_time_before():
    assert metrics.forgetting([[0.5, 0.1], [0.2, 0.9]]) == pytest.approx(0.3)
    assert metrics.forgetting([[0.5, 0.95, 0], [0.6, 0.9, 0], [0.4, 0.8, 1]]) == pytest.approx((0.2 + 0.15) / 2)


def test_where_rows_end_at_the_diagonal():
    assert metrics.average_accuracy(LOWER) == metrics.average_accuracy(FULL)
    assert metrics.backward_transfer(LOWER) == metrics.backward_transfer(FULL)
    assert metrics.forgetting(LOWER) == metrics.forgetting(FULL)
    assert isnan(metrics.forward_transfer(LOWER, BASELINE[:1]))


def test_one_experience_has_neither_past_nor_transfer():
    assert metrics.average_accuracy([[0.9]]) == 0.9
    assert isnan(metrics.forgetting([[0.9]])) and isnan(metrics.backward_transfer([[0.9]]))


def test_half_way_through_a_stream():
    assert metrics.average_accuracy(FULL[:2]) == pytest.approx(0.75)
    assert metrics.forgetting(FULL[:2]) == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(20))
def test_row_by_row_is_the_same_as_all_at_once(seed):
    """To the bit, after every row, wherever rows end: at the diagonal, at the last experience, or at once."""
    chance = random.Random(seed)
    count = chance.randint(1, 12)
    ends = [lambda i: i + 1, lambda i: count, lambda i: min(count, i + 3), lambda i: i + 1 if i < 3 else count]
    rows = [[chance.random() for _ in range(ends[seed % 4](i))] for i in range(count)]
    baseline = [chance.random() for _ in range(count)]
    running = metrics.Running(baseline)
    for i, row in enumerate(rows):
        told, plain = running.add(row), metrics.summary(rows[: i + 1], baseline)
        assert list(map(repr, told.items())) == list(map(repr, plain.items()))

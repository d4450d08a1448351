"""What every source of arrivals promises. Subclass the suite in a test file of your own:

class TestMine(SourceSuite):
    def source(self, folder):
        return Mine(str(folder))

    def arrive(self, folder, number, x, y):
        send(folder, f"message {number}", x, y)
"""

from itertools import islice
from pathlib import Path

import numpy as np

from ..platform.live.queries import feed
from ..streams.live.source import Arrival, LiveSource

PATIENCE = 0.5  # seconds without an arrival after which there is none


def samples(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Of an arrival, each of its own."""
    return np.full((6, 4), number, np.float32), np.arange(6) % 2


class SourceSuite:
    def source(self, folder: Path) -> LiveSource:
        """One that tells of what has arrived in an empty folder, or wherever `arrive` sends it."""
        raise NotImplementedError("say how to make the source that is to be held to the suite")

    def arrive(self, folder: Path, number: int, x: np.ndarray, y: np.ndarray) -> None:
        """Let samples arrive after those before."""
        raise NotImplementedError("say how samples arrive at the source")

    def arrived(self, folder: Path, *numbers: int) -> None:
        for number in numbers:
            self.arrive(folder, number, *samples(number))

    def told(self, folder: Path, seen: set[str], count: int | None = None) -> list:
        return list(islice(feed(self.source(folder), seen, PATIENCE), count))

    def test_where_nothing_has_come_it_says_so_and_does_not_wait(self, tmp_path):
        assert next(self.source(tmp_path).arrivals(set())) is None

    def test_every_arrival_is_told_of_once_in_order_and_whole(self, tmp_path):
        self.arrived(tmp_path, 0, 1, 2)
        told = self.told(tmp_path, set())
        assert [type(item) for item in told] == [Arrival] * 3 and len({item.id for item in told}) == 3
        for number, item in enumerate(told):
            x, y = samples(number)
            assert item.name and item.x.dtype == np.float32
            assert np.array_equal(item.x, x) and np.array_equal(item.y, y)

    def test_ids_are_the_same_for_whoever_asks_again(self, tmp_path):
        self.arrived(tmp_path, 0, 1)
        assert [item.id for item in self.told(tmp_path, set())] == [item.id for item in self.told(tmp_path, set())]

    def test_whoever_goes_on_loses_nothing_and_meets_nothing_twice(self, tmp_path):
        seen: set[str] = set()
        self.arrived(tmp_path, 0, 1)
        first = self.told(tmp_path, seen, count=1)
        self.arrived(tmp_path, 2)
        then = self.told(tmp_path, seen)
        assert [item.x[0, 0] for item in (*first, *then)] == [0, 1, 2]

    def test_what_comes_later_is_told_of_later(self, tmp_path):
        items = feed(self.source(tmp_path), set(), 30.0)
        for number in range(2):
            self.arrived(tmp_path, number)
            assert next(items).x[0, 0] == number  # type: ignore[union-attr]

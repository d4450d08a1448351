"""Which experiences a run is tested on, and when. On all of them after each, tests grow as the square of the stream."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["all", "every", "seen", "last"]
FORM = "every N, seen N or last N, as 'last 10'"


@dataclass(frozen=True)
class Evaluation:
    """Tests at the ends of experiences. After the last one all are tested on, whatever is chosen for the others.

    every: on all, after every `count`-th experience. seen: after each, on `count` of those learned so far, spread
    evenly from the first to the newest. last: after each, on the `count` newest.
    """

    kind: Kind = "all"
    count: int = 1

    def __post_init__(self):
        if self.kind not in get_args(Kind) or self.count < 1:
            raise ValueError(f"expected {FORM}, with N at least 1, got '{self.kind} {self.count}'")

    @staticmethod
    def of(text: str) -> "Evaluation":
        """As `last 10`; empty for all. Raises ValueError."""
        found = re.fullmatch(r"\s*(every|seen|last)\s+(\d{1,9})\s*", text)
        if text.strip() in ("", "all"):
            return ALL
        if found is None:
            raise ValueError(f"evaluate: expected {FORM}, got {text[:100]!r}")
        return Evaluation(found[1], int(found[2]))  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        return "" if self.kind == "all" else f"{self.kind} {self.count}"

    def chosen(self, tested: Sequence[int], learned: int, of: int) -> tuple[int, ...]:
        """Those of the experiences `tested` that tests are made on, once `learned` of `of` have been learned.

        The first `learned` of `tested` are those that have been.
        """
        if self.kind == "all" or learned == of:
            return tuple(tested)
        if self.kind == "every":
            return tuple(tested) if learned % self.count == 0 else ()
        met = tested[:learned]
        if self.kind == "last" or self.count == 1:
            return tuple(met[-self.count :])
        if learned <= self.count:
            return tuple(met)
        places = {round(n * (learned - 1) / (self.count - 1)) for n in range(self.count)}
        return tuple(met[place] for place in sorted(places))


ALL = Evaluation()

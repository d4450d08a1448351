"""Ratios measured side by side, printed as one table."""

import statistics
import time
from collections.abc import Callable, Sequence


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 5
) -> tuple[float, float, float]:
    """Median seconds of each and the median of ours / theirs, taken in turns so that both meet the same machine."""
    ours(), theirs()  # warm: allocator, caches, imports
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    return a, b, statistics.median(x / y for x, y in pairs)


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}", flush=True)
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), flush=True)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

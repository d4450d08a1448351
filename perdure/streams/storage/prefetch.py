"""Things made by a thread before they are asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
DEPTH = 3  # made or being made at any time: enough for a slow one now and then, and little memory


def ahead(make: Callable[[Item], Made], items: Iterable[Item], depth: int = DEPTH) -> Iterator[Made]:
    """make(item) of every item, in order; `items` are taken in the caller's thread.

    The thread ends with the last item, and where the iterator is closed or `make` raises.
    """
    waiting: deque[Future[Made]] = deque()
    thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        for item in items:
            waiting.append(thread.submit(make, item))
            if len(waiting) == depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)  # waits for the one in hand

"""A source asked for what comes, again and again; where it raises, it is asked afresh."""

import hashlib
import time
from collections.abc import Iterator

from ...errors import why
from ...streams.live.source import Arrival, LiveSource, SetAside, verified

LOOKS = 0.2  # seconds between two looks at a source where nothing had come
TRIES = 3  # failures in a row, of what is no matter of the world outside, before the last of them is raised
LONGEST = 60.0  # seconds between two tries; a source that went on for longer than ten times that is well again


def feed(source: LiveSource, seen: set[str], idle: float | None) -> Iterator[Arrival | SetAside]:
    """What comes and is not in `seen`, which grows by it; ends where nothing has come for `idle` seconds.

    A source that raises after it has told of something is asked afresh, after a second, two, four ... up to a minute,
    and the first of such failures in a row is set aside with its reason. An OSError (a connection that breaks, a disk
    that is away) is borne for as long as it takes, anything else two times in a row; not where `idle` is over.
    """
    last, failures, failed, works = time.monotonic(), 0, 0.0, False
    while True:
        try:
            for item in map(verified, source.arrivals(seen)):
                works = True
                if item is None:
                    if idle is not None and time.monotonic() - last >= idle:
                        return
                    time.sleep(LOOKS)
                    continue
                if item.id not in seen:
                    seen.add(item.id)
                    failures = 0
                    yield item
                last = time.monotonic()  # waiting to be asked for the next one is no idleness of the source
            return
        except Exception as e:
            now = time.monotonic()
            failures = 1 if now - failed > 10 * LONGEST else failures + 1
            over = idle is not None and now - last >= idle
            if not works or over or (failures >= TRIES and not isinstance(e, OSError)):
                raise
            if failures == 1:
                yield _failure(source, e)
            time.sleep(min(2.0 ** (failures - 1), LONGEST))
            failed = time.monotonic()


def _failure(source: LiveSource, error: Exception) -> SetAside:
    """What a source has raised, each time anew."""
    name = f"what {type(source).__name__} tells of"
    id = hashlib.sha256(repr((time.time(), why(error))).encode()).hexdigest()
    return SetAside(id, name, f"the source raised {why(error)}; it is asked again")

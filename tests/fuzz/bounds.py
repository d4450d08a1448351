"""What every malformed input has to end in: a result or a sentence, in seconds, in little memory."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.errors import foreseen

SECONDS, BYTES = 5, 2_000_000_000


@contextmanager
def refused_or_read() -> Iterator[None]:
    """Lets errors pass that have a sentence of their own, and fails for others, for hangs and for more memory."""
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this input
    with _in_time():
        try:
            yield
        except (ValueError, FileNotFoundError) as e:
            assert foreseen(e), f"a library's words: {e!r}"
            assert str(e).strip() and len(str(e)) < 3000
    assert _resident("VmHWM") - before < BYTES


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_):
        raise AssertionError(f"not done after {SECONDS} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _resident(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])

"""Signals that ask a command to end: Ctrl-C, what schedulers send, and a terminal that is closed.

The first lets it come to a checkpoint and say how to go on, the next leaves at once: what was kept is always whole.
"""

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

INTERRUPTED = 130  # what a command leaves with that was asked to end; see `code`
MEANT = 1.0  # seconds after one in which others add nothing: a terminal that is closed and its shell both send theirs
GRACE = 10.0  # seconds that work may take to come to a checkpoint; schedulers kill after 30
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AT_ONCE = b"left at once; the same command again goes on from what was kept\n"


class Ended(KeyboardInterrupt):
    """A signal has asked this process to end."""


@dataclass
class _Heard:
    command: bool = False  # whether this process is a command, and no program of somebody else's
    terminal: tuple[int, ...] = ()  # file descriptors that write to one; a closed one does not say so
    number: int = 0  # of the first signal
    at: float = 0.0  # when the last came
    raised: bool = False
    patient: bool = False  # whether work is under way that comes to a checkpoint by itself
    over: bool = False  # whether there is nothing left to end but the process
    last: list[Callable[[], object]] = field(default_factory=list)  # what is done even where it is left at once


_heard = _Heard()


def listen() -> None:
    """Hear signals from now on: this process is a command of its own."""
    _heard.command, _heard.terminal = True, tuple(number for number in (1, 2) if os.isatty(number))
    for one in _SIGNALS:
        asked = one == signal.SIGINT and os.environ.get("RAY_JOB_STOP_SIGNAL") == "SIGINT"  # which a head may ignore
        if signal.getsignal(one) != signal.SIG_IGN or asked:  # as of nohup
            signal.signal(one, _hear)
    atexit.register(_deaf)  # the last of all that is done


def ask() -> None:
    """End the work of this process as a signal would: at its next checkpoint."""
    _heard.number = _heard.number or signal.SIGTERM


def asked() -> bool:
    """Whether this process is to end: work that sees it comes to a checkpoint, and raises Ended."""
    return _heard.number != 0


def over() -> None:
    """Nothing is left to do: a signal from now on leaves at once."""
    _heard.over = True


def code() -> int:
    """What a process leaves with that a signal has ended."""
    return 128 + (_heard.number or signal.SIGINT)


def at_last(do: Callable[[], object]) -> None:
    """Have something done where the process is left at once."""
    _heard.last.append(do)


def no_more(do: Callable[[], object]) -> None:
    """That is done with."""
    if do in _heard.last:
        _heard.last.remove(do)


@contextmanager
def patiently() -> Iterator[None]:
    """A block that looks at `asked`, and comes to a checkpoint by itself: a signal is not raised in the midst of it,
    unless it is the second, or nothing comes of the first for `GRACE` seconds. Raises Ended at its end where one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in (*_SIGNALS, signal.SIGALRM)}
    ours = before[signal.SIGINT] is signal.default_int_handler  # in a program of somebody else's
    if ours:
        signal.signal(signal.SIGINT, _hear)
    signal.signal(signal.SIGALRM, _late)
    _heard.patient, outer = True, _heard.patient
    try:
        yield
        _raised()
    finally:
        _heard.patient = outer
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before[signal.SIGALRM])
        if ours:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
            _heard.number, _heard.raised = 0, False


def _hear(number: int, frame: Any) -> None:
    now, first = time.monotonic(), not _heard.number
    if not first and now - _heard.at < MEANT:
        return
    _heard.number, _heard.at = _heard.number or number, now
    if number == signal.SIGHUP:
        _let_go_of_the_terminal()
    if not _heard.command:
        _heard.raised = False
    elif _heard.over or _heard.raised:
        leave(b"" if _heard.over else _AT_ONCE)
    else:
        _say(f"\nstopping ({signal.Signals(number).name}); a second signal leaves at once\n".encode())
    if first and _heard.patient:
        signal.setitimer(signal.ITIMER_REAL, GRACE)
        return
    _raised()


def _late(number: int, frame: Any) -> None:
    _raised()


def _raised() -> None:
    if asked() and not _heard.raised:
        _heard.raised = True
        raise Ended


def leave(why: bytes, with_code: int | None = None) -> NoReturn:
    """End the process as it stands."""
    _say(why)
    for do in list(_heard.last):
        do()
    os._exit(code() if with_code is None else with_code)


def _deaf() -> None:
    """Python would let a signal kill it while it takes itself apart, whatever code it was to leave with."""
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)


def _say(text: bytes) -> None:
    with suppress(OSError):  # nobody reads it
        os.write(2, text)


def _let_go_of_the_terminal() -> None:
    """Nothing can be written to one that is closed."""
    for number in _heard.terminal:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)

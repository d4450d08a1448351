"""Work done in a process of its own, which may take so much memory and so many seconds."""

import gc
import json
import os
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

STATM = Path("/proc/self/statm")
GRACE = 5.0  # seconds after which the process ends itself, where nobody is left to end it


Words = dict[str, Any]  # that JSON can say
Told = tuple[Words, Sequence[np.ndarray]]


class Unfinished(Exception):
    """Work has taken more than it may, or its process has died; the message says which."""


class Raised(Exception):
    """Work has raised an exception; the message is its text, with its type in front unless that says nothing more."""


def apart(work: Callable[[], Iterator[Told]], memory: int, seconds: float) -> Iterator[Told]:
    """What `work` yields, words and plain arrays, made in a fork of this process.

    memory: bytes that it may take beyond what this process has (on Linux). seconds: of the clock, for all of it.
    Whatever `work` prints goes nowhere, and nothing that comes back is code. Raises Unfinished, FileNotFoundError and
    Raised.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: other threads are not in the fork
        pid = os.fork()
    if pid == 0:
        _worked(work, writing, memory, seconds)
    os.close(writing)
    late = threading.Event()
    watch = threading.Timer(seconds, lambda: (late.set(), os.kill(pid, signal.SIGKILL)))
    watch.daemon = True
    watch.start()
    status, over = None, False
    try:
        with open(reading, "rb") as pipe:
            for sort, words, arrays in _received(pipe):
                over = sort != "yielded"
                if over:
                    _raise(sort, words)
                else:
                    yield words, arrays
    finally:
        watch.cancel()
        watch.join()  # before the process is waited for: its number is nobody else's until then
        with suppress(ChildProcessError):  # somebody else waits for every process
            if not over:
                os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
    if not over:
        raise Unfinished(f"it took longer than {seconds:g} s" if late.is_set() else _died(status))


def _worked(work: Callable[[], Iterator[Told]], writing: int, memory: int, seconds: float) -> NoReturn:
    """All that the fork does. It holds on to nothing of the other's files and sockets, nor frees its objects."""
    try:
        gc.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.dup2(writing, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        with open(3, "wb") as pipe:
            try:
                _limit(memory)
                for words, arrays in work():
                    _send(pipe, "yielded", words, arrays)
                _send(pipe, "ended", {})
            except FileNotFoundError as e:
                _send(pipe, "gone", {"why": str(e)})
            except Exception as e:
                full = isinstance(e, MemoryError) or isinstance(e.__cause__, MemoryError)
                plain = isinstance(e, ValueError | OSError)  # what is raised on purpose says it all
                why = {"why": str(e) if plain else f"{type(e).__name__}: {e}"}
                _send(pipe, "full" if full else "raised", {"gb": memory / 1e9} if full else why)
    finally:
        os._exit(0)


def _limit(memory: int) -> None:
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # before any other process
    if STATM.exists():
        has = int(STATM.read_text().split()[5]) * resource.getpagesize()  # data and stack
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = has + memory if hard == resource.RLIM_INFINITY else min(has + memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _send(pipe: Any, sort: str, words: Words, arrays: Sequence[np.ndarray] = ()) -> None:
    forms = [(array.dtype.str, array.shape) for array in arrays]
    pipe.write(json.dumps([sort, words, forms]).encode() + b"\n")
    for array in arrays:
        pipe.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    pipe.flush()


def _received(pipe: Any) -> Iterator[tuple[str, Words, Sequence[np.ndarray]]]:
    sort = "yielded"
    while sort == "yielded":
        line = pipe.readline()
        if not line.endswith(b"\n"):
            return  # it has died: whoever waits for the last word says so
        sort, words, forms = json.loads(line)
        arrays = [np.empty(shape, dtype) for dtype, shape in forms]
        for array in arrays:
            whole = array.reshape(-1).view(np.uint8)
            if pipe.readinto(whole) < len(whole):
                return
        yield sort, words, arrays


def _raise(sort: str, words: Words) -> None:
    if sort == "full":
        raise Unfinished(f"it needs more than {words['gb']:.3g} GB of memory")
    if sort == "gone":
        raise FileNotFoundError(words["why"])
    if sort == "raised":
        raise Raised(words["why"])


def _died(status: int | None) -> str:
    if status is not None and os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f"the process that read it was ended by {name}, as where memory runs out or a decoder breaks"
    return "the process that read it ended without a word"

"""What a user can mend is told in one sentence; everything else is a fault of Perdure, and keeps its traceback.

Perdure raises ValueError (or FileNotFoundError) with a sentence that says what was expected, what came and what to do.
What a library raises about something that a user has written (a text, a file, a plugin) becomes such a sentence in
`reading`. What is left was not foreseen.
"""

import dis
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OURS = Path(__file__).parent
THEIRS = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
LONG = 300  # characters of a library's own words that are passed on


def foreseen(error: BaseException) -> bool:
    """Whether a `raise` in Perdure's code, or in a user's own, made this error, with a sentence of its own.

    False where a library did, or a function of Python's. True where it came from another process, without a traceback.
    """
    last = error.__traceback__
    if last is None:
        return True
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    ours = Path(code.co_filename).is_relative_to(OURS) or is_own(code.co_filename)
    return ours and dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"


@contextmanager
def reading(problem: str, remedy: str, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Inside, something is read, or made, that a user has written: what a library says of it becomes one sentence.

    problem: what is wrong where something is, as "own.csv cannot be read". remedy: what to do. kind: of the error.
    Errors that have their sentence pass, and those that say that a file is not there.
    """
    try:
        yield
    except Exception as e:
        if isinstance(e, FileNotFoundError) or (isinstance(e, ValueError) and foreseen(e)):
            raise
        raise kind(f"{problem}: {why(e)}; {remedy}") from e


def why(error: BaseException) -> str:
    """A library's error in few words, and where it came by code of one's own, as `KeyError: 'a' (own.py, line 12, in
    steer)`."""
    where = place(error)
    return words(error) + (f" ({where})" if where else "")


def words(error: BaseException) -> str:
    """A library's error in few words, without Python's numbers."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    text = text if len(text) <= LONG else f"{text[:LONG]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place(error: BaseException) -> str:
    """The innermost line of a plugin, script or module of one's own that an error came by; empty where none is."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(code, line) for code, line in frames if is_own(code.co_filename)]
    if not own:
        return ""
    code, line = own[-1]
    return f"{Path(code.co_filename).name}, line {line}, in {code.co_name}"


def asks_to_leave(error: SystemExit) -> bool:
    """Whether it is code of one's own that calls `exit`, rather than a signal's handler while that code is at work."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if is_own(frame.f_code.co_filename):
            return True
        if frame.f_code.co_filename.startswith(str(OURS)):
            return False
    return False


def is_own(file: str) -> bool:
    """Whether a file of code is neither Perdure's nor of what is installed."""
    path = Path(file)
    return path.is_file() and not path.is_relative_to(OURS) and not any(map(path.is_relative_to, THEIRS))

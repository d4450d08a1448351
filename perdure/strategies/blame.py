"""Whose an exception is: where in code of one's own it came from, and what to say of it."""

import traceback
from pathlib import Path

from ..errors import OURS, is_own


def described(error: BaseException) -> str:
    """Its type and text, and the place in code of one's own, as `KeyError: 'a' (mine.py, line 12, in steer)`."""
    text = str(error)
    where = place(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}{f' ({where})' if where else ''}"


def place(error: BaseException) -> str:
    """The innermost line of a plugin, script or module of one's own that an exception came by; empty where none is."""
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

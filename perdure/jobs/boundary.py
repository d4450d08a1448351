"""Where errors end, of whatever command: what a user can mend in a sentence, a fault of Perdure in a file."""

import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from typer.core import TyperGroup

from ..errors import foreseen, words
from ..notation import UnknownName
from .terminal import console, saying

REMEDIES = {
    "PermissionError": "choose a place that you may write to and read from",
    "NotADirectoryError": "a part of this path is a file; name a folder",
    "IsADirectoryError": "this is a folder; name a file",
    "FileExistsError": "a file is in the way; take it away, or name another place",
}
# what typer prints itself, one of which has no public name
SPOKEN: tuple[type[BaseException], ...] = (
    typer.Exit,
    typer.Abort,
    *(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"),
)
FAULT = 70  # EX_SOFTWARE of sysexits.h


class Bounded(TyperGroup):
    """All commands, inside one boundary."""

    def invoke(self, ctx):
        with bounded():
            return super().invoke(ctx)


@contextmanager
def bounded() -> Iterator[None]:
    """A user's mistake ends in a sentence and code 2; numbers that stop being finite in a sentence and code 1; an
    interrupt in a word and code 130; anything else in the name of a file with all that a report needs, and code 70."""
    from ..strategies.numerics.divergence import Diverged

    try:
        yield
    except (*SPOKEN, BrokenPipeError):
        raise
    except KeyboardInterrupt:  # before there were runs to stop, or while they were reported on
        _leave("interrupted; the same line, typed again, makes what is lacking", 130)
    except Diverged as e:
        _leave(f"failed: {e}", 1)
    except OSError as e:  # data that are not there, a folder that cannot be written to, a disk that is full
        remedy = REMEDIES.get(type(e).__name__)
        _leave(f"error: {e if e.errno is None else words(e)}" + (f"; {remedy}" if remedy else ""), 2)
    except ValueError as e:
        if not foreseen(e):
            _leave(_fault(e), FAULT)
        own = isinstance(e, UnknownName)
        hint = "\na name of your own? its file goes with the line: --plugin FILE" if own else ""
        _leave(f"error: {e}{hint}", 2)
    except MemoryError as e:
        _leave(f"error: this needs more memory than there is ({e}); take less data, or a smaller model", 2)
    except Exception as e:
        _leave(_fault(e), FAULT)


def _leave(message: str, code: int) -> NoReturn:
    saying(console(stderr=True))(message)
    sys.exit(code)


def _fault(error: BaseException) -> str:
    """Write down all that a report needs, and say where it lies."""
    from ..platform.storage.locations import fetch_line
    from ..platform.storage.secrets import masked
    from ..streams.storage.directories import user_cache
    from ..version import __version__

    versions = f"perdure {__version__}, Python {platform.python_version()}, {platform.platform()}"
    line = " ".join(["perdure", *sys.argv[1:]])
    told = "".join(traceback.format_exception(error))
    text = masked(f"{versions}\n{line}\nin {Path.cwd()}\n\n{told}")
    if fetch_line():  # a submitted job's log comes back, and no file of its machine
        return (
            f"fault: this is a mistake in Perdure, or one that it does not know yet; attach this to a report:\n{text}"
        )
    name = f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for place in (lambda: user_cache() / "faults", lambda: Path(tempfile.gettempdir())):
        try:
            folder = place()
            folder.mkdir(parents=True, exist_ok=True)
            with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        except (OSError, ValueError):
            continue
        head = f"{type(error).__name__}: {masked(str(error))[:300]}"
        return (
            f"fault: this is a mistake in Perdure, or one that it does not know yet ({head})\n"
            f"what was typed, versions and the traceback are in {folder / name}\n"
            "attach that file to a report, after a look at what it tells of your data"
        )
    return f"fault: a mistake in Perdure, and no place to write it down:\n{text}"

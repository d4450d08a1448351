"""Pictures of accuracy: over the stream, and as a matrix. Figure objects only, no window, no global state."""

import os
from contextlib import suppress
from pathlib import Path
from textwrap import fill
from typing import Any

from ...streams.storage.directories import user_cache, writable

# Okabe & Ito's palette, told apart by colour-blind readers too (2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D00")
MARKERS = "osD^vPX*"
MARKED = 60  # points of a curve that have a marker each


def wrapped(name: str) -> str:
    """A strategy's text as a title: the layout gives way to a large one, until nothing is left of the axes."""
    return fill(name, 34, max_lines=6, placeholder=" ...")


def svg(figure: Any) -> str:
    """The figure as an SVG element, the same bytes for the same figure."""
    import io
    import re

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "perdure"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)


def new(width: float, height: float) -> Any:
    """An empty figure, sides in inches."""
    _settle()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _settle() -> None:
    """Where there is no home to write to, Matplotlib makes a folder and looks for fonts in every process anew, and says
    so on every command: it is given one that lasts."""
    if "MPLCONFIGDIR" in os.environ:
        return
    with suppress(RuntimeError, ValueError):  # no home, and no cache either: it does as it can
        if writable(Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "matplotlib"):
            return
    with suppress(ValueError):
        os.environ["MPLCONFIGDIR"] = str(user_cache() / "matplotlib")

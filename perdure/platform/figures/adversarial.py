"""Adversarial samples beside the samples that they were made from."""

from typing import Any

from ...strategies.attacks.evaluate import Attacked
from .canvas import wrapped
from .samples import sheet

SHOWN = 8  # samples in a picture


def drawn(got: Attacked, title: str = "") -> Any:
    """A figure: samples that were fooled with the answers to them above, what was added, amplified to full contrast,
    and what came of it with the answers below.
    """
    rows = got.fooled.nonzero().flatten()[:SHOWN]
    clean, moved = got.clean[rows], got.x[rows]
    delta = moved - clean
    most = delta.abs().amax().clamp(min=1e-12)
    labels = ["clean", f"x {0.5 / most.item():.2g}", "attacked"]
    figure = sheet([clean, 0.5 + 0.5 * delta / most, moved], len(rows), labels)
    figure.axes[0].set_title(wrapped(title), pad=16)
    axes, (height, width) = figure.axes[0], clean.shape[2:]
    for n, row in enumerate(rows.tolist()):
        middle = n * (width + 1) + width / 2
        axes.text(middle, -0.6, str(got.before[row].item()), ha="center", va="bottom", fontsize=7)
        axes.text(middle, 3 * (height + 1), str(got.after[row].item()), ha="center", va="top", fontsize=7, color="C3")
    return figure

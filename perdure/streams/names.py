"""What streams and data sets are called, in Python, on the command line and in recipes alike."""

from .digits import Digits
from .permuted import Permuted
from .recipe import Recipe
from .rotated import Rotated
from .split import ClassSplit

DATASETS: dict[str, type] = {"digits": Digits}
STREAMS: dict[str, type] = {"split": ClassSplit, "permuted": Permuted, "rotated": Rotated}


def stream_recipe(text: str) -> Recipe:
    """The recipe that `text` spells, such as `split(fashion_mnist, 5)`. Raises NotationError."""
    from ..notation import read

    recipe = read(text, STREAMS | DATASETS)
    if not isinstance(recipe, Recipe):
        raise ValueError(f"expected a stream such as split({text}), got {text!r}")
    return recipe

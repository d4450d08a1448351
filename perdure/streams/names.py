"""What streams, data sets and sources are called, in Python, on the command line and in recipes alike."""

from collections.abc import Callable, Iterator
from typing import Any

from ..notation import read_as
from .datasets.arrays import Arrays
from .datasets.cifar import CIFAR10, CIFAR100
from .datasets.dataset import Source
from .datasets.digits import Digits
from .datasets.images import Images
from .datasets.mnist import EMNIST, KMNIST, MNIST, FashionMNIST
from .datasets.omniglot import Omniglot
from .datasets.strokes import Strokes
from .datasets.svhn import SVHN
from .datasets.table import Table
from .episodes import CIFARFS, EpisodeRecipe, FewShot, Sinusoid
from .live.folder import Folder
from .live.source import Generated, LiveSource
from .poisoning.clean_label import Collided, Matched
from .poisoning.defence import Cleansed
from .poisoning.poisoned import Backdoored, Flipped
from .recipe import Recipe
from .scenarios.assigned import Assigned
from .scenarios.avalanche import AvalancheData, AvalancheStream
from .scenarios.blurry import Blurry
from .scenarios.drifting import Drifting
from .scenarios.imbalanced import Imbalanced, LongTailed
from .scenarios.noisy import Noisy
from .scenarios.online import Online
from .scenarios.permuted import Permuted
from .scenarios.repeated import Repeated
from .scenarios.rotated import Rotated
from .scenarios.split import ClassSplit
from .scenarios.swiss_roll import Rolls, SwissRoll
from .scenarios.validated import Validated

STREAMS: dict[str, type] = {
    "split": ClassSplit,
    "permuted": Permuted,
    "rotated": Rotated,
    "assigned": Assigned,
    "swiss_roll": SwissRoll,
    "blurry": Blurry,
    "online": Online,
    "repeated": Repeated,
    "noisy": Noisy,
    "long_tailed": LongTailed,
    "imbalanced": Imbalanced,
    "drifting": Drifting,
    "flipped": Flipped,
    "backdoored": Backdoored,
    "collided": Collided,
    "matched": Matched,
    "cleansed": Cleansed,
    "validated": Validated,
    "avalanche": AvalancheStream,
}
DATASETS: dict[str, type] = {
    "digits": Digits,
    "fashion_mnist": FashionMNIST,
    "mnist": MNIST,
    "kmnist": KMNIST,
    "emnist": EMNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "svhn": SVHN,
    "omniglot": Omniglot,
    "strokes": Strokes,
    "images": Images,
    "arrays": Arrays,
    "table": Table,
    "rolls": Rolls,
    "avalanche_data": AvalancheData,
}
EPISODES: dict[str, type] = {"sinusoid": Sinusoid, "few_shot": FewShot, "cifar_fs": CIFARFS}
SOURCES: dict[str, type] = {"folder": Folder}
GENERATORS: dict[str, Callable[[], Iterator[Any]]] = {}  # functions of one's own


def stream_recipe(text: str) -> Recipe:
    """The recipe that `text` spells. Raises NotationError.

    >>> stream_recipe("split(digits, 2)")
    ClassSplit(dataset=Digits(), experiences=2, protocol='class', order=None, seed=None)
    """
    return read_as(Recipe, "a stream such as split(digits)", text, STREAMS | DATASETS)


def data_set(text: str) -> Source:
    """The data set that `text` spells, as `images('photos')`. Raises NotationError."""
    return read_as(Source, "a data set such as fashion_mnist", text, DATASETS)


def episode_recipe(text: str) -> EpisodeRecipe:
    """The recipe that `text` spells, as `few_shot(strokes, ways=5, shots=1)`. Raises NotationError."""
    return read_as(EpisodeRecipe, "episodes such as sinusoid", text, EPISODES | DATASETS)


def live_source(text: str) -> LiveSource:
    """The source of a stream that goes on that `text` spells, as `folder('inbox')`. Raises NotationError."""
    if text in GENERATORS:
        return Generated(GENERATORS[text])
    return read_as(LiveSource, "a source of arrivals such as folder('inbox')", text, SOURCES)

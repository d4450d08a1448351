"""How long a learner trains, and a resumable position in that training."""

from dataclasses import dataclass, field
from typing import Any, get_args

from ...notation import expect_types
from ..learner import Precision


@dataclass(frozen=True)
class Plan:
    """How long an experience is learned: `epochs` passes over it, or exactly `steps` batches.

    accumulate: parts that a batch, and all that strategies add to it, passes through the model in, one after the other,
    for one step; it needs less memory and changes nothing but rounding, unless layers normalise by the batch.
    """

    epochs: int = 1
    batch_size: int = 128
    steps: int | None = None
    accumulate: int = 1
    precision: Precision = "float32"  # bfloat16: of what layers multiply (autocast)
    compiled: bool = False  # the model, by torch.compile: half a minute to begin with, and other roundings

    def __post_init__(self):
        expect_types(self)
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        for name in ("epochs", "batch_size", "steps", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True, eq=False)
class Bookmark:
    """A place within an experience to go on from."""

    experience: int
    step: int
    checkpoint: dict[str, Any]  # with the same learner, strategy and plan, all that `learn` needs to go on


@dataclass(frozen=True, eq=False)
class Milestone:
    """The stream has been learned up to one of its marks: where tests are made, at the end of every experience
    by default."""

    experience: int  # the how manieth mark, from 0
    loss: float  # mean over the last epoch of the last experience
    accuracy: tuple[float, ...]  # on the test split of each experience; NaN of those not in `Stream.tested`
    baseline: tuple[float, ...]  # the same before anything was learned; empty where not all are tested on each time
    state_bytes: int  # that the strategy carries on
    seconds: float  # spent by this attempt since the mark before
    checkpoint: dict[str, Any]
    extras: dict[str, float] = field(default_factory=dict)  # what the strategy tells of itself

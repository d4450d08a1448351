"""Experience replay: every batch carries remembered samples along (Chaudhry et al. 2019, arXiv:1902.10486)."""

from dataclasses import dataclass

from ..base import Strategy
from ..blocks.memory import Selection, drawn, joined, refuse_no_room, remembered


@dataclass(frozen=True)
class Rehearsal(Strategy):
    """Keep `capacity` real samples in all, and join draws from them to every batch.

    Kept are samples drawn uniformly from all that were met (`reservoir`, Vitter 1985), drawn from each
    class (`balanced`), or of each class those whose features have the class's mean (`herding`), that lie
    far from each other (`k_centre`), or whose gradients have the class's mean (`gradient`).
    """

    capacity: int
    selection: Selection = "balanced"
    replay: int | None = None  # remembered samples in a batch; as many as new ones by default

    def __post_init__(self):
        refuse_no_room(self.capacity)
        if self.replay is not None and self.replay < 1:
            raise ValueError(f"replay must be at least 1, got {self.replay}")

    def augment(self, learner, batch, state):
        if not state:
            return batch
        past, _ = drawn(state, self.replay or len(batch.y), learner.rng["rehearsal"])
        return joined(batch, past)

    def consolidate(self, learner, experience, state):
        return remembered(state, learner, experience, self.capacity, self.selection, learner.rng["rehearsal"])

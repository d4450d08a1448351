"""What is reached by looking where a continual learner may not: all data together."""

from dataclasses import dataclass, replace

import torch

from ...streams.experience import Lazy, Split
from ..base import Strategy
from ..numerics.rng import Rng


@dataclass(frozen=True)
class Joint(Strategy):
    """Learn everything mixed: every experience is an equal random share of the whole stream.

    The stream keeps its length, and a share its size: joint training costs as many samples and steps as
    any other strategy on the same stream. Tests stay where they were, every head is open from the start.
    """

    def curriculum(self, stream):
        whole = Split.union([e.train for e in stream])
        order = torch.randperm(len(whole), generator=Rng(0)["joint"]).to(whole.device)
        shares = order.tensor_split(len(stream))
        mixed = Lazy(len(stream), lambda i: replace(stream[i], train=whole.part(shares[i])))
        return replace(stream, experiences=mixed, foresight=True)


@dataclass(frozen=True)
class Cumulative(Strategy):
    """Learn, at every experience, on all data met so far: rehearsal with nothing thrown away."""

    def curriculum(self, stream):
        grown = Lazy(
            len(stream), lambda i: replace(stream[i], train=Split.union([e.train for e in stream.experiences[: i + 1]]))
        )
        return replace(stream, experiences=grown)

"""A plugin whose strategy writes into everything it is handed: what it must not reach is others' data."""

from dataclasses import dataclass

import perdure
from perdure.strategies.base import Strategy


@dataclass(frozen=True)
class Vandal(Strategy):
    def augment(self, learner, batch, state):
        batch.x.zero_()
        return batch

    def consolidate(self, learner, experience, state):
        everything = experience.train.everything()
        for tensor in (everything.x, everything.y, experience.train.y, experience.test.y):
            tensor.zero_()
        return {}


perdure.register("vandal", Vandal)

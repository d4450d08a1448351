"""Differentiable architecture search (Liu et al. 2019, arXiv:1806.09055)."""

from dataclasses import dataclass

from .maml import MAML

MIX = "mix"  # what a layer calls its mixing weights: `perdure.strategies.models.mixed`


@dataclass(frozen=True)
class DARTS(MAML):
    """MAML that leaves the mixing weights α of a model's candidate operations alone while it adapts: they are learned
    by the loss on the queries after the steps, ∇_α L_query(w - lr ∇_w L_support(w, α), α) (eq. 6).

    For models that mix, as mixed(40, 40) and mixed_conv4(32).
    """

    def init(self, weights, chance):
        if not any(_mixes(k) for k in weights):
            raise ValueError(
                "darts chooses among a model's operations; take a model that mixes some, mixed(40, 40) or mixed_conv4"
            )
        return super().init(weights, chance)

    def moves(self, weights):
        return tuple(k for k in weights if not _mixes(k))


def _mixes(name: str) -> bool:
    return name.rpartition(".")[2] == MIX

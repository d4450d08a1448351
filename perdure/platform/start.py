"""Weights to begin from: those that another run has ended with."""

from torch import Tensor, nn

from . import mirror
from .execute import ended
from .found import found
from .meta.run import MetaRun
from .run import Run
from .site import Site


def start_from(model: nn.Module, run: Run, site: Site) -> None:
    """Put the weights of the run that `run` names in `start` into its model, before anything is learned.

    Of a run that meta-learned, those that it adapts from. A last layer of another width begins anew. Raises ValueError
    for runs that are not there or not finished, and for weights of another model.
    """
    if not run.start:
        return
    mirror.fetch([run.start], site, checkpoints=True)
    other = found(run.start, site.home)
    kept = ended(other, site)
    weights: dict[str, Tensor] = kept["learned"]["weights"] if isinstance(other, MetaRun) else kept["model"]
    own = model.state_dict()
    last = [name.rpartition(".")[0] for name, _ in model.named_parameters()][-1]
    for name, value in own.items():
        if name in weights and weights[name].shape == value.shape:
            value.copy_(weights[name])
        elif name in dict(model.named_parameters()) and name.rpartition(".")[0] != last:
            theirs = tuple(weights[name].shape) if name in weights else "none"
            raise ValueError(
                f"run {other.id} has weights of {other.model}, which do not fit {run.model}: {name} is "
                f"{tuple(value.shape)} here and {theirs} there; ask for the same model, on samples of the same shape"
            )

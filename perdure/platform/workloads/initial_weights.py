"""Weights to begin from: those that another run has ended with."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..runs import sync
from ..runs.lookup import found
from ..runs.meta_run import MetaRun
from ..runs.record import ended
from ..runs.run import Run
from ..runs.workspace import Site


def start_from(model: nn.Module, run: Run, site: Site) -> None:
    """Put the weights of the run that `run` names in `start` into its model, before anything is learned.

    Of a run that meta-learned, those that it adapts from. A last layer of another width begins anew. Raises ValueError
    for runs that are not there or not finished, and for weights of another model.
    """
    if not run.start:
        return
    sync.fetch([run.start], site, checkpoints=True)
    other = found(run.start, site.home)
    kept = ended(other, site)
    weights: dict[str, Tensor] = kept["learned"]["weights"] if isinstance(other, MetaRun) else kept["model"]
    weights = weights | kept.get("still", {})  # of a run that meta-learned: what it held still
    own, head = model.state_dict(), _head(model, weights)
    for name, value in own.items():
        if name in weights and weights[name].shape == value.shape:
            value.copy_(weights[name])
        elif name in dict(model.named_parameters()) and name.rpartition(".")[0] != head:
            theirs = tuple(weights[name].shape) if name in weights else "none"
            raise ValueError(
                f"run {other.id} has weights of {other.model}, which do not fit {run.model}: {name} is "
                f"{tuple(value.shape)} here and {theirs} there; ask for the same model, on samples of the same shape"
            )


def _head(model: nn.Module, theirs: Mapping[str, Tensor]) -> str | None:
    """The layer that may begin anew: the only one of another width, with the same inputs. None where there is none.

    A layer that is followed by others cannot be: the next would have other inputs.
    """
    own = dict(model.named_parameters())
    wider = {k for k, p in own.items() if k in theirs and p.shape != theirs[k].shape}
    layers = {name.rpartition(".")[0] for name in wider}
    return layers.pop() if len(layers) == 1 and all(own[k].shape[1:] == theirs[k].shape[1:] for k in wider) else None

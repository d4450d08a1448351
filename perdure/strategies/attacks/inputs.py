"""What somebody hands over to be attacked: models and samples as they come, made into what attacks work on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .oracles import Answer

Model = nn.Module | Callable[[Tensor], Tensor]


def samples(x: Any, model: Model) -> Tensor:
    """A tensor as it is; floats of NumPy and lists in the dtype of the model's weights, or in float32."""
    if isinstance(x, Tensor):
        return x
    made = _from_numpy(x, "samples (N, ...)")
    return made.to(_dtype(model) or torch.get_default_dtype()) if made.is_floating_point() else made


def classes(y: Any, device: torch.device) -> Tensor:
    """Whole numbers of any width as int64."""
    made = y if isinstance(y, Tensor) else _from_numpy(y, "classes (N,)")
    whole = not (made.is_floating_point() or made.is_complex() or made.dtype == torch.bool)
    return (made.long() if whole else made).to(device)


def answering(model: Model) -> Answer:
    """The model as attacks ask it; what goes wrong inside it is raised as a ValueError that says what it was given."""
    call = laid_out(model)

    def answer(x: Tensor, rows: Tensor) -> Tensor:
        try:
            return call(x)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as e:
            weights, given = _dtype(model), f"{tuple(x.shape)} {x.dtype} on {x.device}"
            remedy = "give samples of the shape, dtype and device that it takes"
            if weights not in (None, x.dtype):
                wide = weights == torch.float64
                remedy = f"its weights are {weights}: pass {'x.double()' if wide else 'x.float() and model.float()'}"
            raise ValueError(f"expected a model that answers samples {given}, and it raised {e}; {remedy}") from e

    return answer


def laid_out(model: Model) -> Callable[[Tensor], Tensor]:
    """The same function, with copies of the weights of convolutions that lie as they are read fastest: channels last.

    Twice as fast on a CPU. The module itself stays as it is; its weights get no gradient.
    """
    if not isinstance(model, nn.Module):
        return model
    held = {k: v.detach() for k, v in (*model.named_parameters(), *model.named_buffers())}
    laid = {k: v.clone(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in held.items()}
    laid = {k: v.clone() if v.is_inference() else v for k, v in laid.items()}  # which autograd would not save
    return lambda x: functional_call(model, laid, (x,))


@contextmanager
def resting(model: object) -> Iterator[None]:
    """A module in evaluation mode for a while: dropout and batch statistics would answer otherwise every time."""
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _dtype(model: Model) -> torch.dtype | None:
    """Of the model's weights, where it has any."""
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p.dtype for p in weights if p.is_floating_point()), None)


def _from_numpy(values: Any, what: str) -> Tensor:
    import numpy

    try:
        return torch.from_numpy(numpy.array(values))
    except (TypeError, ValueError) as e:
        raise ValueError(f"expected {what} as a tensor or an array of numbers, got {type(values).__name__}: {e}") from e

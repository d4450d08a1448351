"""A model as it is served: an MLflow model whose graph is exported, and loads without Perdure and without pickles."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...strategies.base import State, Strategy
from ...strategies.learner import SHUT, Learner
from ...strategies.training.loop import restored
from ...streams.experience import Batch, Stream, pixels

EXAMPLES = 3  # samples in the input example; of more than one the number of samples is seen to be free


class Served(nn.Module):
    """Samples as they are stored, (N, ...) uint8 or float32, to (N, C) outputs, at -1e9 those of classes not met."""

    def __init__(self, learner: Learner, strategy: Strategy, state: State):
        super().__init__()
        self.model, self._learner, self._strategy, self._state = learner.model, learner, strategy, state
        assert learner.heads is not None
        self.task, self.shut = len(learner.heads) - 1, nn.Buffer(~learner.heads[-1])

    def forward(self, x: Tensor) -> Tensor:
        x = pixels(x)
        last = x.new_full((x.shape[0],), self.task, dtype=torch.int64)
        batch = Batch(x, torch.zeros_like(last), last, torch.ones_like(last, dtype=torch.float32))
        outputs = self._learner.outputs(x, last)
        answers = self._strategy.answer(self._learner, batch, outputs, self._state)
        return answers.masked_fill(self.shut, SHUT)


def export(
    folder: Path,
    learner: Learner,
    strategy: Strategy,
    checkpoint: dict[str, Any],
    stream: Stream,
    taken: dict[str, Any],
) -> None:
    """Write an MLflow model to `folder`, with signature, input example, and the names of its outputs as metadata.

    learner: on the CPU, and new. Raises ValueError where torch.export cannot follow how the strategy answers.
    """
    module = Served(learner, strategy, restored(strategy, stream, learner, _on_cpu(checkpoint))).eval()
    sort, shape = np.dtype(taken["dtype"]), taken["shape"]
    x = taken["held_x"]
    example = x[torch.arange(EXAMPLES) % len(x)].numpy()
    about = {"classes": {str(place): name for name, place in taken["names"].items()}}
    packages = [f"torch=={torch.__version__.partition('+')[0]}", "numpy", "mlflow"]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of MLflow on its own types, and of torch on its own graphs
            _save(folder, module, (sort, shape), stream.classes.shape[1], example, packages, about)
    except RuntimeError as e:  # what torch.export raises derives from it
        raise ValueError(
            f"torch.export cannot follow how this model answers, so it cannot be registered: {str(e).splitlines()[0]}; "
            "leave out --register, or take another strategy or model"
        ) from e


def _save(folder: Path, module: nn.Module, taken: Any, outputs: int, example: Any, packages: Any, about: Any) -> None:
    from ..tracking.mlflow_client import quiet

    quiet()
    from mlflow import pytorch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    sort, shape = taken
    answers = Schema([TensorSpec(np.dtype(np.float32), (-1, outputs))])
    pytorch.save_model(
        module,
        folder,
        signature=ModelSignature(Schema([TensorSpec(sort, (-1, *shape))]), answers),
        input_example=example,
        serialization_format="pt2",  # a graph and tensors; a pickled module may run code when it is read
        pip_requirements=packages,
        metadata=about,
    )


def _on_cpu(checkpoint: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(0)
    return torch.load(buffer, map_location="cpu", weights_only=True)

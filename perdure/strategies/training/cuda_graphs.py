"""Steps on a GPU captured once and replayed: one launch for all of a step's kernels.

State is constant within an experience, so a step does the same work on the same memory every time, but for its batch.
What a graph replays are the kernels of the plain step in their order: it ends with the same bits.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...streams.experience import Batch
from ..base import State, Strategy, stages
from ..learner import Learner, silent
from ..models.winners import Winners

WARM = 3  # steps of a shape before it is captured: libraries choose kernels, the optimizer makes its moments
WORTH = 30  # steps of an experience, below which there is nothing to save
DRAWING = (nn.modules.dropout._DropoutNd, nn.RReLU, Winners)  # layers that draw random numbers in training

GPU = "cuda"  # the devices whose steps can be captured

Step = Callable[[Batch], Tensor]  # a batch that the strategy has seen, to the () loss


class Graphs(Protocol):
    """Who captures and replays."""

    def warm(self, work: Callable[[], Tensor]) -> Tensor:
        """The work done plainly, as it will be captured."""
        ...

    def capture(self, work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """What does the work again whenever it is called, and where its result will lie."""
        ...


class CudaGraphs:
    """Warmed and captured on one side stream, where autograd's own nodes then belong."""

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device)

    def warm(self, work):
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            result = work()
        here.wait_stream(self._stream)
        return result

    def capture(self, work):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result


def steps_of(
    step: Step,
    augment: Callable[[Learner, Batch, State], Batch],
    learner: Learner,
    strategy: Strategy,
    state: State,
    length: int,
    graphs: Callable[[torch.device], Graphs] = CudaGraphs,
) -> Step:
    """What takes one of the `length` steps of an experience: from a batch of it to the () loss.

    The loss is read before the next step: a replay writes it to the same place. What strategies add to a batch or
    change of it they do outside of what is captured, on draws from the CPU's streams.
    """

    def augmented(batch: Batch) -> Batch:
        learner.phase("augment")
        return augment(learner, batch, state)

    learner.uncaptured = why_not(learner, strategy, length)
    if learner.uncaptured:
        return lambda batch: step(augmented(batch))
    captured = Captured(learner, graphs(learner.device))
    return lambda batch: captured(lambda *parts: step(Batch(*parts)), *augmented(batch))


def why_not(learner: Learner, strategy: Strategy, length: int = WORTH) -> str:
    """Why the steps of an experience are not captured; empty where they are."""
    if learner.device.type != GPU:
        return f"there is nothing to capture on a {learner.device.type.upper()}"
    if length < WORTH:
        return f"{length} steps are too few"
    if learner.workers > 1:
        return "workers share every batch"
    if strategy.replays > 1:
        return "batches are replayed"
    for stage in stages(strategy):
        if not still(stage):
            return f"{type(stage).__name__} draws, waits or changes between steps"
    for name, layer in learner.model.named_modules():
        if isinstance(layer, DRAWING):
            return f"layer {name} draws random numbers"
    return ""


def still(stage: Strategy) -> bool:
    """Whether a stage's penalty and steer do the same at every step of an experience, as they do where it has none."""
    return stage.still if stage.still is not None else _keeps(stage, "penalty") and _keeps(stage, "steer")


class Captured:
    """Work on tensors, captured for each of their shapes, on copies of its own that never move."""

    def __init__(self, learner: Learner, graphs: Graphs):
        self._learner, self._graphs = learner, graphs
        self._warm: dict[Any, int] = {}
        self._held: dict[Any, tuple[list[Tensor], Callable[[], object], Tensor]] = {}

    def __call__(self, work: Callable[..., Tensor], *given: Tensor) -> Tensor:
        shape = tuple(part.shape for part in given)
        if shape not in self._held:
            self._warm[shape] = self._warm.get(shape, 0) + 1
            if self._warm[shape] <= WARM:
                return self._graphs.warm(lambda: work(*given))
            self._held[shape] = self._captured(work, given)
        inputs, replay, result = self._held[shape]
        self._learner.phase("replay")
        for mine, new in zip(inputs, given, strict=True):
            mine.copy_(new)
        replay()
        return result

    def _captured(self, work: Callable[..., Tensor], given: tuple[Tensor, ...]):
        inputs, phase = [part.clone() for part in given], self._learner.phase
        phase("capture")
        self._learner.phase = silent  # its clock would be captured with the rest
        try:
            return inputs, *self._graphs.capture(lambda: work(*inputs))
        finally:
            self._learner.phase = phase


def _keeps(stage: Strategy, hook: str) -> bool:
    """Whether a stage leaves a hook as it is."""
    return getattr(type(stage), hook) is getattr(Strategy, hook)

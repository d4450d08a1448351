"""A strategy is frozen hyperparameters plus a few pure hooks over an explicit state."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..streams.experience import Batch, Experience, Stream
from .learner import Learner

State = Any  # nested dicts and tuples of tensors and numbers: what torch.load(weights_only=True) reads
Grads = dict[str, Tensor]


class Strategy:
    """One idea against forgetting. Subclasses are frozen dataclasses and override only what they need.

    Within an experience the state is constant; only `consolidate` makes a new one.

    recalls: whether classes of different experiences are learned against each other: True for rehearsal, False
    for what only holds on to the past. A stage that does neither says None.
    still: whether `penalty` and `steer` do the same work on the same memory at every step of an experience, wait for
    nothing and draw nothing, so that a GPU may capture and replay them; None says yes where it has neither of them.
    replays: how often every batch is learned in a row; of a sum, the most that a stage asks for.
    apart: why several seeds of it are learned one after another, and not together; empty where they can be.
    """

    recalls: ClassVar[bool | None] = True
    still: ClassVar[bool | None] = None
    apart: ClassVar[str] = ""
    replays: int = 1

    def curriculum(self, stream: Stream) -> Stream:
        """What of the stream is met. Only upper bounds, which look where others may not, change it."""
        return stream

    def init(self, learner: Learner) -> State:
        """The state before the first experience; also the place to refuse an unfit learner."""
        return {}

    def augment(self, learner: Learner, batch: Batch, state: State) -> Batch:
        """The batch to learn from: add, replace or perturb samples."""
        return batch

    def penalty(self, learner: Learner, batch: Batch, outputs: Tensor, state: State) -> Tensor | float:
        """A () term to add to the loss; `outputs` (B, C) are the model's, before any head is shut."""
        return 0.0

    def steer(self, learner: Learner, grads: Grads, state: State) -> Grads:
        """The gradients to hand to the optimizer."""
        return grads

    def consolidate(self, learner: Learner, experience: Experience, state: State) -> State:
        """What to carry on from an experience that has just been learned."""
        return state

    def answer(self, learner: Learner, batch: Batch, outputs: Tensor, state: State) -> Tensor:
        """The (B, C) outputs to be judged by in a test; the model's own, but for other classifiers."""
        return outputs

    def describe(self, learner: Learner, state: State) -> dict[str, float]:
        """Numbers to report with a milestone, as {"rank/0": 12.0}."""
        return {}

    def carried(self, state: State) -> State:
        """What of the state has to be carried on, for its bytes to be counted: all that cannot be made again."""
        return state

    def __add__(self, other: "Strategy") -> "Chain":
        if not isinstance(other, Strategy):
            raise TypeError(f"a strategy adds to another strategy, not to {type(other).__name__}")
        if isinstance(self, OwnLoop) or isinstance(other, OwnLoop):
            raise ValueError("a strategy that trains with a loop of its own cannot be added to others")
        return Chain((*stages(self), *stages(other)))


class OwnLoop(Strategy):
    """A strategy that trains with a loop of its own: it has no part in ours, nor in sums of strategies."""

    apart = "it trains with a loop of its own, one replica at a time"

    def init(self, learner):
        if learner.workers > 1 or learner.parts > 1 or learner.precision != "float32":
            raise ValueError(
                f"{type(self).__name__} trains with a loop of its own, which knows no workers, no accumulation and no "
                "bfloat16; run it without"
            )
        return {}

    def learn(
        self, stream: Stream, learner: Learner, plan: Any, checkpoint: dict[str, Any] | None, due: Callable[[], bool]
    ) -> Iterator[Any]:
        """What `perdure.strategies.training.loop.learn` does: milestones, each with a checkpoint to go on from."""
        raise NotImplementedError


def stages(strategy: Strategy) -> tuple[Strategy, ...]:
    return strategy.stages if isinstance(strategy, Chain) else (strategy,)


@dataclass(frozen=True)
class Chain(Strategy):
    """Strategies one after the other: batches and gradients pass through in order, penalties add up."""

    stages: tuple[Strategy, ...] = ()

    @property
    def replays(self) -> int:
        return max((stage.replays for stage in self.stages), default=1)

    def curriculum(self, stream):
        for stage in self.stages:
            stream = stage.curriculum(stream)
        return stream

    def init(self, learner):
        return tuple(stage.init(learner) for stage in self.stages)

    def augment(self, learner, batch, state):
        for stage, own in zip(self.stages, state, strict=True):
            batch = stage.augment(learner, batch, own)
        return batch

    def penalty(self, learner, batch, outputs, state):
        return sum(s.penalty(learner, batch, outputs, own) for s, own in zip(self.stages, state, strict=True))

    def steer(self, learner, grads, state):
        for stage, own in zip(self.stages, state, strict=True):
            grads = stage.steer(learner, grads, own)
        return grads

    def consolidate(self, learner, experience, state):
        return tuple(s.consolidate(learner, experience, own) for s, own in zip(self.stages, state, strict=True))

    def answer(self, learner, batch, outputs, state):
        for stage, own in zip(self.stages, state, strict=True):
            outputs = stage.answer(learner, batch, outputs, own)
        return outputs

    def describe(self, learner, state):
        told = (s.describe(learner, own) for s, own in zip(self.stages, state, strict=True))
        return {k: v for numbers in told for k, v in numbers.items()}

    def carried(self, state):
        return tuple(stage.carried(own) for stage, own in zip(self.stages, state, strict=True))


@dataclass(frozen=True)
class Naive(Strategy):
    """Nothing against forgetting: fine-tune on whatever comes. The lower bound."""

    recalls = None

"""What a strategy asks of a learner, refused where it is not so: it would run and be wrong."""

from torch import nn

from ...streams.experience import Protocol
from ..base import Strategy, stages
from ..learner import Learner
from .optimizers import SGD

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def expect_weights(learner: Learner) -> None:
    """There must be something to learn."""
    if not learner.params:
        raise ValueError(
            "every weight of the model is frozen (requires_grad=False), so that nothing can be learned; leave those of "
            "one layer at least to be learned"
        )


def expect_plain_steps(learner: Learner, who: str) -> None:
    """A projected gradient must be the step: no rescaling of single weights, no decay beside it."""
    if not isinstance(learner.optimizer, SGD):
        got = type(learner.optimizer).__name__
        raise ValueError(
            f"{who} projects the gradient, which {got} would rescale weight by weight and turn back; use sgd(0.01)"
        )
    if learner.optimizer.weight_decay:
        raise ValueError(f"{who} protects directions that weight decay moves along; use sgd without weight_decay")


def expect_no_norms(learner: Learner, who: str) -> None:
    for name, module in learner.model.named_modules():
        if isinstance(module, NORMS):
            raise ValueError(
                f"{who} cannot protect the statistics of normalisation layers ({name} is a {type(module).__name__}); "
                "use mlp or convnet"
            )


def expect_rest(learner: Learner, layers: nn.Module, who: str) -> None:
    """Layers whose gradients are 0 must stay as they are."""
    if learner.keeps_optimizer or getattr(learner.optimizer, "weight_decay", 0):
        raise ValueError(
            f"{who} lets early layers rest, which weight decay and kept moments would move; use an optimizer without"
        )
    if any(isinstance(part, NORMS) for part in layers.modules()):
        raise ValueError(f"{who} lets early layers rest, whose normalisation would go on; use mlp or convnet")


def expect_tasks(learner: Learner, who: str) -> None:
    if learner.protocol != "task":
        raise ValueError(
            f"{who} needs to know the task of every sample, also in tests, which a {learner.protocol}-incremental "
            "stream does not tell; use protocol='task'"
        )


class Caution(UserWarning):
    """A strategy will run, and cannot do what is asked of it."""


def caution(strategy: Strategy, protocol: Protocol) -> str:
    """Why `strategy` is bound to fail on such streams, with a remedy; empty where it is not."""
    kinds = {stage.recalls for stage in stages(strategy)}
    if protocol != "class" or True in kinds or False not in kinds:
        return ""
    return (
        "holds on to what was learned, and never sees classes of different experiences together: on a "
        "class-incremental stream it forgets like naive; add a memory, as rehearsal(500), or ask for protocol='task'"
    )

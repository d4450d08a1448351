"""Avalanche's strategies beside ours (Lomonaco et al. 2021, arXiv:2104.00405)."""

import inspect
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...notation import REST
from ...streams.experience import Stream
from ...streams.scenarios.avalanche import tensors
from ..base import OwnLoop
from ..learner import Learner
from ..numerics.divergence import Diverged
from ..numerics.pytree import state_bytes
from ..training.loop import before_learning, judged
from ..training.plan import Milestone, Plan
from . import state as avalanche_state

OWN = {"model", "optimizer", "criterion", "train_mb_size", "train_epochs", "eval_mb_size", "device", "plugins"}
OWN |= {"evaluator", "eval_every", "peval_mode", "feature_extractor", "classifier", "kwargs", "base_kwargs", "self"}
NOT_HERE = {  # and why
    "JointTraining": "it does not learn a stream as it comes; use joint",
    "AR1": "it brings a model of its own; use avalanche('Replay') or rehearsal(200)",
    "PNNStrategy": "it needs a model of Avalanche's own, which grows",
    "PackNet": "it needs a model of Avalanche's own",
    "LearningToPrompt": "it brings a pretrained model of its own",
    "ExpertGateStrategy": "it brings a pretrained model of its own",
    "LFL": "it needs a model of Avalanche's own",
    "SCR": "it needs a model of Avalanche's own",
    "StreamingLDA": "it needs a model of Avalanche's own",
    "BiC": "avalanche-lib 0.6 calls PyTorch's scheduler with an argument that is no more",
    "FeatureReplay": "avalanche-lib 0.6 cannot join its features of two experiences",
    "VAETraining": "it trains a generator",
    "AETraining": "it trains a generator",
}


@dataclass(frozen=True)
class AvalancheStrategy(OwnLoop):
    """One of `avalanche.training.supervised` by name, as avalanche('GDumb', mem_size=2000); arguments are Avalanche's.

    It trains with Avalanche's own loop, on the same experiences, epochs, batch size, model and optimizer (which
    starts afresh after every mark as ours do, or is kept where it says so), and is tested as ours are. A run
    that is killed goes on from the end of the last experience. Needs avalanche-lib.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...] = field(default=(), metadata=REST)

    def init(self, learner):
        self.made(learner, Plan())
        return super().init(learner)

    def learn(
        self, stream: Stream, learner: Learner, plan: Plan, checkpoint: dict[str, Any] | None, due: Callable[[], bool]
    ) -> Iterator[Milestone]:
        """Avalanche's loop in place of ours; milestones alone, since it cannot stop within an experience."""
        import time

        root, classes = learner.rng, stream.classes.shape[1]
        learner.protocol, learner.heads = stream.protocol, stream.heads(0)
        if self.name == "ER_AML" and dict(self.arguments).get("mem_size", 200) < plan.batch_size * classes:
            least = f"mem_size={plan.batch_size * classes}"
            raise ValueError(
                f"Avalanche's ER_AML waits for ever where a class has no whole batch in memory; give {least}"
            )
        theirs = self.made(learner, plan, due)
        baseline, first = judged(learner, before_learning(stream), _answers(theirs, classes)), 0
        if checkpoint is not None:
            _prepare(theirs)
            avalanche_state.restore(theirs, checkpoint["strategy"]["theirs"])
            theirs.plugins[0].classes = checkpoint["strategy"]["classes"]
            baseline, first = tuple(checkpoint["baseline"]), checkpoint["experience"]
        started = time.perf_counter()
        for i in range(first, len(stream)):
            learner.heads = stream.heads(i)
            if i - 1 in stream.marks and not learner.keeps_optimizer:
                theirs.optimizer.state.clear()
            _seed(root.fold(i).integer("avalanche"))
            losses = _trained(theirs, stream, i)
            if i not in stream.marks:
                continue
            told = judged(learner, [stream[j] for j in stream.tested(i)], _answers(theirs, classes))
            accuracy = stream.spread(i, told)
            state = {"theirs": avalanche_state.told(theirs), "classes": theirs.plugins[0].classes}
            after = {"model": _snapshot(theirs, learner), "strategy": state, "baseline": baseline, "experience": i + 1}
            spent, started = time.perf_counter() - started, time.perf_counter()
            yield Milestone(stream.marks.index(i), losses, accuracy, baseline, state_bytes(state), spent, after)

    def made(self, learner: Learner, plan: Plan, due: Callable[[], bool] = lambda: False) -> Any:
        """Avalanche's strategy over the learner's model. Raises ValueError for an unknown name or argument."""
        with warnings.catch_warnings(action="ignore"):
            from avalanche.training import supervised

        cls = vars(supervised).get(self.name)
        if not inspect.isclass(cls):
            known = sorted(n for n, c in vars(supervised).items() if n[:1].isupper() and inspect.isclass(c))
            raise ValueError(f"Avalanche has no strategy {self.name!r}; it has {', '.join(known)}")
        if self.name in NOT_HERE:
            raise ValueError(f"Avalanche's {self.name} cannot run here: {NOT_HERE[self.name]}")
        takes = inspect.signature(cls).parameters
        unknown = sorted({k for k, _ in self.arguments} - set(takes))
        if unknown:
            theirs = ", ".join(k for k in takes if k not in OWN)
            raise ValueError(f"Avalanche's {self.name} has no argument {unknown[0]!r}; it takes {theirs or 'none'}")
        optimizer = learner.optimizer(learner.params.values())
        net = _headed(learner) if learner.protocol == "task" else learner.model
        parts = {"model": net, "optimizer": optimizer, "criterion": nn.CrossEntropyLoss()}
        if "feature_extractor" in takes:
            if not isinstance(learner.model, nn.Sequential):
                raise ValueError(
                    f"Avalanche's {self.name} takes a model apart before its last layer, which is known of a sequence "
                    f"alone, as mlp and convnet are, got {type(learner.model).__name__}"
                )
            body = list(learner.model)
            parts |= {"feature_extractor": nn.Sequential(*body[:-1]), "classifier": body[-1]}
        parts |= {
            "train_mb_size": plan.batch_size,
            "train_epochs": 1 if plan.steps else plan.epochs,
            "eval_mb_size": 4096,
        }
        parts |= {"device": learner.device, "evaluator": None, "plugins": [_pulse()(plan, due)]}
        given = {k: v for k, v in parts.items() if k in takes} | dict(self.arguments)
        missing = [k for k, p in takes.items() if p.default is p.empty and k not in given and k not in OWN]
        if missing:
            raise ValueError(
                f"Avalanche's {self.name} needs {', '.join(missing)}: avalanche('{self.name}', {missing[0]}=...)"
            )
        with warnings.catch_warnings(record=True, action="ignore"):
            return cls(**given)


def _snapshot(theirs: Any, learner: Learner) -> dict[str, Tensor]:
    """The weights of Avalanche's model, which may have replaced the learner's."""
    net = getattr(theirs.model, "net", theirs.model) if learner.protocol == "task" else theirs.model
    weights = {k: v.detach().clone() for k, v in net.state_dict().items()}
    if net is not learner.model and weights.keys() == learner.model.state_dict().keys():
        learner.model.load_state_dict(weights)
    return weights


def _trained(theirs: Any, stream: Stream, i: int) -> float:
    """Train one experience; the mean loss of its last epoch. Raises Diverged."""
    from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline, with_task_labels

    made: Any = benchmark_from_datasets(train=[tensors(stream[i].train, stream.protocol)])
    made = with_task_labels(with_classes_timeline(made))
    order = [stream.classes[stream.task(j)].nonzero().flatten().tolist() for j in range(len(stream))]
    made.n_classes_per_exp, made.classes_order = list(map(len, order)), [c for classes in order for c in classes]
    experience: Any = made.train_stream[0]
    experience.current_experience, experience.benchmark = i, made  # iCaRL asks for the benchmark
    pulse = theirs.plugins[0]
    _rewind(theirs)
    with warnings.catch_warnings(record=True, action="ignore"):  # its own, of what it will do otherwise one day
        theirs.train(experience, eval_streams=[], num_workers=0, drop_last=False)
    for name, p in theirs.model.named_parameters():
        if not p.isfinite().all():
            raise Diverged(
                f"weights of {name} are not finite after experience {i}; a smaller learning rate is the usual remedy"
            )
    return torch.stack(pulse.losses).mean().item()


def _prepare(theirs: Any) -> None:
    """Change the model as CoPE does when it first trains, before its weights are given back."""
    for plugin in theirs.plugins:
        if type(plugin).__name__ == "CoPEPlugin":
            plugin.before_training(theirs)


def _rewind(theirs: Any) -> None:
    """Let endless loaders begin anew, as they would in a run that goes on from here."""
    from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
    from avalanche.benchmarks.utils.utils import concat_datasets
    from avalanche.training.plugins.mir import cycle

    for plugin in theirs.plugins:
        kind = type(plugin).__name__
        if kind == "AGEMPlugin" and plugin.buffers:
            size = plugin.sample_size // len(plugin.buffers)
            plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(plugin.buffers, batch_size=size)
            plugin.buffer_dliter = iter(plugin.buffer_dataloader)
        if kind == "MIRPlugin":
            groups = plugin.storage_policy.buffer_groups.items()
            others = [group.buffer for c, group in groups if int(c) not in theirs.plugins[0].classes]
            kept: Any = concat_datasets(others)
            loader = torch.utils.data.DataLoader(kept, batch_size=plugin.subsample, shuffle=True) if kept else None
            plugin.replay_loader = cycle(loader) if loader and len(kept) > plugin.batch_size_mem else None


def _answers(theirs: Any, classes: int) -> Callable[[Any], Tensor]:
    """(B, C) outputs of Avalanche's model for one of our batches."""
    from avalanche.models import avalanche_forward

    def answers(batch) -> Tensor:
        theirs.model.eval()
        if getattr(getattr(theirs.model, "eval_classifier", None), "class_means_dict", None) == {}:
            return torch.zeros(len(batch.y), classes, device=batch.y.device)  # nearest means, before there are any
        outputs = avalanche_forward(theirs.model, batch.x, batch.task)
        if outputs.shape[1] < classes:
            outputs = nn.functional.pad(outputs, (0, classes - outputs.shape[1]), value=-1e9)
        return outputs[:, :classes]

    return answers


def _headed(learner: Learner) -> nn.Module:
    """The learner's model as a multi-task module: classes of other tasks are shut in training too, as with us."""
    from avalanche.models import MultiTaskModule

    class Headed(MultiTaskModule):
        def __init__(self):
            super().__init__()
            self.net = learner.model

        def forward(self, x, task_labels):
            if task_labels is None:
                return self.forward_all_tasks(x)
            task = torch.as_tensor(task_labels, device=x.device).expand(len(x))
            return learner.masked(self.net(x), task)

        def forward_single_task(self, x, task_label):
            return self(x, task_label)

    return Headed()


def _pulse() -> type:
    """A plugin that shows the run alive, counts its steps and stops it after as many as the plan has."""
    from avalanche.training.plugins import SupervisedPlugin

    class Pulse(SupervisedPlugin):
        def __init__(self, plan: Plan, due: Callable[[], bool]):
            super().__init__()
            self.plan, self.due, self.step, self.losses, self.classes = plan, due, 0, [], []
            self.opened = False  # an epoch that has had no step yet

        def before_training_exp(self, strategy, **_):
            self.step = 0

        def before_training_epoch(self, strategy, **_):
            self.opened = True

        def after_training_iteration(self, strategy, **_):
            self.step += 1
            self.losses, self.opened = [] if self.opened else self.losses, False
            self.losses.append(strategy.loss.detach())
            self.classes = strategy.mb_y.unique().tolist()
            self.due()
            if self.step == self.plan.steps:
                strategy.stop_training()

    return Pulse


def _seed(seed: int) -> None:
    """Avalanche draws from the global streams."""
    import numpy as np

    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)

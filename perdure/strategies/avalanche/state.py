"""The state of an Avalanche strategy as nested tensors and numbers, which `torch.load(weights_only=True)` reads.

Avalanche itself pickles whole strategies with dill. Here a strategy that was made afresh from its text is
given back what a former one had learned: attribute by attribute, through lists, dicts, buffers and plugins.
Classes are looked up by name inside of Avalanche alone, and never called.
"""

import copy
import importlib
import logging
from collections import OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

KEPT = "keep"  # what is left as it was made: functions, loggers, what a loop makes anew
PASSING = {"experience", "adapted_dataset", "dataloader", "mbatch", "mb_output", "loss", "evaluator", "_eval_streams"}
PASSING |= {"current_eval_stream", "_criterion", "ext_mem_dataloader", "replay_loader", "buffer_transform"}
PASSING |= {"buffer_dataloader", "buffer_dliter", "pos_neg_loaders"}
LISTS = {"list": list, "tuple": tuple, "set": set, "deque": deque}
FILLS = {"zeros": torch.zeros, "ones": torch.ones}  # how Avalanche's ParamData is filled
DICTS = {"dict": dict, "OrderedDict": OrderedDict, "defaultdict": dict}


class NotKnown(TypeError):
    """A state that cannot be written down."""


def told(strategy: Any) -> dict[str, Any]:
    """The state. Raises NotKnown where a part of it is of a kind that is not known."""
    known = {id(p): f"parameter {name}" for name, p in strategy.model.named_parameters()}
    known |= {id(strategy.model): "model", id(strategy.optimizer): "optimizer"}
    return _told(strategy, known, "strategy")


def restore(strategy: Any, state: dict[str, Any]) -> None:
    """Give a strategy that was made from the same text the state that another one has told."""
    _given(strategy, state, strategy)


def _told(value: Any, known: dict[int, str], where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, nn.Parameter) and id(value) in known:
        return {"kind": "same", "as": known[id(value)]}
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray | np.generic):
        return {"kind": "array", "value": torch.from_numpy(np.array(value))}
    if isinstance(value, torch.device):
        return {"kind": "device"}
    if getattr(value, "__name__", None) in FILLS and value is FILLS[value.__name__]:
        return {"kind": "fill", "value": value.__name__}
    if type(value) is torch.Size:
        return {"kind": "size", "value": list(value)}
    if id(value) in known and not isinstance(value, nn.Module | optim.Optimizer):
        return {"kind": "same", "as": known[id(value)]}
    if isinstance(value, nn.Module):
        same = known.get(id(value)) == "model" and where != "strategy.model"
        return {"kind": "same", "as": "model"} if same else _told_module(value, known, where)
    if isinstance(value, optim.Optimizer):
        return {"kind": "optimizer", "value": copy.deepcopy(value.state_dict())}
    if type(value).__name__ in LISTS and type(value).__module__ in ("builtins", "collections"):
        parts = [_told(part, known, f"{where}[{n}]") for n, part in enumerate(value)]
        return {"kind": type(value).__name__, "value": parts}
    if type(value).__name__ in DICTS:
        pairs = [(_told(k, known, where), _told(v, known, f"{where}[{k!r}]")) for k, v in value.items()]
        return {"kind": type(value).__name__, "value": pairs}
    if (callable(value) and not hasattr(value, "__dict__")) or type(value).__name__ in ("function", "type", "module"):
        return {"kind": KEPT}
    if type(value).__name__ == "EvaluationPlugin" or type(value).__module__.startswith("perdure."):  # they only watch
        return {"kind": KEPT}
    if _is_data(value):
        return _told_data(value)
    if type(value).__module__.startswith("avalanche."):
        known[id(value)] = where
        own = {k: v for k, v in vars(value).items() if k not in PASSING}
        parts = {k: _told(v, known, f"{where}.{k}") for k, v in own.items()}
        return {"kind": "object", "class": _name(value), "value": parts}
    if callable(value) or isinstance(value, logging.Logger):
        return {"kind": KEPT}
    raise NotKnown(f"{where} is a {type(value).__module__}.{type(value).__name__}")


def _told_module(module: nn.Module, known: dict[int, str], where: str) -> dict[str, Any]:
    """Weights and buffers, and what Avalanche's own modules keep beside them, as iCaRL's class means."""
    flags = [p.requires_grad for p in module.parameters()]
    own = {k: v.detach().clone() for k, v in module.state_dict().items()}
    beside = {name: _beside(part) for name, part in module.named_modules()}
    more = {name: _told(values, known, where) for name, values in beside.items() if values}
    return {"kind": "module", "value": own, "training": module.training, "flags": flags, "beside": more}


def _beside(module: nn.Module) -> dict[str, Any]:
    whole = type(module).__module__.startswith("avalanche.")
    kinds = object if whole else dict | list | set | Tensor | np.ndarray
    own = vars(module).items()
    return {k: v for k, v in own if not k.startswith("_") and k != "training" and isinstance(v, kinds)}


def _is_data(value: Any) -> bool:
    from avalanche.benchmarks.utils import AvalancheDataset

    return isinstance(value, AvalancheDataset)


def _told_data(data: Any) -> dict[str, Any]:
    """A buffer of samples as tensors, with what else is kept of each (DER: its logits)."""
    if not len(data):
        return {"kind": KEPT}
    samples = [sample[:2] for sample in data.eval()]
    kept = {name: attribute for name, attribute in data._data_attributes.items() if name != "targets"}
    return {
        "kind": "data",
        "x": torch.stack([x for x, _ in samples]),
        "y": torch.tensor([int(y) for _, y in samples], dtype=torch.int64),
        "more": {
            name: (torch.stack([torch.as_tensor(v) for v in a.data]), a.use_in_getitem) for name, a in kept.items()
        },
    }


def _given(current: Any, state: Any, strategy: Any) -> Any:
    """What `state` says, in place of `current` or within it."""
    if not isinstance(state, dict):
        return state
    kind, value = state["kind"], state.get("value", ())
    if kind == KEPT:
        return current
    if kind == "device":
        return strategy.device
    if kind == "fill":
        return FILLS[value]
    if kind == "array":
        return value.numpy()
    if kind == "size":
        return torch.Size(value)
    if kind == "same":
        return _followed(strategy, state["as"])
    if kind == "module":
        return _given_module(current, state, strategy)
    if kind == "optimizer":
        current.load_state_dict(value)
        return current
    if kind in LISTS:
        before = (
            list(current) if isinstance(current, LISTS[kind]) and len(current) == len(value) else [None] * len(value)
        )
        made = LISTS[kind](_given(b, v, strategy) for b, v in zip(before, value, strict=True))
        return _within(current, made) if isinstance(current, list) and len(current) == len(made) else made
    if kind in DICTS:
        before = current if isinstance(current, dict) else {}
        pairs = {_given(None, k, strategy): v for k, v in value}
        made = {k: _given(before.get(k), v, strategy) for k, v in pairs.items()}
        if kind == "defaultdict" and isinstance(current, defaultdict):
            return defaultdict(current.default_factory, made)
        if isinstance(current, dict):  # others may refer to it
            current.clear()
            current.update(made)
            return current
        return DICTS[kind](made)
    if kind == "data":
        return _given_data(state)
    return _given_object(current, state, strategy)


def _within(current: list, made: list) -> list:
    """The same list with other parts: plugins are shared by reference."""
    current[:] = made
    return current


def _given_module(current: Any, state: dict[str, Any], strategy: Any) -> nn.Module:
    module = current if isinstance(current, nn.Module) else copy.deepcopy(strategy.model)
    buffers = {name for name, _ in module.named_modules() for name in _buffers(module, name)}
    for name in buffers & set(state["value"]):  # they grow
        parent, _, leaf = name.rpartition(".")
        module.get_submodule(parent)._buffers[leaf] = state["value"][name].clone()
    module.load_state_dict(state["value"])
    for name, values in state["beside"].items():
        part = module.get_submodule(name)
        vars(part).update(_given(_beside(part), values, strategy))
    module.train(state["training"])
    for p, flag in zip(module.parameters(), state["flags"], strict=True):
        p.requires_grad_(flag)
    return module


def _buffers(module: nn.Module, name: str) -> list[str]:
    return [f"{name}.{leaf}".lstrip(".") for leaf in module.get_submodule(name)._buffers]


def _given_data(state: dict[str, Any]) -> Any:
    from avalanche.benchmarks.utils import DataAttribute

    from ...streams.scenarios.avalanche import taskaware

    more = dict(state["more"])
    task, _ = more.pop("targets_task_labels", (torch.zeros_like(state["y"]), True))
    data = taskaware(state["x"], state["y"], task)
    for name, (values, shown) in more.items():
        each: Any = list(values)
        data = data.update_data_attribute(name, DataAttribute(each, name, use_in_getitem=shown))
    return data


def _given_object(current: Any, state: dict[str, Any], strategy: Any) -> Any:
    if current is None or _name(current) != state["class"]:
        module, _, name = state["class"].partition(":")
        if not module.startswith("avalanche."):
            raise NotKnown(f"{state['class']} is none of Avalanche's classes")
        cls = vars(importlib.import_module(module))[name]
        current = cls.__new__(cls)
    own = vars(current)
    for key, value in state["value"].items():
        own[key] = _given(own.get(key), value, strategy)
    return current


def _followed(strategy: Any, path: str) -> Any:
    """What a path as strategy.plugins[0] leads to."""
    if path in ("model", "optimizer"):
        return vars(strategy)[path]
    if path.startswith("parameter "):
        return strategy.model.get_parameter(path.removeprefix("parameter "))
    at: Any = strategy
    for step in path.replace("]", "").replace("[", ".").split(".")[1:]:
        at = at[int(step)] if step.isdigit() else vars(at)[step]
    return at


def _name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"

"""A generator is frozen hyperparameters, fitted to data from a start, and sampled: its state is tensors alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..models.modes import to_training
from ..numerics.divergence import Diverged
from ..numerics.rng import Rng
from ..numerics.shape_errors import expect_tensor, refuse, said
from .regularized import SAMPLES, hold

State = dict[str, Any]  # "nets": tensors by name; "shape" of a sample; "seen" (K,) bool
Told = dict[str, Tensor]  # () tensors by name, of one step
LOOKS = 50  # at the losses, of one fit; each waits for the device


class Nets(nn.ModuleDict):
    """Networks by name."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)


class Progress(NamedTuple):
    step: int  # made so far
    steps: int
    epoch: float
    values: Mapping[str, float]  # means over the steps since the last time


Hear = Callable[[Progress], object]


def silent(progress: Progress) -> None: ...


class Data(NamedTuple):
    """What a generator is fitted to."""

    x: Tensor  # (N, ...) uint8 in [0, 255], or float32 within the generator's bounds
    y: Tensor  # (N,) int64 conditions: classes, or whatever else is counted from 0
    dreamt: Tensor | None = None  # (N,) bool: samples of the generator that `start` is, not of the world


@dataclass(frozen=True, kw_only=True)
class Generator(ABC):
    """Fit it to samples, from scratch or from an earlier state, and draw new ones.

    bounds: of all values, which the data must keep and samples then keep too; None leaves them open.
    hold: how hard a fit from a `start` is held to the samples that the start draws: hold * d(samples now, samples then)
    is added to its losses, to second order, for all weights that make samples.
    held_by: the distance d.
    """

    conditional: ClassVar[bool] = False  # whether samples can be asked for by condition

    steps: int = 2000
    batch_size: int = 128
    lr: float = 1e-3
    bounds: tuple[float, float] | None = (0.0, 1.0)
    hold: float = 0.0
    held_by: Literal["wasserstein", "sliced_cramer", "mmd"] = "wasserstein"

    def __post_init__(self):
        if self.hold < 0:
            raise ValueError(f"hold must not be negative, got {self.hold}")
        if self.steps < 1 or self.batch_size < 2 or self.lr <= 0:
            raise ValueError(
                f"expected steps >= 1, batch_size >= 2 and lr > 0, got {self.steps}, {self.batch_size} and {self.lr}"
            )
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"expected bounds as (low, high), got {self.bounds}")

    @abstractmethod
    def networks(self, shape: tuple[int, ...], conditions: int) -> Nets:
        """The networks for samples of such a shape, and so many conditions."""

    @abstractmethod
    def updates(self, nets: Nets, data: Data, rng: Rng, start: State | None) -> Iterator[Told]:
        """Take a step at every turn, and tell of its losses. Without end: `fit` takes as many as it wants; what has a
        closed form ends by itself, all steps done."""

    @abstractmethod
    def drawn(self, nets: Nets, n: int, y: Tensor, rng: Rng, state: State) -> Tensor:
        """(n, ...) samples of conditions y (n,), which only conditional generators heed."""

    def finished(self, nets: Nets, data: Data, rng: Rng) -> None:
        """What is done once, after the last step."""
        return

    def fit(
        self, data: Data, rng: Rng, start: State | None = None, conditions: int | None = None, hear: Hear = silent
    ) -> State:
        """The state after `steps` steps on `data`, from the state `start` or from scratch.

        conditions: how many there will ever be; by default those of the data.
        Raises ValueError for data that it cannot be fitted to, Diverged where losses stop being finite.
        """
        self._refuse_unfit(data, start)
        shape = tuple(data.x.shape[1:])
        if start is not None:
            conditions = len(start["seen"])
        elif conditions is None:
            conditions = int(data.y.max()) + 1
        nets = self.built(shape, conditions, data.x.device, rng)
        if start is not None:
            nets.load_state_dict(start["nets"])
        back = self._held(nets, rng.fold("held"), start)
        to_training(nets)
        per_epoch = len(data.x) // min(len(data.x), self.batch_size)
        looks, heard, made, told = max(1, self.steps // LOOKS), [], 0, {}

        def look(step: int) -> None:
            values = {k: torch.stack([each[k] for each in heard]).mean().item() for k in heard[-1]}
            self._refuse_divergence(values, step, step / per_epoch)
            hear(Progress(step, self.steps, step / per_epoch, values))
            heard.clear()

        with torch.enable_grad(), seeded(rng.integer("steps")):
            for made, told in zip(range(1, self.steps + 1), self.updates(nets, data, rng, start), strict=False):
                if made == 1:
                    self._refuse_told(told)
                back()
                heard.append(told)
                if made % looks == 0 or made == self.steps:
                    look(made)
        if made < self.steps:  # a closed form has nothing more to do
            heard.append(told)
            look(self.steps)
        nets.eval()
        with torch.no_grad():
            self.finished(nets, data, rng)
        seen = torch.zeros(conditions, dtype=torch.bool, device=data.x.device)
        seen[data.y] = True
        if start is not None:
            seen |= start["seen"]
        kept = {k: v.detach().clone() for k, v in nets.state_dict().items()}
        return {"nets": kept, "shape": list(shape), "seen": seen}

    @torch.no_grad()
    def sample(self, state: State, n: int, rng: Rng, y: Tensor | None = None) -> Tensor:
        """(n, ...) float32 samples, of conditions y (n,) where they are given.

        Raises ValueError where y are asked of a generator that knows no conditions, or has not seen them.
        """
        seen = state["seen"].nonzero().flatten()
        if y is None:
            asked = seen[torch.randint(len(seen), (n,), generator=rng["conditions"]).to(seen.device)]
        else:
            asked = y.to(seen.device)
            self._refuse_unseen(asked, seen)
        nets = self.restored(state)
        x = self.drawn(nets, n, asked, rng, state)
        expect_tensor(self, "drawn", "samples", x, (n, *state["shape"]), torch.zeros(0, device=asked.device))
        return x if self.bounds is None else x.clamp(*self.bounds)

    def restored(self, state: State) -> Nets:
        with torch.device("meta"):  # no first weights: the state's own are taken
            nets = self.networks(tuple(state["shape"]), len(state["seen"]))
        nets.load_state_dict(state["nets"], assign=True)
        return nets.eval().requires_grad_(False)

    def built(self, shape: tuple[int, ...], conditions: int, device: torch.device, rng: Rng) -> Nets:
        with seeded(rng.integer("weights")):
            return self.networks(shape, conditions).to(device)

    def _held(self, nets: Nets, rng: Rng, start: State | None) -> Callable[[], None]:
        """What is done after every step of a fit."""
        if start is None or not self.hold:
            return lambda: None
        seen = start["seen"].nonzero().flatten()
        params = dict(nets.named_parameters())
        with torch.enable_grad():
            y = seen[torch.arange(SAMPLES, device=seen.device) % len(seen)]
            samples = self.drawn(nets.eval(), SAMPLES, y, rng, start)
            return hold(samples, params, self.held_by, self.hold * self.lr, rng["directions"])

    def _refuse_unfit(self, data: Data, start: State | None) -> None:
        name = type(self).__name__
        if len(data.x) < 2:
            raise ValueError(f"{name} needs at least 2 samples, got {len(data.x)}")
        if len(data.y) != len(data.x):
            raise ValueError(f"expected a condition for every sample, got {len(data.y)} for {len(data.x)}")
        if start is not None and list(start["shape"]) != list(data.x.shape[1:]):
            raise ValueError(
                f"{name} was fitted to samples of shape {tuple(start['shape'])}, got {tuple(data.x.shape[1:])}; "
                "give all images one size, as images('photos', size=32)"
            )
        if start is not None and int(data.y.max()) >= len(start["seen"]):
            raise ValueError(f"condition {int(data.y.max())} is beyond the {len(start['seen'])} that it was made for")
        if data.x.dtype != torch.uint8 and self.bounds is not None:
            low, high = data.x.min().item(), data.x.max().item()
            if not (self.bounds[0] <= low and high <= self.bounds[1]):
                raise ValueError(
                    f"{name} expects values in [{self.bounds[0]:g}, {self.bounds[1]:g}], got [{low:g}, {high:g}]; "
                    "say bounds=(low, high), or bounds=None for any"
                )

    def _refuse_unseen(self, y: Tensor, seen: Tensor) -> None:
        if not self.conditional:
            raise ValueError(f"{type(self).__name__} has no conditions to sample by; use cvae or diffusion")
        strange = sorted(set(y.unique().tolist()) - set(seen.tolist()))
        if strange:
            raise ValueError(f"asked for conditions {strange}, which were not in the data; known: {seen.tolist()}")

    def _refuse_told(self, told: Told) -> None:
        if not isinstance(told, Mapping) or not told:
            refuse(self, "updates", "() losses by name, of every step", said(told))
        for name, value in told.items():
            if not isinstance(value, Tensor) or value.dim():
                refuse(self, "updates", "() losses by name, of every step", f"{said(value)} under {name!r}")

    def _refuse_divergence(self, values: Mapping[str, float], step: int, epoch: float) -> None:
        for name, value in values.items():
            if not torch.tensor(value).isfinite():
                raise Diverged(
                    f"{name} of {type(self).__name__} became {value} in epoch {int(epoch)} (step {step}); "
                    "a smaller learning rate is the usual remedy"
                )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's own streams (first weights, dropout) from here, and left as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        torch.manual_seed(seed)
        yield

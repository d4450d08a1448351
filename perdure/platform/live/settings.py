"""What is learned of a stream that goes on: text and numbers only, the same for as long as its folder lives."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...limits import expect_machine
from ...notation import expect_types
from ...strategies import names
from ...strategies.base import OwnLoop, Strategy, stages
from ...strategies.numerics.own_code import combined
from ...strategies.training.plan import Plan
from ..runs.numerics import NUMERICS


@dataclass(frozen=True)
class Following:
    """classes: room for so many. Labels that are whole numbers are outputs of the model themselves; texts get one
    after the other, in the order in which they are met. named: what they are called, where that is fixed beforehand.
    """

    strategy: str = "rehearsal(500)"
    classes: int = 10
    named: tuple[str, ...] = ()
    model: str = "mlp(64, 64)"
    optimizer: str = "adam"
    seed: int = 0
    plan: Plan = field(default_factory=lambda: Plan(epochs=20, batch_size=32))
    hold_out: float = 0.2  # share of every class of every arrival that is kept to be judged by
    threads: int = 1  # another number rounds otherwise, so it is part of what it is
    device: str = "cpu"
    code: str = ""  # digest of the source behind names of one's own
    numerics: int = NUMERICS

    def __post_init__(self):
        object.__setattr__(self, "named", tuple(self.named))
        expect_types(self)
        expect_machine(self.threads, self.device)
        if self.named and (len(self.named) != self.classes or len(set(self.named)) != self.classes):
            raise ValueError(f"expected {self.classes} classes, each once, got {', '.join(self.named)}")
        if self.classes < 2:
            raise ValueError(f"expected room for 2 classes at least, got {self.classes}")
        if not 0 < self.hold_out < 1:
            raise ValueError(f"hold_out must be above 0 and below 1, got {self.hold_out:g}")

    def normal(self) -> "Following":
        """With every text as it is spelled. Raises NotationError, and ValueError for what cannot learn as it goes."""
        strategy = names.strategy(self.strategy)
        for stage in stages(strategy):
            if isinstance(stage, OwnLoop):
                raise ValueError(f"{self.strategy} trains with a loop of its own, which cannot wait for arrivals")
            if type(stage).curriculum is not Strategy.curriculum:
                raise ValueError(
                    f"{names.spelled(stage)} learns from data that are not there any more, or not yet; of a "
                    "stream that goes on only the last arrival is kept to learn from: use rehearsal(500)"
                )
        spelled = {"strategy": names.spelled(strategy), "model": names.spelled(names.model(self.model))}
        spelled["optimizer"] = names.spelled(names.optimizer(self.optimizer))
        return replace(self, **spelled, code=combined(*spelled.values()))

    def row(self) -> dict[str, Any]:
        """Everything in one level."""
        flat = {k: v for k, v in asdict(self).items() if k not in ("plan", "named")}
        flat |= {"named": ", ".join(self.named)} if self.named else {}
        return flat | {k: v for k, v in asdict(self.plan).items() if v is not None}

    def differs(self, other: "Following") -> str:
        """What is otherwise there, in words."""
        own, theirs = self.row(), other.row()
        pairs = [(k, theirs.get(k), own.get(k)) for k in {**theirs, **own} if theirs.get(k) != own.get(k)]
        return "; ".join(f"{k.replace('_', ' ')} was {before} and is {now}" for k, before, now in pairs)

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Following":
        """What `asdict` wrote down."""
        return Following(**{"numerics": 1, **row, "plan": Plan(**row["plan"])})


def room(classes: int | str | tuple[str, ...] | list[str]) -> tuple[int, tuple[str, ...]]:
    """How many classes there is room for, and their names where these are given: of `10`, or `cat,dog,fox`."""
    if isinstance(classes, str):
        classes = int(classes) if classes.strip().isdecimal() else [c.strip() for c in classes.split(",") if c.strip()]
    return (classes, ()) if isinstance(classes, int) else (len(classes), tuple(classes))

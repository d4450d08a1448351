"""What a search is after: a measure, as `accuracy`, or a trade-off of several, as `accuracy - 0.5 * forgetting`."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from ...notation import NotationError, parsed, place
from ...strategies import metrics
from ..runs.any_run import AnyRun
from ..runs.journal import Row, matrix
from ..runs.meta_run import MetaRun

LARGEST = 1e100  # weight of a measure


@dataclass(frozen=True)
class Measure:
    best: int  # 1 where more is better, -1 where less is
    worst: float  # of a run that diverged
    share: bool = True  # told in per cent


CONTINUAL = {
    "accuracy": Measure(1, 0.0),
    "forgetting": Measure(-1, 1.0),
    "backward_transfer": Measure(1, -1.0),
    "state_bytes": Measure(-1, 1e15, False),
}
META = {"loss": Measure(-1, 1e9, False), "accuracy": Measure(1, 0.0)}


@dataclass(frozen=True)
class Objective:
    """A sum of measures with weights. Of one measure alone it is known which way is better; of a sum more is."""

    text: str
    terms: tuple[tuple[str, float], ...]
    maximised: bool
    worst: float
    share: bool  # told in per cent

    @staticmethod
    def of(text: str, run: AnyRun) -> "Objective":
        """Raises NotationError, with the measures that runs of this kind have."""
        known = META if isinstance(run, MetaRun) else CONTINUAL
        line, tree = parsed(text)
        terms = _sum(line, tree, known)
        alone = isinstance(tree, ast.Name)
        maximised = not alone or known[line].best > 0
        worst = sum(weight * known[name].worst for name, weight in terms.items())
        return Objective(line, tuple(terms.items()), maximised, worst, all(known[m].share for m in terms))

    def value(self, measured: Mapping[str, float]) -> float:
        return sum(weight * measured[name] for name, weight in self.terms)

    def rank(self, value: float) -> float:
        """Less is better, whatever is asked for."""
        return -value if self.maximised else value


def measured(run: AnyRun, rows: Sequence[Row]) -> dict[str, float]:
    """What a run has come to on its validation samples, or tasks."""
    if isinstance(run, MetaRun):
        told = {name: values[-1] for name, values in rows[-1]["judged"].items()}
        return {name: META[name].worst if v is None or not isfinite(v) else v for name, v in told.items()}
    values = metrics.summary(matrix(rows), rows[0]["baseline"]) | {"state_bytes": float(rows[-1]["state_bytes"])}
    return {name: 0.0 if isnan(values[name]) else values[name] for name in CONTINUAL}  # nothing to forget yet


def _sum(line: str, node: ast.expr, known: Mapping[str, Measure], weight: float = 1.0) -> dict[str, float]:
    match node:
        case ast.Name(name) if name in known:
            return {name: weight}
        case ast.BinOp(left, ast.Add() | ast.Sub() as sign, right):
            terms = _sum(line, left, known, weight)
            for name, w in _sum(line, right, known, weight if isinstance(sign, ast.Add) else -weight).items():
                terms[name] = terms.get(name, 0.0) + w
            return terms
        case ast.BinOp(ast.Constant(factor), ast.Mult(), right) if isinstance(factor, int | float):
            if not abs(factor) < LARGEST:
                raise NotationError(f"expected a weight below {LARGEST:g}", line, place(line, node)[0])
            return _sum(line, right, known, weight * factor)
        case ast.UnaryOp(ast.USub(), inner):
            return _sum(line, inner, known, -weight)
    what = f"unknown objective {node.id!r}" if isinstance(node, ast.Name) else "expected measures and their weights"
    told = f"{what}; known: {', '.join(known)}, and sums as accuracy - 0.5 * forgetting"
    raise NotationError(told if "forgetting" in known else told.rpartition(", and")[0], line, place(line, node)[0])

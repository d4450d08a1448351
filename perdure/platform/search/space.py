"""Search spaces as text: `rehearsal(choice(200, 500)) + ewc(loguniform(1, 1e4))`. Nothing is evaluated.

A point of a space is a text for every distribution in it; put in their places, they make a text of the notation.
"""

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import exp, floor, isfinite, log, prod
from random import Random
from typing import Any

from ...notation import NotationError, parsed, place, positions, read, spell

MOST = 100_000  # points of a grid
WHOLE = 2**53  # numbers up to it are told apart
Point = dict[str, str]  # by the name of its parameter, each value as text
Number = int | float


class Distribution(ABC):
    """What a value is drawn from. Subclasses are frozen dataclasses."""

    @property
    @abstractmethod
    def ends(self) -> tuple[str, ...]:
        """The values that have to fit, if all are to: the ends of a range and its middle, or every option."""

    @abstractmethod
    def at(self, share: float) -> str:
        """The value that as large a share of all, from 0 up to 1, lies below."""

    @property
    def every(self) -> tuple[str, ...]:
        """All values, in order; empty where they cannot be counted."""
        return ()

    @abstractmethod
    def near(self, value: str, chance: Random) -> str:
        """A value a little further, for populations."""

    @abstractmethod
    def optuna(self) -> Any:
        """The same to Optuna."""

    def text(self, value: Any) -> str:
        """A value of Optuna's as text."""
        return str(value)


@dataclass(frozen=True)
class Choice(Distribution):
    """One of some numbers, texts, names or whole recipes, each as likely."""

    options: tuple[str, ...]

    @property
    def ends(self):
        return self.options

    every = ends

    def at(self, share):
        return self.options[floor(share * len(self.options))]

    def near(self, value, chance):
        here = self.options.index(value)
        beside = [n for n in (here - 1, here + 1) if 0 <= n < len(self.options)]
        return self.options[chance.choice(beside or [here])]

    def optuna(self):
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.options)


class _Range(Distribution):
    low: Number
    high: Number

    def _expect_order(self, above: float | None = None) -> None:
        if above is not None and self.low <= above:
            raise ValueError(f"low must be above {above:g}, got {self.low}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if not isfinite(float(self.high) - float(self.low)):
            raise ValueError(f"low and high are too far apart, {self.low} and {self.high}")

    @property
    def ends(self):
        return (self.at(0.0), self.at(1.0), self.at(0.5))

    def near(self, value, chance):
        """A fifth more or less, as Jaderberg et al. have it (2017, arXiv:1711.09846)."""
        moved = float(value) * chance.choice((0.8, 1.2))
        return self.text(min(max(moved, self.low), self.high))

    def text(self, value):
        """Four digits say enough of a setting; an end is said in full."""
        return repr(min(max(float(f"{value:.4g}"), float(self.low)), float(self.high)))


@dataclass(frozen=True)
class Uniform(_Range):
    """A number in [low, high]."""

    low: float
    high: float

    def __post_init__(self):
        self._expect_order()

    def at(self, share):
        return self.text(self.low + share * (self.high - self.low))

    def optuna(self):
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high)


@dataclass(frozen=True)
class LogUniform(_Range):
    """A number in [low, high] whose logarithm is uniform."""

    low: float
    high: float

    def __post_init__(self):
        self._expect_order(above=0)

    def at(self, share):
        return self.text(exp(log(self.low) + share * (log(self.high) - log(self.low))))

    def optuna(self):
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=True)


class _Stepped(_Range):
    @property
    def _step(self) -> Number:
        return 1

    @property
    def _count(self) -> int:
        return floor((self.high - self.low) / self._step + 1e-9) + 1

    @property
    def every(self):
        return tuple(map(self._nth, range(self._count))) if self._count <= MOST else ()

    def at(self, share):
        return self._nth(min(floor(share * self._count), self._count - 1))

    def near(self, value, chance):
        here = round((float(value) - self.low) / self._step)
        beside = [n for n in (here - 1, here + 1) if 0 <= n < self._count]
        return self._nth(chance.choice(beside or [here]))

    def text(self, value):
        return self._nth(value)

    def _nth(self, n: int) -> str:
        value = self.low + n * self._step
        return repr(value) if isinstance(value, int) else repr(float(f"{value:.12g}"))

    def optuna(self):
        from optuna.distributions import IntDistribution

        return IntDistribution(0, self._count - 1)  # which of them: steps need not be whole numbers


@dataclass(frozen=True)
class RandInt(_Stepped):
    """A whole number, both ends among them."""

    low: int
    high: int

    def __post_init__(self):
        self._expect_order()
        if max(abs(self.low), abs(self.high)) > WHOLE:
            raise ValueError(f"low and high must be at most {WHOLE}, got {self.low} and {self.high}")


@dataclass(frozen=True)
class QUniform(_Stepped):
    """A multiple of step above low, up to high; whole numbers where all three are."""

    low: Number
    high: Number
    step: Number

    def __post_init__(self):
        self._expect_order()
        if not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step must be above 0 and at most high - low, got {self.step}")
        if (self.high - self.low) / self.step > WHOLE:
            raise ValueError(f"step is too small for numbers up to {self.high}, got {self.step}")

    @property
    def _step(self):
        return self.step


RANGES: dict[str, type] = {"uniform": Uniform, "loguniform": LogUniform, "quniform": QUniform, "randint": RandInt}
DISTRIBUTIONS = ("choice", *RANGES)


@dataclass(frozen=True)
class _Gap:
    """Where a distribution stands in a line."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class Text:
    """A text with distributions in it, by the name of what each is an argument of, as "ewc.strength"."""

    line: str
    gaps: tuple[_Gap, ...]
    distributions: Mapping[str, Distribution]

    @staticmethod
    def of(text: str, names: Mapping[str, type], part: str) -> "Text":
        """names: those of the notation that `text` is of. part: what a distribution that stands alone is called.

        Raises NotationError for what is not readable, and for distributions that are none.
        """
        line, tree = parsed(text)
        gaps, known = [], {}
        for node, wanted in _calls(tree, names, part, part):
            name, n = wanted, 2
            while name in known:
                name, n = f"{wanted} {n}", n + 1
            gaps.append(_Gap(name, *place(line, node)))
            known[name] = _distribution(line, node)
        return Text(line, tuple(gaps), known)

    def filled(self, point: Point) -> str:
        text, at = "", 0
        for gap in self.gaps:
            text += self.line[at : gap.begin] + point[gap.name]
            at = gap.end
        return text + self.line[at:]

    def origin(self, at: int, point: Point) -> int:
        """Where in the line a place in the filled text comes from."""
        shift = 0  # of the filled text against the line
        for gap in self.gaps:
            if at < gap.begin + shift:
                break
            if at < gap.begin + shift + len(point[gap.name]):
                return gap.begin
            shift += len(point[gap.name]) - (gap.end - gap.begin)
        return at - shift


@dataclass(frozen=True)
class Space:
    """Texts by the field of a run that they are for."""

    texts: Mapping[str, Text]

    @property
    def parameters(self) -> dict[str, Distribution]:
        return {name: one for text in self.texts.values() for name, one in text.distributions.items()}

    def filled(self, point: Point) -> dict[str, str]:
        return {part: text.filled(point) for part, text in self.texts.items()}

    def corners(self) -> Iterator[Point]:
        """Every end of every distribution, the others at their first."""
        first = {name: one.ends[0] for name, one in self.parameters.items()}
        yield first
        for name, one in self.parameters.items():
            yield from (first | {name: end} for end in one.ends[1:])

    def traced(self, error: NotationError, point: Point) -> NotationError:
        """An error in the text of a point as one in the text with the distributions."""
        for text in self.texts.values():
            if text.filled(point) == error.text:
                at = text.origin(error.at, point)
                inside = next((gap.name for gap in text.gaps if gap.begin == at), None)
                where = f"{inside} = {point[inside]}: " if inside else ""
                return NotationError(where + error.problem, text.line, at)
        return error

    def random(self, count: int, seed: int) -> list[Point]:
        """As many points as are asked for, each once; fewer where the space has not as many."""
        chance, found = Random(seed), {}
        counts = [len(set(one.every)) for one in self.parameters.values()]
        wanted = min(count, prod(counts)) if all(counts) else count
        for _ in range(100 * count):
            point = {name: one.at(chance.random()) for name, one in self.parameters.items()}
            found.setdefault(tuple(point.values()), point)
            if len(found) == wanted:
                break
        return list(found.values())

    def grid(self) -> list[Point]:
        """Every point. Raises ValueError where a distribution has too many to count."""
        points: list[Point] = [{}]
        for name, one in self.parameters.items():
            if not one.every:
                what = f"more than {MOST}" if isinstance(one, _Stepped) else "none"
                raise ValueError(
                    f"a grid needs values that can be counted, and {name} has {what}; write choice(1, 10, 100) "
                    "or quniform(0, 1, 0.25) there, or search at random"
                )
            if len(points) * len(one.every) > MOST:
                raise ValueError(f"the grid has more than {MOST} points; leave values out, or search at random")
            points = [point | {name: value} for point in points for value in one.every]
        return points

    def near(self, point: Point, chance: Random) -> Point:
        """A point beside another: every value a little further, or one time in four drawn anew."""
        moved = {}
        for name, one in self.parameters.items():
            anew = chance.random() < 0.25
            moved[name] = one.at(chance.random()) if anew else one.near(point[name], chance)
        return moved


def _calls(node: ast.AST, names: Mapping[str, type], path: str, part: str) -> Iterator[tuple[ast.Call, str]]:
    """Distributions from left to right, each with what it is an argument of."""
    match node:
        case ast.Call(ast.Name(name)) if name in DISTRIBUTIONS:
            yield node, path
        case ast.Call(ast.Name(name), args, keywords):
            known = positions(names[name]) if name in names else []
            star = name in names and _has_star(names[name])
            for n, arg in enumerate(args):
                own = f"{known[0]}[{n}]" if star else known[n] if n < len(known) else str(n)
                yield from _calls(arg, names, f"{name}.{own}", part)
            for keyword in keywords:
                yield from _calls(keyword.value, names, f"{name}.{keyword.arg}", part)
        case ast.BinOp(left, _, right):
            yield from _calls(left, names, part, part)
            yield from _calls(right, names, part, part)
        case ast.Tuple(parts) | ast.List(parts):
            for n, one in enumerate(parts):
                yield from _calls(one, names, f"{path}[{n}]", part)


def _has_star(cls: type) -> bool:
    return any("star" in field.metadata for field in fields(cls))


def _distribution(line: str, node: ast.Call) -> Distribution:
    begin, end = place(line, node)
    for inner in (n for arg in (*node.args, *node.keywords) for n in ast.walk(arg)):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in DISTRIBUTIONS:
            raise NotationError(
                "a distribution cannot hold another; write the options out", line, place(line, inner)[0]
            )
    if isinstance(node.func, ast.Name) and node.func.id == "choice":
        if node.keywords or not node.args:
            raise NotationError("choice takes options without names, as choice(200, 500)", line, begin)
        options = [line[slice(*place(line, arg))] for arg in node.args]
        return Choice(tuple(dict.fromkeys(options)))
    try:
        return read(line[begin:end], RANGES)
    except NotationError as e:
        raise NotationError(e.problem, line, begin + e.at) from None


def spelled(distribution: Distribution) -> str:
    """As it was written: for tables."""
    if isinstance(distribution, Choice):
        return f"choice({', '.join(distribution.options)})"
    return spell(distribution, RANGES)

"""Recipes as text: `rehearsal(500) + ewc(100)`. Read with `ast`, built from known names; nothing is evaluated."""

import ast
import dataclasses
import difflib
import types
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import why

STAR = {"star": True}  # metadata of a first field that takes all positional arguments, as mlp(400, 400)
REST = {"rest": True}  # metadata of a last field that takes all other keyword arguments, as ((name, value), ...)
LONGEST, DEEPEST = 10_000, 100  # characters of a text, and what may stand inside one another, or be added up, in it
LARGEST = 3.4e38  # of a number: float32 holds it
SHOWN = 100  # characters of a text on either side of what is wrong


class NotationError(ValueError):
    """What is wrong with a text, and where: the text, or the part around it, with a caret under the place."""

    def __init__(self, problem: str, text: str, at: int):
        begin, end = max(0, at - SHOWN) if at > SHOWN else 0, at + SHOWN
        shown = f"{'…' if begin else ''}{text[begin:end]}{'…' if end < len(text) else ''}"
        super().__init__(f"{problem}\n  {shown}\n  {' ' * (at - begin + bool(begin))}^")
        self.problem, self.text, self.at = problem, text, at


class UnknownName(NotationError):
    """A name that nobody has given."""


def read(text: str, names: Mapping[str, type]) -> Any:
    """The object that `text` spells with `names`, each a frozen dataclass whose fields are its arguments.

    Raises NotationError for what is not in the notation, an unknown name or argument, or a value that does not fit.
    """
    line, tree = parsed(text)
    return _Reader(line, names).build(tree)


def read_as(kind: Any, what: str, text: str, names: Mapping[str, type]) -> Any:
    """The object that `text` spells, which must be of a `kind` (a type or several); `what` names it in the error.

    Raises NotationError, as `read` does.
    """
    found = read(text, names)
    if not isinstance(found, kind):
        known = ", ".join(name for name, cls in names.items() if not isinstance(cls, type) or _may_be(cls, kind))
        raise NotationError(f"expected {what}; known: {known}", " ".join(text.split()), 0)
    return found


def _may_be(cls: type, kind: Any) -> bool:
    try:
        return issubclass(cls, kind)
    except TypeError:  # protocols of more than methods cannot be asked
        return True


def parsed(text: str) -> tuple[str, ast.expr]:
    """The text as one line, and its syntax tree. Raises NotationError."""
    line = " ".join(text.split())
    if not line:
        raise NotationError("expected a name, got an empty text", line, 0)
    if len(line) > LONGEST:
        raise NotationError(f"expected at most {LONGEST} characters, got {len(line)}", line, LONGEST)
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's, of code that this is not
            tree = ast.parse(line, mode="eval").body
    except SyntaxError as e:
        at = max(0, min((e.offset or 1) - 1, len(line)))
        problem = str(e.msg).partition("; use sys")[0]  # of numbers of thousands of digits
        raise NotationError(f"not readable: {problem}; text values need quotes, as in name='text'", line, at) from None
    except (RecursionError, MemoryError):  # what Python says of brackets and operators that are thousands deep
        raise NotationError(f"expected at most {DEEPEST} brackets or operators inside one another", line, 0) from None
    except UnicodeError as e:
        raise NotationError("expected text, got bytes that are none", line, getattr(e, "start", 0)) from None
    except ValueError as e:  # of characters that no text has
        raise NotationError(f"not readable: {e}", line, 0) from None
    _expect_shallow(line, tree)
    return line, tree


def _expect_shallow(line: str, tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(3 * DEEPEST):  # a call, its argument's name and the value are levels
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    at = next((place(line, node)[0] for node in level if isinstance(node, ast.expr)), 0)
    raise NotationError(f"expected at most {DEEPEST} names or sums inside one another", line, at)


def place(line: str, node: ast.expr | ast.keyword) -> tuple[int, int]:
    """Where a node of a line's tree begins and ends, in characters: `ast` counts bytes."""
    whole = line.encode()
    begin, end = (len(whole[:at].decode()) for at in (node.col_offset, node.end_col_offset or len(whole)))
    return begin, end


def positions(cls: type) -> list[str]:
    """The names of a class's arguments in the order in which they may be given without them; of the rest, no more."""
    return [field.name for field in _fields(cls) if "rest" not in field.metadata]


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def spell(thing: Any, names: Mapping[str, type], always: Callable[[Any], Collection[str]] = lambda thing: ()) -> str:
    """The shortest text that reads back as `thing`: fields at their defaults are left out.

    always: the fields of a thing that are told even there, by their names.
    """
    if isinstance(thing, bool) or thing is None:
        return repr(thing)
    if isinstance(thing, float):
        return str(int(thing)) if thing.is_integer() and abs(thing) < 1e15 else repr(thing)
    if isinstance(thing, tuple):
        inner = ", ".join(spell(part, names, always) for part in thing)
        return f"({inner},)" if len(thing) == 1 else f"({inner})"
    if not dataclasses.is_dataclass(thing):
        return repr(thing)
    name = next((n for n, cls in names.items() if cls is type(thing)), None)
    if name is None:
        raise ValueError(f"{type(thing).__name__} has no name in the notation; register one")
    shown = list(_arguments(thing, names, always))
    return f"{name}({', '.join(shown)})" if shown else name


def signature(cls: type, names: Mapping[str, type]) -> str:
    """The arguments of a name as a reader would write them, with their defaults."""
    parts = []
    for field in _fields(cls):
        if "rest" in field.metadata:
            parts.append(f"**{field.name}")
            continue
        star = "*" if "star" in field.metadata else ""
        parts.append(f"{star}{field.name}" + ("" if _needed(field) else f"={spell(_default(field), names)}"))
    return ", ".join(parts)


def _arguments(thing, names, always):
    """The first argument, and those after it that have no default, stand without their names."""
    leading = True
    for n, field in enumerate(_fields(type(thing))):
        value = getattr(thing, field.name)
        changed = _needed(field) or value != _default(field)
        if "rest" in field.metadata:
            yield from (f"{key}={spell(part, names, always)}" for key, part in value)
        elif "star" in field.metadata:
            yield from (spell(part, names, always) for part in (value if changed else ()))
        elif leading and changed and (n == 0 or _needed(field)):
            yield spell(value, names, always)
        elif changed or field.name in always(thing):
            yield f"{field.name}={spell(value, names, always)}"
        leading = leading and changed


def _fields(cls: type) -> list[dataclasses.Field]:
    """In the order of arguments: those that need their names come last."""
    return sorted(dataclasses.fields(cls), key=lambda field: field.kw_only is True)


def _needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


class _Reader:
    def __init__(self, text: str, names: Mapping[str, type]):
        self.text, self.names = text, names

    def build(self, node: ast.expr) -> Any:
        match node:
            case ast.BinOp(left, ast.Add(), right):
                return self.added(node, self.build(left), self.build(right))
            case ast.Name(name):
                return self.called(node, name, [], [])
            case ast.Call(ast.Name(name), args, keywords):
                return self.called(node, name, args, keywords)
            case ast.Tuple(parts) | ast.List(parts):
                return tuple(self.build(part) for part in parts)
            case ast.Constant(value) if value is None or isinstance(value, bool | int | float | str):
                return value
            case ast.UnaryOp(ast.USub(), ast.Constant(value)) if isinstance(value, int | float):
                return -value
        raise self.error("expected a name, a call, a number or a text here", node)

    def called(self, node: ast.expr, name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        cls = self.names.get(name)
        if cls is None:
            known = ", ".join(sorted(self.names))
            problem = f"unknown name {_cut(repr(name))}{_nearest(name, self.names)}; known: {known}"
            raise UnknownName(problem, self.text, place(self.text, node)[0])
        fields = [f for f in _fields(cls) if "rest" not in f.metadata]
        rest = [f.name for f in _fields(cls) if "rest" in f.metadata]
        given: dict[str, Any] = {}
        if fields and "star" in fields[0].metadata:
            if args:
                whole = tuple(self.build(arg) for arg in args)
                given[fields[0].name] = self.fitted(cls, fields[0].name, whole, args[0])
            args = []
        if len(args) > len(fields):
            takes = f"takes {len(fields)} arguments" if fields else "takes no arguments"
            raise self.error(f"{name} {takes}: {name}({signature(cls, self.names)})", args[len(fields)])
        for field, arg in zip(fields, args, strict=False):
            given[field.name] = self.fitted(cls, field.name, self.build(arg), arg)
        known = {field.name for field in fields}
        for keyword in keywords:
            if keyword.arg and keyword.arg not in known and rest:
                others = dict(given.get(rest[0], ()))
                if keyword.arg in others:
                    raise self.error(f"{name} got {_cut(keyword.arg)} twice", keyword)
                given[rest[0]] = tuple(sorted((others | {keyword.arg: self.build(keyword.value)}).items()))
            else:
                given |= self.keyword(name, cls, keyword, given)
        for field in fields:
            if _needed(field) and field.name not in given:
                raise self.error(f"{name} needs {field.name}: {name}({signature(cls, self.names)})", node)
        try:
            return cls(**given)
        except Exception as e:
            raise self.error(f"{name}: {e if isinstance(e, ValueError) else why(e)}", node) from e

    def keyword(self, name: str, cls: type, keyword: ast.keyword, given: Mapping[str, Any]) -> dict[str, Any]:
        known = [field.name for field in _fields(cls)]
        if keyword.arg not in known:
            near = _nearest(str(keyword.arg), known)
            what = (
                f"{name} has no argument {_cut(repr(keyword.arg))}{near}; it takes {name}({signature(cls, self.names)})"
            )
            raise self.error(what, keyword)
        if keyword.arg in given:
            raise self.error(f"{name} got {keyword.arg} twice", keyword)
        return {keyword.arg: self.fitted(cls, keyword.arg, self.build(keyword.value), keyword.value)}

    def fitted(self, cls: type, field: str, value: Any, node: ast.expr) -> Any:
        try:
            return _expect(cls, field, value, lambda: _shown(value, self.names))
        except ValueError as e:
            raise self.error(str(e), node) from None

    def added(self, node: ast.BinOp, left: Any, right: Any) -> Any:
        try:
            return left + right
        except TypeError:
            raise self.error("only strategies can be added", node.right) from None
        except Exception as e:
            raise self.error(str(e) if isinstance(e, ValueError) else why(e), node.right) from e

    def error(self, problem: str, node: ast.expr | ast.keyword) -> NotationError:
        return NotationError(problem, self.text, place(self.text, node)[0])


def expect_types(thing: Any) -> None:
    """Raises ValueError for the first field of a dataclass whose value is not of its type."""
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        _expect(type(thing), field.name, value, lambda value=value: _shown(value, {}))


def _expect(cls: type, field: str, value: Any, shown: Callable[[], str]) -> Any:
    """The value as the field's type asks for it. Raises ValueError where it does not fit."""
    hint = _hints(cls)[field]
    try:
        return _fit(value, hint)
    except TypeError:
        raise ValueError(f"{field} must be {_described(hint)}, got {shown()}") from None
    except OverflowError:
        kind = "a whole number below 2**63" if isinstance(value, int) and hint is not float else f"at most {LARGEST:g}"
        raise ValueError(f"{field} must be {kind}, got {shown()}") from None


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _fit(value: Any, hint: Any) -> Any:
    """`value` as `hint` asks for it, an int as a float where that is asked for.

    Raises TypeError where it does not fit, OverflowError where it is a number of too many digits.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value in args and type(value) in map(type, args):
            return value
    elif origin in (Union, types.UnionType):
        return _first_fit(value, args)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _expect_moderate(float(value))
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            value.to_bytes(8, signed=True)  # or it overflows
            return value
    elif origin is tuple and isinstance(value, tuple):
        inner = args[:1] * len(value) if args[-1:] == (Ellipsis,) else args
        if len(inner) == len(value):
            return tuple(map(_fit, value, inner))
    elif hint is None or hint is type(None):
        if value is None:
            return value
    elif isinstance(origin or hint, type) and isinstance(value, origin or hint):
        return value
    raise TypeError


def _expect_moderate(value: float) -> float:
    if not abs(value) <= LARGEST:
        raise OverflowError
    return value


def _first_fit(value: Any, hints: tuple) -> Any:
    for hint in hints:
        try:
            return _fit(value, hint)
        except TypeError:
            continue
    raise TypeError


def _described(hint: Any) -> str:
    words = {
        float: "a number",
        int: "a whole number",
        str: "a text in quotes",
        bool: "True or False",
        type(None): "None",
    }
    if hint in words:
        return words[hint]
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_described, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {_described(get_args(hint)[0]).removeprefix('a ')}s"
    return f"a {getattr(hint, '__name__', hint)}"


def _shown(value: Any, names: Mapping[str, type]) -> str:
    try:
        told = spell(value, names) if dataclasses.is_dataclass(value) else repr(value)
    except ValueError:  # of thousands of digits
        told = f"a {type(value).__name__}"
    return _cut(told)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _nearest(name: str, known) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {near[0]!r}?" if near else ""

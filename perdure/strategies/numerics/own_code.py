"""Digests of the source code behind names of one's own, so that a run knows which code it was made by."""

import ast
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

DIGEST = "__perdure_source__"  # in a plugin's module: the digest of its file when it was run
INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
PACKAGE = Path(__file__).parents[2]  # ours, which has a version of its own

DIGESTS: dict[str, str] = {}  # by registered name


def digest(own: Any) -> str:
    """Of the source that a class or a function comes from.

    In a plugin: its file as it was run, with the files beside it that it imports. In another module: its file. In a
    script, a notebook or a console: the text of the class or function and of its own base classes.
    """
    module = sys.modules.get(own.__module__)
    known = vars(module).get(DIGEST) if module else None
    if known:
        return known
    file = vars(module).get("__file__") if module else None
    if file and own.__module__ != "__main__" and Path(file).is_file():
        return file_digest(Path(file))
    parts = [own] if inspect.isfunction(own) else [c for c in inspect.getmro(own) if _is_own(c)]
    return _sha256("\n".join(map(_text, parts)).encode())


def file_digest(path: Path) -> str:
    """Of a Python file and, in turn, of every file beside it that it imports."""
    texts = [p.read_bytes() for p in (path.resolve(), *sorted(files(path) - {path.resolve()}))]
    return _sha256(b"".join(f"{len(text)}\n".encode() + text for text in texts))


def files(path: Path) -> set[Path]:
    """A Python file, and the files beside it that it imports, at any remove."""
    root, found, waiting = path.resolve().parent, set(), [path.resolve()]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [p for name in _imported(one) for p in _beside(root, one, name)]
    return found


def used(text: str) -> set[str]:
    """The registered names in a text of the notation; none in a text that cannot be read."""
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & DIGESTS.keys()


def combined(*texts: str) -> str:
    """A digest of all the code behind the registered names in some texts; empty where there is none."""
    names = sorted(set().union(*map(used, texts)))
    return _sha256(" ".join(f"{name}:{DIGESTS[name]}" for name in names).encode())[:16] if names else ""


def _imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, by dotted name; with a dot in front where it is relative."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}{'' if base.endswith('.') else '.'}{alias.name}" for alias in node.names)


def _beside(root: Path, importer: Path, name: str) -> Iterator[Path]:
    level = len(name) - len(name.lstrip("."))
    start = importer.parents[level - 1] if level else root
    parts = [part for part in name.split(".") if part]
    for n in range(1, len(parts) + 1):
        place = start.joinpath(*parts[:n])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file() and not path.resolve().is_relative_to(PACKAGE):
                yield path.resolve()


def _is_own(cls: type) -> bool:
    """Whether a class is neither ours nor of an installed package."""
    module: ModuleType | None = sys.modules.get(cls.__module__)
    file = vars(module).get("__file__") if module else None
    if file is None:
        return cls.__module__ == "__main__"
    return not file.startswith((*INSTALLED, str(PACKAGE)))


def _text(own: Any) -> str:
    try:
        return inspect.getsource(own)
    except (OSError, TypeError):  # typed into a console
        code = own.__code__ if inspect.isfunction(own) else None
        codes = [code] if code else [f.__code__ for f in vars(own).values() if inspect.isfunction(f)]
        return "".join(f"{c.co_name} {c.co_code.hex()} {c.co_names} {_constants(c)}" for c in codes)


def _constants(code: Any) -> str:
    return repr([c for c in code.co_consts if not inspect.iscode(c)]) + "".join(
        c.co_code.hex() + _constants(c) for c in code.co_consts if inspect.iscode(c)
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

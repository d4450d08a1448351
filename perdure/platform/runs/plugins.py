"""Files of one's own that add names to the notation, as `perdure.register("mine", Mine)`."""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from ...errors import reading, why
from ...strategies.numerics.own_code import DIGEST, file_digest, files
from . import dry_run

LARGEST = 16_000_000  # bytes of a plugin


class PluginError(ValueError):
    """A plugin that cannot be read or run. The message has its file, the line, and what is wrong there."""


def load(paths: Sequence[str]) -> None:
    """Run each file in this process: once, and again where it, or a file beside it that it imports, has changed.

    Raises FileNotFoundError, and PluginError for what is no Python, or raises an error or leaves Python as it runs.
    """
    for path in map(Path, paths):
        with reading(f"the plugin {path} cannot be read", "name a Python file that registers names", PluginError):
            _load(path)


def _load(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no plugin at {path}; expected a Python file that registers names")
    if path.suffix != ".py":
        raise PluginError(f"expected a plugin to be a Python file, as own.py, got {path}")
    if path.stat().st_size > LARGEST:
        raise PluginError(f"expected a plugin of at most {LARGEST} bytes, and {path} has {path.stat().st_size}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # the last: what it imports from beside it is found, and hides nothing
    name = "perdure_plugin_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    digest, before = file_digest(path), sys.modules.get(name)
    if before is not None and vars(before)[DIGEST] == digest:
        return
    if before is not None:
        _drop_neighbours(path)
    _run(path, name, digest, before)


class _Source(SourceFileLoader):
    """Reads the source each time: Python takes its compiled copy for current within a second of a change."""

    def path_stats(self, path):
        raise OSError("no compiled copy is wanted")


def _run(path: Path, name: str, digest: str, before: ModuleType | None) -> None:
    loader = _Source(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    vars(module)[DIGEST] = digest
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException as e:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if isinstance(e, KeyboardInterrupt):
            raise
        dry_run.unreadable(path, e)
        raise PluginError(f"the plugin {path} cannot be run: {why(e)}") from e


def _drop_neighbours(path: Path) -> None:
    """Let what a plugin imports from beside it be read again."""
    own = {str(one) for one in files(path)}
    for name, module in list(sys.modules.items()):
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if file and str(Path(file).resolve()) in own:
            del sys.modules[name]

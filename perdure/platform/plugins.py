"""Files of one's own that add names to the notation, as `perdure.register("mine", Mine)`."""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path


def load(paths: Sequence[str]) -> None:
    """Run each file once in this process. Raises FileNotFoundError."""
    for path in map(Path, paths):
        if not path.is_file():
            raise FileNotFoundError(f"no plugin at {path}; expected a Python file that registers names")
        name = "perdure_plugin_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise

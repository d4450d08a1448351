"""The command `perdure`, from its first moment to its exit code."""

import gc
import sys
from typing import Any

from ..platform.storage import signals


def __getattr__(name: str) -> Any:
    """The commands, which are imported once signals are heard."""
    from . import app

    return getattr(app, name)


def main() -> None:
    signals.listen()
    code: Any = 0
    try:
        from .app import app

        app()
    except KeyboardInterrupt:  # before any command was at work
        code = signals.INTERRUPTED
    except SystemExit as e:
        code = e.code
    finally:
        signals.over()
        if "triton" not in sys.modules:  # which would tell of leaks
            gc.freeze()  # or Python looks through all the modules' objects once more, for a second, before it ends
    sys.exit(signals.code() if code == signals.INTERRUPTED else code)

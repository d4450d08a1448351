"""Every figure: `make bench`, or `python -m benchmarks loop` for some."""

import sys

from . import generators, loop, methods, platform, projection, strategies

PARTS = {
    "platform": platform.main,
    "loop": loop.main,
    "methods": methods.main,
    "strategies": strategies.main,
    "projection": projection.main,
    "generators": generators.main,
}

for name in sys.argv[1:] or PARTS:
    PARTS[name]()

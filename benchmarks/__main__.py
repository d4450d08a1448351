"""Every figure: `make bench`, or `python -m benchmarks loop` for some."""

import sys

from . import loop, platform, strategies

PARTS = {"platform": platform.main, "loop": loop.main, "strategies": strategies.main}

for name in sys.argv[1:] or PARTS:
    PARTS[name]()

"""Every figure: `make bench`, or `python -m benchmarks loop` for some."""

import sys

from . import (
    attacks,
    coresets,
    data,
    generators,
    loop,
    meta,
    methods,
    platform,
    poisons,
    projection,
    scale,
    search,
    strategies,
    together,
    workers,
)

PARTS = {
    "platform": platform.main,
    "search": search.main,
    "loop": loop.main,
    "together": together.main,
    "methods": methods.main,
    "strategies": strategies.main,
    "coresets": coresets.main,
    "projection": projection.main,
    "generators": generators.main,
    "attacks": attacks.main,
    "poisons": poisons.main,
    "meta": meta.main,
    "workers": workers.main,
    "scale": scale.main,
    "data": data.main,
}

for name in sys.argv[1:] or PARTS:
    PARTS[name]()

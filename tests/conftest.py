import os
import sys
from pathlib import Path

import pytest
import torch

from perdure.strategies.names import STRATEGIES
from perdure.streams.names import GENERATORS, SOURCES

ROOT = Path(__file__).parent.parent
# what tests start in processes of their own is this copy too, wherever another one is installed
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cluster():
    """One Ray cluster on loopback for all tests; fleets join it and leave it running."""
    from perdure.platform.cluster import connection as cluster

    assert cluster.connect()
    yield
    cluster.disconnect()


@pytest.fixture(autouse=True)
def known_names():
    """What a test registers is forgotten after it."""
    tables, modules = [(table, dict(table)) for table in (STRATEGIES, SOURCES, GENERATORS)], set(sys.modules)
    yield
    for table, before in tables:
        table.clear()
        table.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("perdure_plugin_"):
            del sys.modules[name]

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cluster():
    """One Ray cluster on loopback for all tests; fleets join it and leave it running."""
    from perdure.platform import cluster

    assert cluster.connect()
    yield
    cluster.disconnect()

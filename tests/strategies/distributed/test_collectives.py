"""World size changes nothing but rounding (DESIGN, decision 9): every strategy on one, two and four workers."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from perdure.testing.equality import near, same

from ..test_matrix import ALL
from .teamwork import LEFT_OUT

ROOT = Path(__file__).parents[3]


def of_team(size: int, folder: Path) -> list[dict]:
    """What each of so many workers came to, in float64: where rounding is all that differs, it is 1e-9 at most."""
    folder.mkdir()
    line = [sys.executable, "-m", "tests.strategies.distributed.teamwork"]
    workers = [subprocess.Popen([*line, str(n), str(size), str(folder)], cwd=ROOT) for n in range(size)]
    assert [worker.wait() for worker in workers] == [0] * size
    return [torch.load(folder / f"{n}.pt", weights_only=True) for n in range(size)]


@pytest.fixture(scope="module")
def teams(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teams")
    return {size: of_team(size, folder / str(size)) for size in (1, 2, 4)}


@pytest.mark.parametrize(("name", "size"), [case for case in product(ALL, (2, 4)) if case not in LEFT_OUT])
def test_a_team_ends_where_one_worker_ends(teams, name, size):
    (alone,), together = teams[1], teams[size]
    assert all(same(other[name], together[0][name]) for other in together)  # to the bit, on every worker
    assert together[0][name]["accuracy"] == alone[name]["accuracy"]
    assert near(together[0][name], alone[name], 1e-8)

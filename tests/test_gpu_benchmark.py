"""benchmarks/gpu.py where there is no GPU: it says so, and its whole path runs at tiny sizes."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks import gpu
from perdure.strategies.training import cuda_graphs, loop
from perdure.strategies.training.cuda_graphs import steps_of

from .strategies.training.tape import Tape

FILE = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
BARE = """
import runpy, sys
for name in ("ray", "mlflow", "torchvision", "avalanche", "sklearn", "pandas", "matplotlib", "scipy", "jinja2"):
    sys.modules[name] = None
sys.argv, sys.path[0] = [sys.argv[1]], "/nowhere"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_without_a_gpu_every_row_says_not_measured_and_torch_is_all_it_needs(tmp_path):
    if torch.cuda.is_available():
        return  # then the figures themselves are the test
    words = [sys.executable, "-c", BARE, str(FILE)]
    told = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    lines = [line for line in told.splitlines() if "resnet18" in line or "the same" in line or "mlp" in line]
    assert len(lines) == len(gpu.ROWS) and all(line.count(gpu.MISSING) == 3 for line in lines)


def test_its_whole_path_runs_with_captured_steps(monkeypatch):
    """At tiny sizes, on the tape that stands in for CUDA graphs."""
    monkeypatch.setattr(cuda_graphs, "GPU", "cpu")
    monkeypatch.setattr(cuda_graphs, "WORTH", 1)
    monkeypatch.setattr(cuda_graphs, "WARM", 1)
    monkeypatch.setattr(loop, "steps_of", partial(steps_of, graphs=Tape))
    Tape.replays = 0
    rows = gpu.measured(torch.device("cpu"), gpu.TINY)
    assert [row[0] for row in rows] == [what for what, _ in gpu.ROWS]
    assert all(" x" in row[3] or "%" in row[3] for row in rows)
    assert Tape.replays == 7 + 1  # of 8 steps of the perceptron and 2 of the network, all but the first

"""A program that connects to Ray stays what it was, and so does what it imports."""

import os
import subprocess
import sys

OWN = """
from dataclasses import dataclass

import beside
import perdure
from perdure.strategies.base import Strategy


@dataclass(frozen=True)
class Mine(Strategy):
    strength: float = beside.STRENGTH


perdure.register("mine", Mine)
"""


def test_files_in_the_working_folder_that_are_called_as_libraries_are_not_taken_for_them(tmp_path):
    """Neither by the command nor by its actors, which find what a plugin imports from beside it."""
    for name in ("torch", "numpy", "ray", "mlflow", "yaml", "platform", "random"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is somebody else's')")
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "own.py").write_text(OWN)
    (tmp_path / "plugin" / "beside.py").write_text("STRENGTH = 1.0")
    words = ["compare", "mine", "--seeds", "1", "--epochs", "1", "--slots", "1", "--no-tracking", "--plugin"]
    program = [sys.executable, "-W", "ignore", "-m", "perdure", *words, "plugin/own.py"]
    told = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stderr + told.stdout


def test_servers_listen_to_this_machine_where_a_program_has_imported_ray_before():
    program = "import ray; from perdure.platform.cluster.connection import connect; connect()\n"
    program += "print(ray.nodes()[0]['NodeManagerAddress'])"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    line = [sys.executable, "-W", "ignore", "-c", program]
    told = subprocess.run(line, env=kept, capture_output=True, text=True, timeout=240)
    assert told.stdout.splitlines() == ["127.0.0.1"], told.stderr

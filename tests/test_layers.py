"""streams <- strategies <- platform <- jobs: who may import whom, and what an import may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "perdure"
GROUND = ["errors", "limits", "notation"]
BELOW = {
    "errors": [],
    "limits": [],
    "notation": ["errors"],
    "streams": [*GROUND],
    "strategies": [*GROUND, "streams"],
    "platform": [*GROUND, "streams", "strategies"],
    "jobs": [*GROUND, "streams", "strategies", "platform"],
    "testing": [*GROUND, "streams", "strategies", "platform"],
}
WITHIN = {  # folders inside strategies that know no strategy
    "models": ["errors", "limits", "notation", "strategies.team"],
    "generators": [
        "notation",
        "streams",
        "strategies.rng",
        "strategies.finite",
        "strategies.modes",
        "strategies.returned",
        "strategies.team",
    ],
    "meta": [
        "notation",
        "streams.episodes",
        "strategies.rng",
        "strategies.finite",
        "strategies.modes",
        "strategies.nested",
        "strategies.returned",
    ],
    "attacks": [
        "notation",
        "streams.poisoned",
        "strategies.rng",
        "strategies.finite",
        "strategies.models",
        "strategies.returned",
    ],
}
HEAVY = {"ray", "mlflow", "avalanche", "torchvision", "matplotlib", "sklearn", "pandas", "scipy", "pyarrow"}


def imported(path: Path, top_level_only: bool = False):
    """(package-absolute name) of everything that a file imports."""
    tree = ast.parse(path.read_text())
    package = ("perdure", *path.relative_to(ROOT).parts[:-1])
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{stem}.{alias.name}" for alias in node.names)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("layer", BELOW)
def test_imports_point_one_way(layer):
    files = [f for f in FILES if f.relative_to(ROOT).parts[0].removesuffix(".py") == layer]
    assert files
    for file in files:
        for name in imported(file):
            parts = name.split(".")
            if parts[0] == "perdure" and len(parts) > 1 and parts[1] in BELOW:
                assert parts[1] in [*BELOW[layer], layer], f"{file} imports {name}"


@pytest.mark.parametrize("folder", WITHIN)
def test_parts_of_strategies_know_no_strategy(folder):
    for file in (ROOT / "strategies" / folder).glob("*.py"):
        for name in imported(file):
            if name.startswith("perdure."):
                allowed = [f"perdure.{a}" for a in WITHIN[folder]] + [f"perdure.strategies.{folder}"]
                assert name.startswith(tuple(allowed)), f"{file} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_heavy_packages_are_imported_where_they_are_used(file):
    for name in imported(file, top_level_only=True):
        assert name.split(".")[0] not in HEAVY, f"{file} imports {name} at its top"


@pytest.mark.parametrize("package", ["perdure", "perdure.strategies.names", "perdure.streams.names"])
def test_an_import_brings_nothing_heavy(package):
    code = f"import {package}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_streams_and_strategies_never_name_the_platform():
    for file in FILES:
        if file.relative_to(ROOT).parts[0] in ("streams", "strategies"):
            assert not {"ray", "mlflow"} & {name.split(".")[0] for name in imported(file)}, file

"""The floors of the house: imports go down only, and importing costs little."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "perdure"
# From the ground up. A room is a folder inside one of the five packages, or a file that lies directly in one of them.
# It imports from rooms above this line of its own alone: a room that is named nowhere is an error.
FLOORS = """
    version exports errors limits notation
    streams.storage streams.evaluation streams.experience streams.datasets streams.episodes streams.recipe
    streams.scenarios streams.poisoning streams.live streams.names
    strategies.numerics strategies.distributed strategies.metrics strategies.models strategies.learner strategies.base
    strategies.generators strategies.meta strategies.attacks
    strategies.training strategies.blocks strategies.replicas strategies.avalanche
    strategies.methods strategies.names strategies.registry
    platform.storage platform.cluster platform.runs platform.figures platform.reports platform.workloads
    platform.execution platform.fleet platform.tracking platform.studies platform.live platform.evaluation
    platform.search platform.api platform.submission
    jobs.terminal jobs.recipe jobs.progress jobs.catalogue jobs.options jobs.views jobs.live_progress jobs.run_and_show
    jobs.commands
    jobs.boundary jobs.app jobs.main
    testing.equality testing.streams testing.sources testing.executors
    __init__ __main__
""".split()  # noqa: SIM905
OWN_WORLD = {  # rooms that know nothing of strategies: what they may import of them
    "models": ["numerics", "distributed"],
    "generators": ["numerics", "distributed", "models"],
    "meta": ["numerics", "distributed", "models"],
    "attacks": ["numerics", "distributed", "models"],
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


def module(file: Path) -> str:
    return ".".join(("perdure", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}


def room(file: Path) -> str:
    """As `platform.runs`, of a file in a folder of a package; as `streams.names`, of a file directly in one."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:2]) if len(parts) > 1 and parts[-1] != "__init__" else ".".join(parts)


@cache
def arrows() -> dict[Path, set[Path]]:
    """By file, the files of the package that it imports from."""
    found = {file: (MODULES.get(n) or MODULES.get(n.rpartition(".")[0]) for n in imported(file)) for file in FILES}
    return {file: {to for to in others if to is not None} - {file} for file, others in found.items()}


def test_every_room_stands_on_a_floor():
    bare = {room(file) for file in FILES if file.read_text().strip() or file.name != "__init__.py"}
    holding = {name for name in bare if not name.endswith("__init__") or name == "__init__"}
    assert sorted(holding) == sorted(FLOORS)


def test_imports_go_down_only():
    climbing = [
        f"{a.relative_to(ROOT)} imports {b.relative_to(ROOT)}"
        for a, others in arrows().items()
        for b in others
        if room(b) in FLOORS and room(a) in FLOORS and FLOORS.index(room(b)) > FLOORS.index(room(a))
    ]
    assert climbing == []


def test_no_files_import_each_other_in_a_circle():
    below = dict(arrows())
    while free := [file for file, others in below.items() if not others & below.keys()]:
        for file in free:
            del below[file]
    assert {str(file.relative_to(ROOT)) for file in below} == set()


def test_private_names_stay_in_their_file():
    names = {name for file in FILES for name in imported(file) if name.startswith("perdure.")}
    private = {
        name for name in names if (last := name.rpartition(".")[2]).startswith("_") and not last.startswith("__")
    }
    assert private == set()


@pytest.mark.parametrize("folder", OWN_WORLD)
def test_parts_of_strategies_know_no_strategy(folder):
    for file in (ROOT / "strategies" / folder).glob("*.py"):
        for name in imported(file):
            if name.startswith("perdure.strategies."):
                assert name.split(".")[2] in [folder, *OWN_WORLD[folder]], f"{file} imports {name}"


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

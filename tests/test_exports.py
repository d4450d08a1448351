"""What may be imported from outside is listed, can be had by name, and costs nothing before it is used."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["perdure", "perdure.strategies", "perdure.streams"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_what_its_module_calls_so(package):
    module = import_module(package)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for name in set(module.__all__) - {"__version__"}:
        assert name in dir(module)
        made = getattr(module, name)
        assert name in ("State", "Grads") or made.__name__ == name  # those two are other types' short names
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nothing'; it has "):
        _ = module.Nothing


@pytest.mark.parametrize("package", PACKAGES)
def test_an_editor_sees_the_same_names(package):
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.name for line in block.body if isinstance(line, ast.ImportFrom) for alias in line.names}
    assert seen == set(import_module(package).__all__) - {"__version__"}


def test_what_examples_and_docs_import_is_public():
    pages = [*ROOT.glob("examples/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]
    lines = [line.strip() for page in pages for line in page.read_text().splitlines()]
    found = [ast.parse(line).body[0] for line in lines if line.startswith(("from perdure", "import perdure"))]
    named = {node.module for node in found if isinstance(node, ast.ImportFrom)}
    assert named <= {*PACKAGES, *BEHIND}, named


# Parts that docs speak of and that stay out of the listed names: each is for readers of the page that names it
BEHIND = {
    "perdure.streams.scenarios.avalanche",
    "perdure.streams.names",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_is_imported_when_it_is_used(package):
    code = f"import {package}, sys; print(any(m.startswith('perdure.platform') or m == 'torch' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

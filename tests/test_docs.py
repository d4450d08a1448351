"""Every example of README, docs and examples runs, and every link leads somewhere."""

import re
import runpy
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.submission.parcel import packed
from perdure.strategies.attacks.names import ATTACKS
from perdure.strategies.generators.names import GENERATORS
from perdure.strategies.names import STRATEGIES
from perdure.streams.names import STREAMS

from .streams.tiny import mnist

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# How a line that needs a cluster, a GPU, data that nobody has here or many minutes is brought to this machine: what it
# says is kept, of how much and where only as much as fits.
SMALLER = ["--steps", "2", "--here", "--no-tracking"]
TRIED = ["--steps", "2", "--iterations", "2", "--judged", "10", "--fresh", "0", "--no-tracking"]
FEWER = ["--iterations", "2", "--tested", "10", "--judged", "10", "--here", "--no-tracking"]


def shell_lines():
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.S):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["perdure"]:
                    yield pytest.param(words[1:], id=" ".join(words))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the examples speak of."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in ("cat", "dog", "fox", "hen"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for n in range(10):
            pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{n}.png")
    np.savez(tmp_path / "data.npz", x=rng.random((80, 5), dtype=np.float32), y=np.arange(80) % 4)
    rows = [f"{n % 7},{n % 5},{'up' if n % 3 else 'down'},{n % 2}" for n in range(60)]
    (tmp_path / "log.csv").write_text("\n".join(["heat,load,state,month", *rows]))
    (tmp_path / "task.csv").write_text("\n".join(f"{n},{'' if n > 3 else n % 2}" for n in range(6)))
    (tmp_path / "inbox").mkdir()
    mnist(tmp_path / "mnist" / "MNIST" / "raw")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrive(inbox: Path, labelled: bool) -> None:
    """Let something arrive: a table where its column of labels is spoken of."""
    if labelled:
        (inbox / "a.csv").write_text(
            "\n".join(["heat,state", *(f"{n % 7},{('up', 'down')[n % 2]}" for n in range(20))])
        )
    else:
        np.savez(inbox / "a.npz", x=np.random.default_rng(0).random((40, 5), dtype=np.float32), y=np.arange(40) % 2)


def fitted(words: list[str]) -> list[str]:
    """`words` as this machine can run them in a moment."""
    dropped = ("--address", "--home", "--tracking-uri", "--device", "--gpus-per-run", "--seeds")
    if words[0] != "meta":
        dropped += ("--workers",)  # a group takes long to start: tests/platform/fleet/test_ray_train.py starts one
    if any(word.startswith("file://") for word in words):
        dropped = tuple(option for option in dropped if option != "--home")
    kept = [w for w, before in zip(words, ["", *words], strict=False) if w not in dropped and before not in dropped]
    if words[0] == "meta":
        return [*kept, *FEWER, *([] if "--model" in words else ["--model", "mlp(8)"])]
    return [*kept, *SMALLER, *(["--seeds", "1"] if words[0] == "compare" else [])]


@pytest.mark.parametrize("words", list(shell_lines()))
def test_a_line_of_the_docs_runs(words, folder, request):
    words = [word.replace("file:///tmp", f"file://{folder}").replace("'/datasets/", f"'{folder}/") for word in words]
    if words[0] == "submit":  # what is sent, and the line within; a cluster runs such in platform/submission
        submitted = CliRunner().invoke(main.app, [*words[: words.index("--")], "--help"])
        words = words[words.index("--") + 1 :]
        assert submitted.exit_code == 0 and packed(words).words[: len(words[:2])] == tuple(words[:2])
    if words[0] == "fetch":  # it is read; a cluster answers in platform/submission
        told = CliRunner().invoke(main.app, words)
        assert told.exit_code == 2 and "no Ray dashboard answers at http://head:8265" in told.output, told.output
        return
    if words[0] in ("run", "compare", "meta"):
        if "--start" in words:
            CliRunner().invoke(
                main.app, ["meta", "maml", "--on", "few_shot(strokes, 5, 1)", "--model", "conv4", *FEWER]
            )
            (made,) = (folder / "perdure-runs" / "runs").iterdir()
            words = [made.name if w == "9d04" else w for w in words]
        words = fitted(words)
    elif words[0] == "tune":
        request.getfixturevalue("cluster")
        words = [*words, *TRIED, *([] if "grid" in words else ["--trials", "2"])]
    elif words[0] == "follow":
        arrive(folder / "inbox", labelled="label=" in words[1])
        words = [*words, "--steps", "2", "--here", "--arrivals", "1"]
        words += [] if "--register" in words else ["--no-tracking"]
    elif words[0] in ("resume", "ui", "job"):  # they are run elsewhere; here it is their words that must be right
        words = [*words, "--help"]
    elif words[0] == "attack":
        CliRunner().invoke(main.app, ["run", "naive", "--model", "convnet(8)", *SMALLER])
        (made,) = (folder / "perdure-runs" / "runs").iterdir()
        words = [*(made.name if w == "5f2c" else w for w in words), "--samples", "20"]
    elif words[0] == "adapt":
        CliRunner().invoke(main.app, ["meta", *FEWER])
        (made,) = (folder / "perdure-runs" / "runs").iterdir()
        words = [made.name if w == "7a1b" else w for w in words]
    elif words[0] == "show":
        CliRunner().invoke(main.app, ["run", "naive", *SMALLER, *words[2:]])
        (made,) = (f for f in folder.rglob("run.json") if "runs" in f.parts)
        words = [made.parent.name if w == "5f2c" else w for w in words]
    told = CliRunner().invoke(main.app, words)
    assert told.exit_code == 0, told.output


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=lambda p: p.name)
def test_python_of_the_docs_runs(page, folder):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S):
        exec(compile(block, page.name, "exec"), {"__name__": page.name})
    if page.name == "README.md":
        assert (folder / "curves.png").stat().st_size > 10_000


@pytest.mark.usefixtures("cluster")
def test_the_python_example_runs(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    runpy.run_path(str(ROOT / "examples" / "compare.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert "joint" in told and "report.html" in told


@pytest.mark.usefixtures("cluster")
def test_the_live_example_runs(folder, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # the example sets it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of MLflow on its own types
        import mlflow

    monkeypatch.setattr(sys, "argv", ["live.py"])
    runpy.run_path(str(ROOT / "examples" / "live.py"), run_name="__main__")
    mlflow.set_tracking_uri(None)
    told = capsys.readouterr().out
    assert "digits version 4: champion" in told and "asked [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] answered [" in told


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_the_reference_has_a_row_for_every_strategy():
    text = (ROOT / "docs" / "reference.md").read_text()
    own = [name for name, cls in STRATEGIES.items() if cls.__module__.startswith("perdure.strategies")]
    assert [name for name in own if f"| `{name}` |" not in text] == []


def test_the_reference_has_a_row_for_every_generator():
    text = (ROOT / "docs" / "reference.md").read_text()
    assert all(f"| `{name}` |" in text for name in GENERATORS)


def test_the_reference_has_a_row_for_every_attack():
    text = (ROOT / "docs" / "reference.md").read_text()
    assert [name for name in ATTACKS if f"| `{name}` |" not in text] == []


def test_the_reference_has_a_row_for_every_stream():
    text = (ROOT / "docs" / "reference.md").read_text()
    assert [name for name in STREAMS if f"| `{name}` |" not in text] == []


def test_make_targets_of_the_docs_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`?make ([a-z]+)\b", page.read_text()):
            if target not in ("and", "it", "a"):
                assert re.search(rf"^{target}:", makefile, flags=re.M), target

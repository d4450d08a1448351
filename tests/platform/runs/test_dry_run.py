"""Lines that are only looked at: read to the end, told of as ever, and nothing is made."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.runs.dry_run import DRY_RUN, look

ELSEWHERE = "another_library_of_theirs"


@pytest.fixture
def looked(tmp_path, monkeypatch):
    """What a look at a line comes to: its code, what it would read, and what it has said."""
    found, here = tmp_path / "found.json", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv(DRY_RUN, str(found))

    def one(*words: str):
        found.unlink(missing_ok=True)
        before = sorted(here.iterdir())
        told = CliRunner().invoke(main.app, words, env={"COLUMNS": "200"})
        assert sorted(here.iterdir()) == before
        return told.exit_code, json.loads(found.read_text()) if found.exists() else None, told.stderr

    return one


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["compare", "naive", "--on", "split(images('photos', experience='when.csv'))"], ["photos", "when.csv"]),
        (["run", "naive", "--on", "flipped(split(table('x.csv')), 0.1)", "--start", "5f2c"], ["x.csv"]),
        (["run", "naive", "--device", "cuda", "--address", "head:6379"], []),
        (["meta", "protonets", "--on", "few_shot(arrays('/data/x.npz'), 2, 1)"], ["/data/x.npz"]),
        (["tune", "ewc(loguniform(1, 1e4))", "--on", "split(arrays('x.npz'))"], ["x.npz"]),
        (["generate", "vae", "--on", "images('photos')"], ["photos"]),
        (["follow", "inbox", "--state", "kinds"], ["inbox"]),
        (["follow", "folder('/shared/inbox', size=8)", "--state", "kinds"], ["/shared/inbox"]),
        (["adapt", "7a1b", "--data", "task.csv"], ["task.csv"]),
        (["attack", "pgd(eps=0.1)", "--run", "5f2c"], []),
        (["resume"], []),
        (["show", "5f2c"], []),
        (["verify"], []),
    ],
)
def test_a_line_without_a_mistake_tells_what_it_would_read(looked, words, paths):
    code, found, told = looked(*words)
    assert code == 0, told
    assert found.get("paths", []) == paths


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "rehersal(5)"], "did you mean 'rehearsal'?"),
        (["compare", "naive", "--seeds", "0"], "expected a seed at least"),
        (["compare", "naive", "--recipe", "own.yaml"], "did you mean 'digits'?"),
        (["run", "naive", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["run", "naive", "--sed", "3"], "No such option: --sed"),
        (["meta", "maml(steps=0)"], "steps"),
        (["tune", "ewc(loguniform(1, 1e4))", "--by", "grid"], "a grid needs values that can be counted"),
        (["tune", "ewc(uniform(-3, 1))"], "strength"),
        (["attack", "pgd(esp=0.1)", "--run", "5f2c"], "did you mean 'eps'?"),
        (["follow", "inbox", "joint", "--state", "kinds"], "unexpected extra argument"),
        (["follow", "inbox", "--strategy", "joint", "--state", "kinds"], "learns from data that are not there"),
        (["generate", "vea"], "did you mean 'vae'?"),
        (["comprae"], "Did you mean 'compare'?"),
    ],
)
def test_a_mistake_is_told_as_the_command_itself_would(looked, words, said, monkeypatch):
    Path("own.yaml").write_text("on: split(digit)\n")
    code, found, told = looked(*words)
    assert (code, found) == (2, None) and said in told
    monkeypatch.delenv(DRY_RUN)
    itself = CliRunner().invoke(main.app, words, env={"COLUMNS": "200"})
    assert (itself.exit_code, itself.stderr) == (2, told)


def test_names_of_plugins_are_known_and_what_only_the_cluster_has_is_said(tmp_path, monkeypatch):
    """In a process of its own: the plugin may do what it likes there."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "import dataclasses, perdure\nfrom perdure.strategies.base import Naive\n"
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Naive): pass\nperdure.register('mine', Mine)\n"
    )
    Path("theirs.py").write_text(f"import {ELSEWHERE}\n")
    assert look(["run", "mine", "--plugin", "own.py"]).code is None
    told = look(["run", "mine", "--plugin", "theirs.py"])
    assert told.code is None and f"No module named '{ELSEWHERE}'" in told.unread
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["own.py", "theirs.py"]

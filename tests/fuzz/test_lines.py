"""Every command line: whatever stands on it, it ends in a result, or in a sentence and a code of its own."""

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.api import tune
from perdure.platform.evaluation import generation
from perdure.platform.search import runner as search
from perdure.platform.studies import make

from .bounds import refused_or_read
from .malformed import numbers, texts

COMMANDS = {
    "compare": ["naive", "ewc(100)"],
    "run": ["rehearsal(500)"],
    "meta": ["maml(lr=0.01)"],
    "tune": ["ewc(loguniform(1, 100))"],
    "generate": ["vae"],
    "attack": ["pgd", "--run", "5f2c"],
    "adapt": ["5f2c", "--data", "task.csv"],
    "list": ["naive"],
    "show": ["5f2c"],
    "resume": ["5f2c"],
    "verify": ["5f2c"],
}
# what starts a server or joins one, and what decides where the test itself writes
LEFT_OUT = {"help", "address", "tracking", "tracking_uri", "home", "here", "workers"}
GROUP = typer.main.get_command(main.app)
VALUES = st.one_of(numbers(), texts(["naive", "split(digits)", "mlp(64)", "0.5", "1,2", "own.py", "key=value"]))


@pytest.fixture(autouse=True)
def nothing_is_made(monkeypatch, tmp_path):
    """What is right ends where runs would be made."""

    def made(*_, **__):
        raise SystemExit(0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make, "conduct", made)
    for module in (search, tune):
        monkeypatch.setattr(module, "conduct_search", made)
    monkeypatch.setattr(generation, "generate", lambda asked, *_: asked.normal() and made())


@st.composite
def lines(draw, command: str) -> list[str]:
    params = [p for p in GROUP.commands[command].params if p.name not in LEFT_OUT and p.opts[0].startswith("-")]
    words = draw(st.sampled_from([COMMANDS[command], []])) + draw(st.lists(VALUES, max_size=1))
    for param in draw(st.lists(st.sampled_from(params), max_size=3)):
        words = [*words, param.opts[0], *([] if getattr(param, "is_flag", False) else [draw(VALUES)])]
    return words


def told(words: list[str]) -> None:
    with refused_or_read():
        done = CliRunner().invoke(main.app, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        assert done.exit_code in (0, 1, 2), done.output
        assert "Traceback" not in done.output
        assert done.exit_code == 0 or done.output.strip()


@pytest.mark.parametrize("command", COMMANDS)
@given(draw=st.data())
def test_a_line_ends_in_a_result_or_a_sentence(command, draw):
    home = draw.draw(st.sampled_from(["runs", "/etc/passwd/runs", "/proc/runs", "a?b=c", "%41"]))
    more = ["--home", home] if command != "list" else []
    quiet = ["--no-tracking"] if command in ("compare", "run", "meta", "tune", "generate", "attack") else []
    told([command, *draw.draw(lines(command)), *more, *quiet])


@given(st.lists(VALUES, max_size=4))
@example(["compare", "--seeds", "999999999"])
@example(["run", "naive", "--threads", "100000"])
@example(["run", "naive", "--on", "permuted(digits, 999999999)"])
@example(["run", "naive", "--model", "mlp(1000000000)"])
@example(["run", "naive", "--device", "nowhere"])
@example(["run", "--plugin", "own.txt"])
@example(["tune", "ewc(randint(0, 9999999999))", "--by", "grid"])
@example(["compare", "+".join(["naive"] * 1000)])
@example(["compare", "not " * 10_000])
def test_any_words_end_in_a_result_or_a_sentence(words):
    told([*words, *(["--no-tracking"] if words[:1] in (["compare"], ["run"], ["tune"]) else [])])

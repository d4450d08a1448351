"""What a user can mend is told in a sentence; a fault of Perdure keeps its traceback in a file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.errors import foreseen, reading, why
from perdure.jobs import boundary
from perdure.platform.runs import plugins
from perdure.platform.runs.plugins import PluginError


def raised(work):
    with pytest.raises(Exception) as caught:
        work()
    return caught.value


def refuse():
    raise ValueError("expected 1, got 2")


def test_a_sentence_is_told_from_a_librarys_words():
    assert foreseen(raised(refuse))
    assert not foreseen(raised(lambda: int("x")))
    assert not foreseen(raised(lambda: json.loads("{")))
    assert not foreseen(raised(lambda: [].index(1)))
    assert foreseen(ValueError("of another process"))


def test_what_a_library_says_becomes_a_sentence_and_a_sentence_stays():
    with pytest.raises(PluginError, match=r"^own cannot be read: .*JSONDecodeError: .*; repair it$"):  # noqa: SIM117
        with reading("own cannot be read", "repair it", PluginError):
            json.loads("{")
    with pytest.raises(ValueError, match="^expected 1, got 2$"), reading("own cannot be read", "repair it"):
        refuse()
    with pytest.raises(FileNotFoundError), reading("own cannot be read", "repair it"):
        Path("/nowhere/at/all").read_text()


def test_words_are_few_and_plain():
    assert why(RecursionError("maximum recursion depth exceeded")).endswith("it is nested too deeply")
    assert len(why(RuntimeError("x" * 5000))) < 400
    assert why(PermissionError(13, "Permission denied", "/x")) == "Permission denied: /x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class", "SyntaxError"),
        ("\n1 / 0", "ZeroDivisionError: division by zero (own.py, line 2, in <module>)"),
        ("raise SystemExit(3)", "SystemExit: 3 (own.py, line 1, in <module>)"),
        ("import nowhere_at_all", "(own.py, line 1, in <module>)"),
        ("import perdure\nperdure.register('a b', int)", "ValueError: a name must be an identifier"),
    ],
)
def test_a_plugin_that_cannot_be_run_is_named_with_its_line(tmp_path, text, said):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(PluginError, match="^the plugin .*own.py cannot be run: ") as refused:
        plugins.load([str(path)])
    assert said in str(refused.value)


def test_a_text_file_is_no_plugin(tmp_path):
    (tmp_path / "own.txt").write_text("")
    with pytest.raises(PluginError, match=r"expected a plugin to be a Python file, as own.py, got .*own.txt"):
        plugins.load([str(tmp_path / "own.txt")])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            NotADirectoryError(20, "Not a directory", "/etc/passwd/x"),
            2,
            "error: Not a directory: /etc/passwd/x; a",
        ),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: Permission denied: /x; choose a place"),
        (MemoryError("Unable to allocate 10 TiB"), 2, "error: this needs more memory than there is"),
        (ValueError("expected 1, got 2"), 2, "error: expected 1, got 2"),
        (KeyboardInterrupt(), 130, "interrupted; the same line, typed again, "),
    ],
)
def test_an_error_ends_in_a_sentence_and_a_code(capsys, error, code, said):
    with pytest.raises(SystemExit) as left, boundary.bounded():
        raise error
    assert left.value.code == code
    assert capsys.readouterr().err.startswith(said)


def test_a_fault_of_perdure_leaves_all_that_a_report_needs_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["perdure", "compare", "--tracking-uri", "https://me:secret@host"])
    with pytest.raises(SystemExit) as left, boundary.bounded():
        json.loads("{")
    assert left.value.code == boundary.FAULT
    said, (file,) = capsys.readouterr().err, (tmp_path / "perdure" / "faults").iterdir()
    assert "fault: this is a mistake in Perdure" in said and str(file) in said.replace("\n", "")
    told = file.read_text()
    assert "JSONDecodeError" in told and "Traceback" in told and "perdure compare" in told and "Python 3" in told
    assert "secret" not in told and file.stat().st_mode & 0o077 == 0


def test_a_reader_that_stops_reading_is_no_fault():
    line = f"{sys.executable} -c 'from perdure.jobs.main import main; main()' list | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout and "fault" not in done.stderr and "Traceback" not in done.stderr

"""Every file that Perdure writes and reads again: shown as it was written, or refused by name."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.platform.api import compare, resume
from perdure.platform.execution.execute import execute
from perdure.platform.reports import outcome
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.identity import identified
from perdure.platform.runs.run import Run
from perdure.platform.runs.verify_home import verified
from perdure.platform.runs.workspace import Site
from perdure.strategies.training.plan import Plan

from .bounds import refused_or_read
from .malformed import data

RUN = Run("rehearsal(20)", "split(digits, 5)", "mlp(8)", plan=Plan(steps=2, batch_size=8))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The home of a finished run and of its command."""
    home = tmp_path_factory.mktemp("whole")
    made = compare.compare(
        ["rehearsal(20)"], "split(digits, 5)", 1, model="mlp(8)", steps=2, batch_size=8, home=str(home), here=True,
        tracking=False,
    )  # fmt: skip
    return home, made.outcomes[0]


def files(home: Path) -> list[Path]:
    return sorted(path.relative_to(home) for path in home.rglob("*") if path.is_file())


@settings(max_examples=settings().max_examples // 4)  # each learns again what was damaged
@given(draw=st.data())
def test_a_file_of_a_run_is_shown_as_it_was_or_refused(whole, tmp_path, draw):
    kept, known = whole
    home = tmp_path / "home"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(kept, home)
    path = home / draw.draw(st.sampled_from(files(kept)))
    before = path.read_bytes()
    path.write_bytes(draw.draw(data(before)))
    with refused_or_read():
        shown = outcome.outcome(known.run.id, str(home))
        assert shown.rows == known.rows[: len(shown.rows)]
        assert len(shown.rows) == len(known.rows) or shown.status != "finished"
    with refused_or_read():
        verified("", str(home))
    with refused_or_read():
        again = resume.resume(None, str(home), here=True, tracking=False)
        assert again.outcomes[0].rows == known.rows


@given(content=data(b'{"a": 1}\n'))
def test_a_note_of_a_fingerprint_is_used_or_ignored(tmp_path_factory, content):
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        table = cache / "own.csv"
        table.write_text("a,label\n" + "".join(f"{n},{n % 2}\n" for n in range(8)))
        site = Site(str(cache / "home"))
        run = Run(stream=f"split(table({str(table)!r}), 2)")
        asked = identified(run, Data(site))
        for note in (cache / "perdure").rglob("*"):
            if note.is_file():
                note.write_bytes(content)
        assert identified(run, Data(site)) == asked


def test_a_run_is_made(whole):
    """So that what is changed above is a run's."""
    kept, known = whole
    assert known.status == "finished" and any(path.name == "run.json" for path in files(kept))
    assert list(execute(known.run, Site(str(kept)), Data(Site(str(kept))).of(known.run)))

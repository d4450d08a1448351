"""What a command says where its output is no terminal, and what is read back from it."""

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from perdure.jobs import progress
from perdure.jobs.live_progress import Lines, Trials
from perdure.jobs.progress import Minutely, Pace, counted
from perdure.platform.runs.events import Failed, Finished, Kept, Reached, Started
from perdure.platform.runs.run import Run
from perdure.platform.runs.study import Command
from perdure.platform.search.results import Searched
from perdure.platform.search.search import Search, continual
from perdure.platform.search.trial_result import Tried


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(progress, "MINUTE", 0.02)


def row(experience: int) -> dict:
    return {"experience": experience, "accuracy": [0.5] * 5}


def until(said: StringIO, text: str) -> str:
    end = time.monotonic() + 20
    while not re.search(text, said.getvalue()):
        assert time.monotonic() < end, said.getvalue()
        time.sleep(0.01)
    return said.getvalue()


def test_a_line_tells_runs_done_of_how_many_those_under_way_and_the_time_left():
    command, said = Command.grid(["naive", "ewc"], range(4)), StringIO()
    first, second, *_ = command.runs
    with Lines(command, Console(file=said)) as shown:
        assert counted(until(said, "progress: 0 of 8 runs\n")) == "0 of 8 runs"
        shown(Started(first.id, 1, "here:1", False, 5))
        shown(Reached(first.id, row(0), 1.0))
        until(said, r"progress: 0 of 8 runs, about .+ left; naive seed 0: experience 2 of 5\n")
        shown(Kept(first.id, 0.3, "experience 2 of 5, step 1,200 of 2,400"))
        until(said, "naive seed 0: experience 2 of 5, step 1,200 of 2,400\n")
        shown(Finished(first.id, False))
        assert counted(said.getvalue()) == "1 of 8 runs"  # at once, and not only with the next line
        shown(Failed(second.id, "user", "no"))
        until(said, r"progress: 2 of 8 runs \(1 failed\), about")
        for run in command.runs[2:]:
            shown(Started(run.id, 1, "here:1", False, 5))
        until(said, "naive seed 2: .*; ewc seed 2: .*; and 2 more\n")
    ended = said.getvalue()
    time.sleep(0.1)
    assert said.getvalue() == ended  # nothing after the block


def test_what_was_done_before_says_nothing_of_how_long_the_rest_takes(monkeypatch):
    """One run known from before, one gone on with at its half: a tenth of a run in ten seconds, half a run and one
    whole to come, so 140 seconds; whatever the wall's clock does."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.time, "time", lambda: pytest.fail("a wall's clock may be set"))
    lines = Lines(Command.grid(["naive"], range(3)), Console(file=StringIO()))
    known, half, _ = (run.id for run in lines._runs.values())
    lines(Reached(known, row(4), None))
    lines(Finished(known, True))
    lines(Reached(half, row(1), 1.0))
    lines(Started(half, 2, "here:1", True, 5))
    lines(Kept(half, 0.5, "experience 3 of 5, step 5 of 10"))
    assert "left" not in lines._progress()
    now[0] += 10
    lines(Kept(half, 0.6, "experience 4 of 5"))
    assert lines._progress().startswith("1 of 3 runs, about 2 min left; naive seed 1: experience 4 of 5")


def test_an_estimate_grows_while_nothing_happens(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = Pace()
    now[0] = 600.0
    assert pace.left(1, 2) == ", about 20 min left" and pace.left(0, 2) == pace.left(2, 0) == ""
    now[0] = 36_000.0
    assert pace.left(1, 2) == ", about 20.0 h left"


def test_a_search_tells_trials_and_the_best():
    search = Search(continual(Run("ewc(uniform(1, 9))"), 0.1, None), "split(digits)", ("accuracy",), trials=3)
    tried = [Tried(n + 1, p, (f"{n}",), f"ewc({n})", 5, (v,), "finished") for n, p, v in
             zip(range(3), search.points(), (0.5, 0.9, 0.7), strict=True)]  # fmt: skip
    said = StringIO()
    with Trials(Console(file=said, width=200), "no trial has ended yet") as shown:
        until(said, "progress: no trial has ended yet")
        shown(tried[0], Searched(search, tried[:1]))
        shown(tried[1], Searched(search, tried[:2]))
        until(said, r"progress: 2 of 3 trials, best so far trial 2: ewc\(1\): accuracy % 90.0\n")
        shown(tried[2], Searched(search, tried))
        ended = said.getvalue()
        time.sleep(0.1)
        assert said.getvalue() == ended  # the best again are watched by themselves
    assert counted(f"{ended}progress: 1 of 3 runs\n[2/3] ewc seed 3: accuracy 1 %\n") == "3 of 3 trials, 2 of 3 runs"


def test_a_terminal_has_bars_alone(monkeypatch):
    screen = StringIO()
    console = Console(file=screen, force_terminal=True)
    with progress.minutely(lambda: pytest.fail("nobody asks"), console):
        time.sleep(0.1)
    assert screen.getvalue() == ""


def test_whoever_reads_no_more_is_told_no_more():
    asked = []

    def gone(text: str) -> None:
        asked.append(text)
        raise BrokenPipeError

    with Minutely(lambda: "1 of 2 runs", gone):
        time.sleep(0.2)
    assert asked == ["progress: 1 of 2 runs"]

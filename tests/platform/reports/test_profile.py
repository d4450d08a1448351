"""perdure run --profile, from the command to the table, the files and the chart."""

import json

import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.reports.profile import lines, trace
from perdure.platform.runs import workspace
from perdure.strategies.training.profiler import Span, Total

from ...browser import look

RUN = ["run", "rehearsal(20) + ewc(10)", "--on", "split(digits, 2)", "--epochs", "2", "--no-tracking"]


def made(home, *more):
    told = CliRunner().invoke(main.app, [*RUN, "--home", str(home), *more])
    assert told.exit_code == 0, told.output
    (folder,) = (home / "runs").iterdir()
    return told.stdout, folder


def test_a_profiled_run_tells_where_its_time_went_and_learns_what_it_would_have(tmp_path):
    told, folder = made(tmp_path / "profiled", "--profile")
    _, other = made(tmp_path / "plain")
    assert (folder / "journal.jsonl").read_bytes() == (other / "journal.jsonl").read_bytes()
    assert not (other / workspace.PROFILE).exists()
    known = json.loads((folder / workspace.PROFILE / "profile.json").read_text())
    phases = {line["phase"]: line for line in known["phases"]}
    assert {"data", "augment", "forward", "penalty", "backward", "steer", "optimizer"} <= set(phases)
    assert {"consolidate", "evaluate", "log"} <= set(phases)
    assert sum(line["share"] for line in known["phases"]) == pytest.approx(1)
    assert phases["forward"]["calls"] == known["steps"] > 0
    assert all(name in told for name in phases) and "flame.html" in told
    events = json.loads((folder / workspace.PROFILE / "trace.json").read_text())["traceEvents"]
    assert {"experience 1", "experience 2", "forward", "log"} <= {e["name"] for e in events}
    assert all(e["ph"] == "X" and e["dur"] >= 0 for e in events)
    program = json.loads(made(tmp_path / "profiled", "--profile", "--json")[0])
    assert program["runs"][0]["profile"]["steps"] == known["steps"]
    again, _ = made(tmp_path / "plain", "--profile")
    assert "--again" in again  # it was made before, without


def test_the_chart_shows_every_phase_and_asks_for_nothing(tmp_path):
    _, folder = made(tmp_path / "home", "--profile")
    page = folder / workspace.PROFILE / "flame.html"
    shown, asked = look(page.as_uri(), tmp_path)
    assert "experience 2" in shown and "A few steps, one by one" in shown
    assert all(f">{name}<" in shown for name in ("steer", "consolidate", "evaluate"))
    assert {url for url in asked if not url.startswith("file:")} == set()


def test_a_run_begun_anew_forgets_its_profile(tmp_path):
    _, folder = made(tmp_path, "--profile")
    made(tmp_path, "--again")
    assert not (folder / workspace.PROFILE).exists()


def test_lines_add_up_over_experiences():
    totals = {(0, "forward"): Total(3, 1.0), (1, "forward"): Total(1, 0.5), (1, "log"): Total(1, 0.5)}
    forward, log = lines(totals, 4)
    assert (forward.calls, forward.seconds, forward.share) == (4, 1.5, 0.75)
    assert forward.per_step == pytest.approx(375_000) and log.per_step is None


def test_a_trace_lays_phases_within_their_experience():
    events = trace([Span(-1, "evaluate", 0.0, 0.5), Span(0, "forward", 0.5, 2.0), Span(0, "log", 2.0, 3.0)])
    assert [(e["name"], e["ts"], e["dur"]) for e in events] == [
        ("before", 0.0, 0.5e6),
        ("experience 1", 0.5e6, 2.5e6),
        ("evaluate", 0.0, 0.5e6),
        ("forward", 0.5e6, 1.5e6),
        ("log", 2e6, 1e6),
    ]

"""The report as a reader meets it: in a real browser, with no network."""

import re
from dataclasses import replace

import pytest

from perdure.platform.reports.comparison import Comparison
from perdure.platform.reports.comparison_page import again, html
from perdure.platform.reports.outcome import Outcome
from perdure.platform.reports.page import carried, percent
from perdure.platform.runs.run import Run
from perdure.platform.runs.study import Command
from perdure.strategies.metrics import Interval
from perdure.strategies.training.plan import Plan

from ...browser import look

nan = float("nan")


def outcome(strategy: str, seed: int, final: float, **other) -> Outcome:
    rows = [
        {"experience": i, "loss": 0.1, "accuracy": [final] * i + [0.9], "baseline": [0.1], "state_bytes": 17_000}
        | {"extras": {"rank/1": 3 * i} if strategy == "gpm" else {}}
        for i in range(5)
    ]
    run = Run(strategy, seed=seed, plan=Plan(20, 32)).normal()
    return replace(Outcome(run, rows, 1.5), **other)


@pytest.fixture
def comparison():
    grid = [("naive", 0.0), ("rehearsal(200)", 0.8), ("rehearsal(200) + ewc(1)", 0.7)]
    outcomes = [outcome(s, seed, final + seed / 50) for s, final in grid for seed in range(3)]
    return Comparison(outcomes, "perdure compare naive '<b>&'")


def test_a_browser_shows_table_and_pictures_and_asks_for_nothing_else(comparison, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html(comparison))
    page, asked = look(path.as_uri(), tmp_path)
    assert asked == set()
    rows = re.findall(r"<tr.*?</tr>", page[page.index('id="league"') : page.index('id="curves"')], flags=re.S)
    words = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]
    assert words[1] == "rehearsal(200) 83.6 ± 4.0 8.0 ± 5.0 −8.0 ± 5.0 1.5 ± 0.0 17.0 kB 3"
    assert [w.split(" ")[0] for w in words[1:]] == ["rehearsal(200)", "rehearsal(200)", "naive"]
    assert page.count("<svg") == 4  # the curves, and a matrix for each strategy
    assert page.count("accuracy on all met so far (%)") == 1
    assert (tmp_path / "screenshot.png").stat().st_size > 50_000


def test_the_browser_would_have_told_of_a_request(tmp_path):
    (tmp_path / "asks.html").write_text('<img src="http://127.0.0.1:9/picture.png">')
    assert look((tmp_path / "asks.html").as_uri(), tmp_path)[1] == {"http://127.0.0.1:9/picture.png"}


def test_what_a_strategy_tells_of_itself_is_drawn_and_what_it_cannot_do_is_said(comparison):
    page = html(Comparison([*comparison.outcomes, outcome("gpm", 0, 0.1)]))
    assert page.count("<svg") == 6 and "What strategies tell of themselves" in page
    assert "<code>gpm</code> holds on to what was learned" in page
    assert "What strategies tell" not in html(comparison) and 'class="caution"' not in html(comparison)


def test_texts_are_escaped(comparison):
    page = html(
        replace(comparison, outcomes=[*comparison.outcomes, outcome("ewc", 0, 0.1, status="failed", problem="<i>")])
    )
    assert "naive &#39;&lt;b&gt;&amp;&#39;" in page and "<b>&" not in page
    assert "&lt;i&gt;" in page and "<i>\n" not in page


def test_a_report_without_a_finished_run_says_so(comparison):
    failed = [replace(o, status="failed", problem="the disk is full") for o in comparison.outcomes]
    page = html(Comparison(failed))
    assert "No run has finished yet" in page and page.count("the disk is full") == 9


def test_the_same_results_make_the_same_pictures(comparison):
    one, two = html(comparison), html(comparison)
    assert re.findall(r"<svg.*?</svg>", one, flags=re.S) == re.findall(r"<svg.*?</svg>", two, flags=re.S)


def test_every_row_has_the_line_that_makes_it_again(comparison):
    lines = again(comparison)
    assert lines["rehearsal(200) + ewc(1)"] == (
        "perdure compare 'rehearsal(200) + ewc(1)' --on 'split(digits)' --model 'mlp(64, 64)' --optimizer adam"
        " --epochs 20 --batch-size 32 --seeds 3"
    )


def test_numbers_as_they_are_shown():
    assert percent(Interval(0.8142, 0.0123)) == "81.4 ± 1.2"
    assert percent(Interval(-0.05, nan)) == "−5.0"
    assert percent(Interval(nan, nan)) == "–"
    assert [carried(Interval(n, 0.0)) for n in (0.0, 999.0, 17_600.0, 2.5e6)] == ["0 B", "999 B", "17.6 kB", "2.5 MB"]


def test_commands_are_grids_of_different_runs():
    command = Command.grid(["naive", "rehearsal(9)", "rehearsal(capacity=9)"], [0, 1])
    assert [(r.strategy, r.seed) for r in command.runs] == [
        ("naive", 0), ("rehearsal(9)", 0), ("naive", 1), ("rehearsal(9)", 1),
    ]  # fmt: skip
    assert command.id == Command.grid(["naive", "rehearsal(9)"], [0, 1]).id

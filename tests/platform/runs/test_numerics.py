"""A change that alters what runs come to raises NUMERICS: results recorded with it are compared."""

import json

import pytest

from perdure.platform.runs.numerics import NUMERICS

from .recorded import FILE, come_to, runs

RECORDED = json.loads(FILE.read_text())
REMEDY = (
    "what a run comes to has changed: if that is meant, raise NUMERICS in perdure/platform/runs/numerics.py and record "
    "anew with python -m tests.platform.runs.recorded; results of before and after must not meet in one table"
)


def test_everything_is_recorded_with_the_numerics_of_now():
    assert RECORDED["numerics"] == NUMERICS, REMEDY
    assert sorted(RECORDED["runs"]) == sorted(runs())


@pytest.mark.parametrize("name", runs())
def test_a_run_comes_to_what_was_recorded(name, tmp_path):
    """To rounding: processors differ in the last digits, and a few samples may fall on the other side."""
    known, now = RECORDED["runs"][name], come_to(runs()[name], str(tmp_path))
    assert len(now["row"]) == len(known["row"]) and len(now["weights"]) == len(known["weights"]), REMEDY
    assert now["weights"] == pytest.approx(known["weights"], rel=2e-3, abs=1e-4), REMEDY
    assert now["row"] == pytest.approx(known["row"], rel=0.01, abs=0.02), REMEDY

"""Any command, struck at any moment by any signal, says no more than a sentence, and comes to the same bits when it is
typed again.

A sample here; all of it, with searches on a cluster, where HYPOTHESIS_PROFILE is fuzz.
"""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from .kills import CODES, COMMANDS, SIGNALS

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
ALL = [f"{command}:{fifth}:{strike}" for command, fifth, strike in product(COMMANDS, range(5), SIGNALS)]
SAMPLE = ["run:3:SIGTERM", "meta:2:SIGKILL", "generate:2:SIGINT", "follow:1:SIGSTOP"]


def struck(folder: Path, cases: list[str]) -> list[dict]:
    words = [sys.executable, "-W", "ignore", "-m", "tests.jobs.kills", str(folder), *cases]
    root, seconds = Path(__file__).parents[2], 60 * len(cases) + 300
    told = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=seconds)
    assert told.returncode == 0, told.stderr + told.stdout
    return [json.loads(line) for line in told.stdout.splitlines()]


def assert_whole(told: dict) -> None:
    assert told["code"] in CODES[told["case"].rpartition(":")[2]] and told["traceback"] == "", told
    assert told["again"] == 0 and told["same"], told


def test_a_sample_of_all_commands_moments_and_signals(tmp_path):
    told = struck(tmp_path, SAMPLE)
    assert [one["case"] for one in told] == SAMPLE
    for one in told:
        assert_whole(one)


@pytest.mark.skipif(not FUZZ, reason="an hour: make fuzz")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_fifth_of_every_command_under_every_signal(tmp_path, command):
    for one in struck(tmp_path, [case for case in ALL if case.startswith(f"{command}:")]):
        assert_whole(one)

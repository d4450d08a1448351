"""A full disk: what has no room is named, what is known is shown, and everything is made once there is room again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# A disk of `$1` in a mount namespace of its own; the command, what it left with, and the same again with room.
SCRIPT = """
mount -t tmpfs -o size=$1 tmpfs "$2" && shift
home=$1; shift
"$@" --home "$home"; echo "code $?"
mount -o remount,size=40m "$home"
"$@" --home "$home"; echo "code $?"; ls "$home"/commands/*
"""
COMPARE = ["compare", "naive", "rehearsal(20)", "--seeds", "1", "--epochs", "2", "--here"]
GENERATE = ["generate", "cvae(3, hidden=(16,), steps=20)"]


def met(size: str, words: list[str], folder: Path) -> subprocess.CompletedProcess:
    apart = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
    perdure = [sys.executable, "-W", "ignore", "-m", "perdure", *words, "--no-tracking"]
    told = subprocess.run(
        [*apart, "sh", "-c", SCRIPT, "sh", size, str(folder), *perdure],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert "Traceback" not in told.stderr + told.stdout, told.stderr
    assert "enforce fail" not in told.stderr + told.stdout
    return told


def test_a_comparison_on_a_full_disk_names_what_has_no_room_and_is_made_later(tmp_path):
    told = met("64k", COMPARE, tmp_path)
    before, after = told.stdout.split("code 1\n")
    assert "no room left in" in before and "make room, and perdure resume goes on" in before
    assert "report.html is not written: no room left in" in before
    assert "failed" not in after and after.rstrip().splitlines()[-1] != "code 1"
    assert "report: " in after and "report.html" in after.split("code 0\n")[1]


@pytest.mark.parametrize(("size", "words"), [("4k", COMPARE), ("64k", GENERATE)])
def test_a_command_that_finds_no_room_says_so_in_a_sentence(tmp_path, size, words):
    told = met(size, words, tmp_path)
    assert "code 2" in told.stdout and "code 0" in told.stdout, told.stderr
    assert "error: no room left in" in told.stderr and "make room and type the command again" in told.stderr

"""One attempt at a run, and what can go wrong in it."""

import json
import os
import re
import subprocess
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perdure.platform.api import compare
from perdure.platform.execution.execute import execute
from perdure.platform.execution.executor import InProcess
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.events import Failed, Finished, Reached, Started
from perdure.platform.runs.identity import identified
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.record import begin
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.strategies.training.plan import Plan
from perdure.testing.equality import same
from perdure.testing.executors import RUN, results

from . import killed

SHORT = Run("rehearsal(20)", "split(digits, 2)", "mlp(16)", plan=Plan(batch_size=64))
LONG = replace(killed.RUN, plan=Plan(epochs=6, batch_size=32))


def made(run, site):
    return list(execute(run, site, Data(site).of(run)))


def test_an_older_attempt_that_wakes_up_is_shut_out(tmp_path):
    site = Site(str(tmp_path), every_steps=2)
    dataset = Data(site).of(RUN)
    sleeping = execute(RUN, site, dataset)
    next(e for e in sleeping if isinstance(e, Reached))
    assert made(RUN, site)[-1] == Finished(RUN.id, False)
    kept = results(site, RUN)
    end = deque(sleeping, maxlen=1)[0]
    assert isinstance(end, Failed) and end.kind == "taken" and "taken over by attempt 2" in end.message
    assert same(results(site, RUN), kept)


def test_checkpoints_change_no_number(tmp_path):
    often, never = Site(str(tmp_path / "often"), every_steps=1), Site(str(tmp_path / "never"), every_seconds=None)
    made(RUN, often), made(RUN, never)
    assert same(results(often, RUN), results(never, RUN))


def test_a_corrupt_newest_checkpoint_costs_only_time(tmp_path):
    whole, site = Site(str(tmp_path / "whole")), Site(str(tmp_path / "harmed"))
    made(RUN, whole)
    attempt = execute(RUN, site, Data(site).of(RUN))
    next(e for e in attempt if isinstance(e, Reached) and e.row["experience"] == 3)
    attempt.close()
    newest = max(site.folder(RUN).glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    events = made(RUN, site)
    assert next(e for e in events if isinstance(e, Started)).resumed
    assert same(results(site, RUN), results(whole, RUN))


def test_data_that_changed_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((80, 4), dtype=np.float32), np.repeat(np.arange(4), 20)
    np.savez(tmp_path / "own.npz", x=x, y=y)
    run = Run(stream=f"split(arrays('{tmp_path}/own.npz'), 2)", model="mlp(8)")
    site = Site(str(tmp_path / "home"))
    attempt = execute(run, site, Data(site).of(run))
    next(e for e in attempt if isinstance(e, Reached))
    attempt.close()
    np.savez(tmp_path / "own.npz", x=x + 1, y=y)
    end = made(run, site)[-1]
    assert isinstance(end, Failed) and end.kind == "user"
    assert "have changed since this run began" in end.message and "type its line again" in end.message
    another = identified(run, Data(site))
    assert another.id != run.id and made(another, site)[-1] == Finished(another.id, False)


def test_what_diverges_says_where_and_keeps_its_checkpoints(tmp_path):
    site = Site(str(tmp_path))
    run = replace(RUN, optimizer="sgd(1e30)", plan=Plan(epochs=3, batch_size=32))
    end = made(run, site)[-1]
    assert isinstance(end, Failed) and end.kind == "diverged"
    assert "experience 0, epoch 0, step" in end.message and "smaller learning rate" in end.message
    assert "Diverged" in (site.folder(run) / "error.txt").read_text()
    steps: list[None] = []
    again = list(execute(run, site, Data(site).of(run), lambda: steps.append(None)))
    assert again == [Failed(run.id, "diverged", end.message)] and steps == []  # as it would again


def test_what_diverged_later_tells_what_it_had_reached_and_is_asked_anew_on_request(tmp_path):
    words = {"model": "mlp(8)", "steps": 3, "batch_size": 16, "home": str(tmp_path), "here": True, "tracking": False}
    words |= {"optimizer": "sgd(1e30)", "seeds": 2}
    first, second = (compare.compare(["naive", "joint"], "split(digits, 2)", **words) for _ in range(2))
    told = [[(o.status, o.problem, o.rows) for o in made.outcomes] for made in (first, second)]
    assert told[0] == told[1] and {status for status, *_ in told[0]} == {"failed"}
    attempts = [len(list(Site(str(tmp_path)).folder(o.run).glob("attempt-*"))) for o in second.outcomes]
    assert attempts == [1, 1, 1, 1]
    compare.compare(["naive", "joint"], "split(digits, 2)", **words, again=True)
    notes = [Journal(Site(str(tmp_path)).folder(o.run)).notes() for o in second.outcomes]
    assert all(kept[-1]["kind"] == "diverged" for kept in notes)


def test_an_interrupt_is_nobodys_failure_and_is_gone_on_from(tmp_path):
    whole, site = Site(str(tmp_path / "whole")), Site(str(tmp_path / "parts"), every_steps=1)
    made(RUN, whole)
    steps = iter(range(9))

    def interrupted():
        if next(steps, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deque(execute(RUN, site, Data(site).of(RUN), interrupted), maxlen=0)
    assert made(RUN, site)[-1] == Finished(RUN.id, False)
    assert same(results(site, RUN), results(whole, RUN))


def test_threads_are_the_runs_own(tmp_path):
    site = Site(str(tmp_path))
    seen = []
    run = replace(RUN, threads=2)
    deque(execute(run, site, Data(site).of(run), lambda: seen.append(torch.get_num_threads())), maxlen=0)
    torch.set_num_threads(1)
    assert set(seen) == {2}
    deque(InProcess(site).map([replace(run, seed=1)]), maxlen=0)
    assert torch.get_num_threads() == 1
    assert run.id != RUN.id


def test_equal_meanings_are_one_run():
    spelled = Run("rehearsal(capacity=20,replay=None)+ewc(10.0)", stream="split(digits,5)", optimizer="adam(lr=1e-3)")
    plain = Run("rehearsal(20) + ewc(10)")
    assert spelled.id == plain.id
    others = [replace(plain, **change) for change in ({"seed": 1}, {"threads": 2}, {"plan": Plan(epochs=2)})]
    assert len({plain.id, *(o.id for o in others)}) == 4


def test_a_run_reads_back_from_what_it_wrote(tmp_path):
    known = begin(RUN, Site(str(tmp_path)))
    assert Run.of(known["run"]) == RUN.normal()
    assert begin(RUN, Site(str(tmp_path))) == known  # created stays


FULL = """
import sys
from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.workspace import Site
from perdure.testing.executors import RUN
site = Site(sys.argv[1])
for event in execute(RUN, site, Data(site).of(RUN)):
    print(event)
"""


def test_a_full_disk_ends_the_run_with_its_checkpoints_kept(tmp_path):
    """A tmpfs that holds the first experiences' checkpoints and not the later ones, in a mount namespace of its own."""
    whole, site = Site(str(tmp_path / "whole")), Site(str(tmp_path / "full"))
    made(RUN, whole)
    (tmp_path / "kept").mkdir()
    (tmp_path / "full").mkdir()
    script = 'mount -t tmpfs -o size=200k tmpfs "$2" && "$1" -W ignore -c "$0" "$2"; cp -r "$2"/. "$3"'
    words = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else []), "sh", "-c", script]
    words += [FULL, sys.executable, site.home, str(tmp_path / "kept")]
    root = Path(__file__).parents[3]
    told = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stderr
    last = told.stdout.splitlines()[-1]
    assert last.startswith(f"Failed(run='{RUN.id}', kind='disk'") and "make room" in last, told.stdout + told.stderr
    kept = Site(str(tmp_path / "kept"))
    assert Store(kept.folder(RUN)).load() is not None
    assert made(RUN, kept)[-1] == Finished(RUN.id, False)  # with room again
    assert same(results(kept, RUN), results(whole, RUN))


def test_notes_tell_who_ran_when(tmp_path):
    site = Site(str(tmp_path))
    made(RUN, site)
    notes = [json.loads(line) for line in (site.folder(RUN) / "attempts.jsonl").read_text().splitlines()]
    assert [n["event"] for n in notes] == ["start", *["milestone"] * 5, "end"]
    assert notes[0]["data"] == Data(site).of(RUN).sha256()


MORTAL = """
import os, sys
from collections import deque
from pathlib import Path
from perdure.platform.runs.record import begin
from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.workspace import Site
from tests.platform.execution.test_attempt import SHORT as RUN
home, changes, fatal = Path(sys.argv[1]), 0, None

def hook(event, arguments):
    global changes
    written = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (written or event in ("os.rename", "os.remove")) and str(arguments[0]).startswith(str(home)):
        if changes == fatal:
            os._exit(9)
        changes += 1

whole = Site(str(home / "whole"))
dataset = Data(whole).of(RUN)
deque(execute(RUN, whole, dataset), maxlen=0)  # and what is imported at the first run is there
sys.addaudithook(hook)
for place in range(1000):
    site = Site(str(home / str(place)))
    begin(RUN, site)
    child = os.fork()
    if child == 0:
        changes, fatal = 0, place
        deque(execute(RUN, site, dataset), maxlen=0)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(place)
"""


def test_killed_before_any_change_of_any_file_it_goes_on_and_leaves_nothing_behind(tmp_path):
    words = [sys.executable, "-W", "ignore", "-c", MORTAL, str(tmp_path)]
    told = subprocess.run(words, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    count = int(told.stdout)
    assert count > 10
    whole = Site(str(tmp_path / "whole"))
    for place in range(count):
        site = Site(str(tmp_path / str(place)))
        made(SHORT, site)
        assert same(results(site, SHORT), results(whole, SHORT))
        assert _names(site.folder(SHORT)) == _names(whole.folder(SHORT)), place


def _names(folder):
    """Without the attempts and their numbers."""
    return {re.sub(r"-\d{4}\.pt$", ".pt", p.name) for p in folder.iterdir() if not p.name.startswith("attempt-")}


TWIN = """
import random, sys, time
from collections import deque
from perdure.platform.execution.execute import execute
from perdure.platform.runs.record import finished
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.workspace import Site
from tests.platform.execution.test_attempt import LONG as RUN
site, chance, taken = Site(sys.argv[1], every_steps=1), random.Random(int(sys.argv[2])), 0
dataset = Data(site).of(RUN)
print("ready", flush=True)
sys.stdin.readline()
while not finished(RUN, site):
    end = deque(execute(RUN, site, dataset), maxlen=1)[0]
    if type(end).__name__ == "Failed":
        assert end.kind == "taken", end
        taken += 1
        time.sleep(chance.expovariate(3))
print(taken)
"""


def test_twins_alive_at_once_come_to_one_end(tmp_path):
    """Two processes want one run, and take it from each other again and again while both write all the time."""
    whole, site = Site(str(tmp_path / "whole")), Site(str(tmp_path / "twins"))
    deque(execute(LONG, whole, Data(whole).of(LONG)), maxlen=0)
    root, pipes = Path(__file__).parents[3], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    twins = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", TWIN, site.home, str(n)], cwd=root, **pipes)
        for n in range(2)
    ]
    for twin in twins:
        assert twin.stdout and twin.stdout.readline() == "ready\n"
    told = []
    for twin in twins:
        assert twin.stdin
        twin.stdin.write("go\n")
        twin.stdin.flush()
    for twin in twins:
        told.append(twin.communicate(timeout=120)[0])
        assert twin.returncode == 0
    assert sum(map(int, told)) >= 2  # each was shut out while it was at work
    assert same(results(site, LONG), results(whole, LONG))
    rows = Journal(site.folder(LONG)).rows()
    assert [row["experience"] for row in rows] == [0, 1, 2, 3, 4]
    assert not list(site.folder(LONG).glob(".*"))

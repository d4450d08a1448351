"""A stream that goes on: what is learned of it, whatever happens meanwhile, is what one call of the loop learns."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import perdure
from perdure.platform.live import pipeline, queries
from perdure.platform.live import state as kept
from perdure.platform.live.pipeline import Apart
from perdure.platform.live.settings import Following
from perdure.platform.runs.run import fresh
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.platform.storage.lock import Busy, held
from perdure.strategies import names
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Milestone, Plan
from perdure.streams.experience import Stream
from perdure.streams.live.folder import Folder
from perdure.streams.live.source import Arrival, Generated
from perdure.testing.equality import same

from .followed import ARRIVALS, HOW, STRATEGY, fill, made

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(1)
X, Y = RNG.random((40, 5), dtype=np.float32), np.arange(40) % 2


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(queries, "LOOKS", 0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of arrivals, and the state of whoever learned them undisturbed."""
    folder = tmp_path_factory.mktemp("follow")
    fill(folder / "inbox")
    made(str(folder / "inbox"), str(folder / "state"))
    return folder / "inbox", folder / "state"


def outcome(state) -> tuple[bytes, dict]:
    """What it came to: its journal's bytes, and its newest checkpoint."""
    checkpoint = Store(Path(state) / "learned").load()
    assert checkpoint is not None
    return max(Path(state).glob("journal-*.jsonl")).read_bytes(), checkpoint


def follow(given, state, **how):
    """Of (x, y), with few steps."""
    common = {"classes": 4, "steps": 5, "here": True, "tracking": False, "model": "mlp(8)"}
    return perdure.follow(given, state=str(state), **(common | how))


def test_it_learns_what_one_call_of_the_loop_learns(whole):
    inbox, state = whole
    plan = Plan(epochs=HOW["epochs"], batch_size=32)
    following = Following(STRATEGY, HOW["classes"], model=HOW["model"], plan=plan).normal()
    taken = []
    for n in range(ARRIVALS):
        with np.load(inbox / f"{n}.npz") as file:
            item = Arrival(str(n), str(n), file["x"], file["y"])
        taken.append(kept.divided(item, n, following, taken[-1] if taken else None))
    classes = torch.zeros(ARRIVALS, 6, dtype=torch.bool)
    for n, one in enumerate(taken):
        classes[n, one["places"]] = True
    stream = Stream([kept.experience(one, n) for n, one in enumerate(taken)], classes, "class")
    learner = fresh(following, stream.shape, 6)
    stones = list(learn(stream, learner, names.strategy(following.strategy), plan))
    assert all(isinstance(s, Milestone) for s in stones)
    journal, checkpoint = outcome(state)
    vouched = {k: checkpoint.pop(k) for k in ("rows", "journal")}
    assert same(stones[-1].checkpoint, checkpoint) and vouched["rows"] == len(stones)
    rows = [json.loads(line) for line in journal.splitlines()]
    assert [row["accuracy"] for row in rows] == [list(s.accuracy) for s in stones]


def test_accuracy_by_class_is_accuracy_by_arrival_counted_otherwise(whole):
    _, state = whole
    for row in kept.Kept(state).journal.rows():
        sizes = [len(kept.Kept(state).taken(j)["held_y"]) for j in range(row["experience"] + 1)]
        right = sum(a * n for a, n in zip(row["accuracy"], sizes, strict=True))
        assert sum(count for count, _ in row["classes"].values()) == sum(sizes)
        assert sum(hits for _, hits in row["classes"].values()) == pytest.approx(right)


def test_of_every_class_a_share_is_held_out_for_ever(whole):
    inbox, state = whole
    for n in range(ARRIVALS):
        taken = kept.Kept(state).taken(n)
        with np.load(inbox / f"{n}.npz") as file:
            counts, held_ = np.bincount(file["y"], minlength=6), torch.bincount(taken["held_y"], minlength=6)
            assert held_.tolist() == [round(0.2 * c) for c in counts]
            rows = {tuple(row) for row in file["x"].tolist()}
        assert {tuple(row) for row in taken["held_x"].tolist()} <= rows
    last = kept.Kept(state).taken(ARRIVALS - 1)
    assert not {tuple(r) for r in last["x"].tolist()} & {tuple(r) for r in last["held_x"].tolist()}
    assert "x" not in kept.Kept(state).taken(0)


def test_stopped_and_gone_on_with_it_ends_with_the_same_bits(whole, tmp_path):
    inbox, state = whole
    for count in (1, 2, ARRIVALS):
        assert len(made(str(inbox), str(tmp_path / "state"), arrivals=count).rows) == count
    assert same(outcome(tmp_path / "state"), outcome(state))
    again = made(str(inbox), str(tmp_path / "state"))
    assert len(again.rows) == ARRIVALS and same(outcome(tmp_path / "state"), outcome(state))


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_it_ends_with_the_same_bits(whole, tmp_path, seed):
    inbox, state = whole
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.platform.live.followed",
        str(inbox),
        str(tmp_path / "s"),
        str(seed),
    ]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) >= 3  # kills that struck it at work
    assert same(outcome(tmp_path / "s"), outcome(state))


def test_a_corrupt_checkpoint_is_learned_anew(whole, tmp_path):
    inbox, state = whole
    made(str(inbox), str(tmp_path / "s"), arrivals=3)
    newest = max((tmp_path / "s" / "learned").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-7])
    made(str(inbox), str(tmp_path / "s"))
    assert same(outcome(tmp_path / "s"), outcome(state))


def test_what_does_not_go_with_the_rest_is_set_aside_and_the_stream_goes_on(tmp_path):
    heard = []

    def readings():
        yield "a", X, Y
        yield "label", X, Y + 3
        yield "shape", X[:, :3], Y
        yield "kind", (255 * X).astype(np.uint8), Y
        yield "text", X, np.where(Y, "up", "down")
        yield "empty", X[:0], Y[:0]
        yield "one", X[:2], Y[:2]
        yield "b", X, Y + 2

    done = follow(readings, tmp_path, hear=lambda what, of: heard.append((what, of)))
    assert [row["id"] for row in done.rows] == ["a", "b"] and list(done.accuracy) == ["0", "1", "2", "3"]
    whys = {
        "label": "has label 4, and there is room for 4 classes, numbered 0 to 3; .* begin anew .* larger --classes",
        "shape": r"expected samples of shape \(5,\) and type float32, as before, got \(3,\) and float32",
        "kind": "got .* uint8",
        "text": "labels of text are texts, and those before were numbers",
        "empty": "is empty",
        "one": "no class with two samples",
    }
    assert [aside["id"] for aside in done.asides] == list(whys)
    for aside in done.asides:
        assert re.search(whys[aside["id"]], aside["reason"]), aside
    assert [what for what, _ in heard].count("aside") == 6
    heard.clear()
    assert follow(readings, tmp_path, hear=lambda what, of: heard.append((what, of))).asides == done.asides
    assert [what for what, _ in heard] == ["said"]  # nothing is told twice


def test_classes_may_be_named_beforehand(tmp_path):
    wild = [
        ("a", X, np.where(Y, "dog", "cat")),
        ("b", X, np.where(Y, "dog", "cow")),
        ("c", X, np.where(Y, "fox", "dog")),
    ]
    done = follow(lambda: iter(wild), tmp_path, classes="fox,dog,cat")
    assert [row["places"] for row in done.rows] == [[1, 2], [0, 1]]
    assert "label 'cow', which is not among --classes fox,dog,cat" in done.asides[0]["reason"]


def test_an_arrival_that_makes_the_loss_blow_up_leaves_no_trace(tmp_path):
    good, bad, then = ("a", X, Y), ("b", X * np.float32(1e30), Y), ("c", X, Y + 1)
    how = {"optimizer": "sgd(0.1)", "save_every": 0.0}
    told = follow(lambda: iter([good, bad, then]), tmp_path / "with", **how)
    follow(lambda: iter([good, then]), tmp_path / "without", **how)
    assert [aside["id"] for aside in told.asides] == ["b"] and "smaller learning rate" in told.asides[0]["reason"]
    assert same(outcome(tmp_path / "with"), outcome(tmp_path / "without"))


def test_a_state_is_of_one_way_to_learn(tmp_path):
    follow(lambda: iter([("a", X, Y)]), tmp_path, arrivals=1)
    with pytest.raises(ValueError, match=r"strategy was rehearsal\(500\) and is naive; seed was 0 and is 3. Ask for"):
        follow(lambda: iter([]), tmp_path, strategy="naive", seed=3)


def test_before_anything_is_learned_it_may_be_learned_otherwise(tmp_path):
    with pytest.raises(ValueError, match="convnet needs images"):
        follow(lambda: iter([("a", X, Y)]), tmp_path, model="convnet")
    assert len(follow(lambda: iter([("a", X, Y)]), tmp_path).rows) == 1


def test_a_state_is_of_one_process(tmp_path):
    with held(tmp_path), pytest.raises(Busy, match=f"process {os.getpid()} is at work on this already"):
        follow(lambda: iter([]), tmp_path)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"strategy": "joint"}, "joint learns from data that are not there"),
        ({"strategy": "rehearsal(9) + cumulative"}, "cumulative learns from data that are not there"),
        ({"strategy": "avalanche('Naive')"}, "a loop of its own"),
        ({"hold_out": 1.0}, "hold_out must be above 0 and below 1"),
        ({"classes": 1}, "room for 2 classes at least"),
        ({"classes": "cat,cat"}, "each once"),
        ({"register": "kinds"}, "registered in MLflow: ask for tracking"),
        ({"strategy": "rehersal(3)"}, "did you mean 'rehearsal'"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, how, why):
    with pytest.raises(ValueError, match=why):
        follow(lambda: iter([]), tmp_path, **how)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*inbox to follow"):
        follow(str(tmp_path / "inbox"), tmp_path / "s")
    (tmp_path / "inbox").mkdir()
    with pytest.raises(ValueError, match="lies in the folder that is followed"):
        follow(str(tmp_path / "inbox"), tmp_path / "inbox" / "s")


SLOW = """
import numpy as np, perdure
x, y = np.random.default_rng(1).random((40, 5), dtype=np.float32), np.arange(40) % 2
def slow():
    yield "a", x, y
    yield "b", x, y + 1
    while True:
        yield None
perdure.register("slow", slow)
"""


def test_an_interrupt_keeps_what_was_reached_and_says_how_to_go_on(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    how = ["--classes", "3", "--steps", "700", "--here", "--no-tracking", "--plugin", "slow.py", "--state", "s"]
    words = [sys.executable, "-m", "perdure.jobs", "follow", "slow", *how]
    words[1:3] = ["-c", "from perdure.jobs.main import main; main()"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, text=True, stdout=-1, stderr=-1)
    arrivals = tmp_path / "s" / "arrivals" / "00001.pt"
    end = time.monotonic() + 120
    while not arrivals.exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, wrong = process.communicate(timeout=60)
    assert process.returncode == 130, wrong
    assert "stopped; go on with: perdure" in told and "Traceback" not in wrong
    assert len(list((tmp_path / "s" / "within").glob("*.pt"))) == 1  # in the midst of the second
    done = subprocess.run(
        [*words, "--idle", "0", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and len(json.loads(done.stdout)["arrivals"]) == 2, done.stderr
    follow(
        "slow", tmp_path / "t", classes=3, steps=700, model="mlp(64, 64)", idle=0, plugins=(str(tmp_path / "slow.py"),)
    )
    assert same(outcome(tmp_path / "s"), outcome(tmp_path / "t"))


@pytest.mark.usefixtures("cluster")
def test_two_actors_learn_the_same_bits_though_both_are_killed(whole, tmp_path):
    inbox, state = whole
    plan = Plan(epochs=HOW["epochs"], batch_size=32)
    following = Following(STRATEGY, HOW["classes"], model=HOW["model"], plan=plan).normal()
    site = Site(str(tmp_path / "s"), every_steps=11)
    kept.Kept(tmp_path / "s").begin(following)
    with closing(Apart(Folder(str(inbox), settle=0.0), following, site, False, 0.0)) as pair:
        for n, item in enumerate(pair.items()):
            if n == 1:
                import ray

                ray.kill(pair._reader)
            if n == 2:
                kill_soon(pair, tmp_path / "s")
            pair.take(item)
    assert len((tmp_path / "s" / "attempts.jsonl").read_text().split('"start"')) == 3
    assert same(outcome(tmp_path / "s"), outcome(state))


def kill_soon(pair, state):
    """Kill the learner actor once it is at work on the third arrival."""
    import threading

    pid = int(json.loads((state / "attempts.jsonl").read_text().splitlines()[0])["where"].rpartition(":")[2])

    def kill():
        while not list((state / "within").glob("checkpoint-00002*")):
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill).start()


@pytest.mark.usefixtures("cluster")
def test_a_source_is_read_no_further_ahead_than_is_asked_for(tmp_path):
    def readings():
        for n in range(9):
            (tmp_path / f"read-{n}").touch()
            yield str(n), X, Y

    following = Following("naive", 2, model="mlp(8)", plan=Plan(steps=1)).normal()
    kept.Kept(tmp_path / "s").begin(following)
    site, most = Site(str(tmp_path / "s")), 0
    with closing(Apart(Generated(readings), following, site, False, None, ahead=2)) as pair:
        for taken, item in enumerate(pair.items()):
            time.sleep(0.3)  # for the reader to go as far as it will
            read = len(list(tmp_path.glob("read-*")))
            assert read <= taken + 1 + 2  # what is taken next, and two ahead
            most = max(most, read - taken - 1)
            pair.take(item)
            if taken == 3:
                break
    assert most == 2


DEADLY = """
import os
from dataclasses import dataclass

import perdure
from perdure.strategies.base import Strategy


@dataclass(frozen=True)
class Dying(Strategy):
    at: float = 2.0

    def augment(self, learner, batch, state):
        if bool((batch.x > self.at).any()):
            os.kill(os.getpid(), 9)
        return batch


perdure.register("dying", Dying)
"""


@pytest.mark.usefixtures("cluster")
def test_an_arrival_that_its_learners_die_of_is_set_aside_and_two_in_a_row_are_no_matter_of_arrivals(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(pipeline, "LOSSES", 1)  # an actor takes seconds to start
    (tmp_path / "dying.py").write_text(DEADLY)

    def arrivals(*odd):
        for n in range(5):
            yield str(n), X + n / 100 + (10 if n in odd else 0), Y

    def learned(state, *odd):
        how = {"classes": 4, "steps": 5, "tracking": False, "model": "mlp(8)", "plugins": (str(tmp_path / "dying.py"),)}
        strategy = "dying + rehearsal(20)"
        return perdure.follow(Generated(lambda: arrivals(*odd)), strategy, state=str(tmp_path / state), **how)

    done = learned("one", 2)
    assert [row["id"] for row in done.rows] == ["0", "1", "3", "4"]
    (aside,) = done.asides
    assert aside["id"] == "2" and "its learner died 2 times in a row (" in aside["reason"]
    with pytest.raises(RuntimeError, match=r"the learner actor died 2 times in a row"):
        learned("two", 2, 3)
    with pytest.raises(RuntimeError, match=r"the learner actor died 2 times in a row"):
        learned("first", 0)

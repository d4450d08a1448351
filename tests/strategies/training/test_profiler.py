"""Where the time of a run goes: every moment in one phase, and no number changed."""

import time

import pytest
import torch

from perdure.strategies.names import strategy
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan
from perdure.strategies.training.profiler import KEPT, PHASES, STEP, Clock
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ..learners import learner

PLAN = Plan(epochs=2, batch_size=30)
CPU = torch.device("cpu")


def clocked(stream, text, plan=PLAN):
    one, clock = learner(stream), Clock(CPU)
    one.phase = clock
    start = time.perf_counter()
    stones = list(learn(stream, one, strategy(text), plan))
    clock.stop()
    return stones, clock, time.perf_counter() - start


def test_a_clock_changes_no_number():
    stream, text = blobs(tasks=2), "rehearsal(20) + ewc(10)"
    plain = list(learn(stream, learner(stream), strategy(text), PLAN))
    told, *_ = clocked(stream, text)
    assert same([s.checkpoint for s in told], [s.checkpoint for s in plain])


def test_every_moment_is_in_one_phase():
    _, clock, seconds = clocked(blobs(tasks=3), "rehearsal(20) + ewc(10)")
    total = sum(t.seconds for t in clock.totals.values())
    assert 0.8 * seconds < total <= seconds  # what is missing is before the first phase
    assert {phase for _, phase in clock.totals} <= set(PHASES)
    assert clock.steps == 3 * 2 * 4
    for experience in range(3):
        of = {phase: t for (e, phase), t in clock.totals.items() if e == experience}
        assert all(of[p].calls == 8 for p in ("augment", "forward", "penalty", "backward", "steer", "optimizer"))
        assert of["consolidate"].calls == of["evaluate"].calls == 1 and "replay" not in of


def test_a_phase_takes_the_time_that_is_spent_in_it(monkeypatch):
    ewc = strategy("ewc(10)")
    monkeypatch.setattr(type(ewc), "penalty", lambda *given: time.sleep(0.01) or 0.0)
    one, clock = learner(blobs(tasks=1)), Clock(CPU)
    one.phase = clock
    list(learn(blobs(tasks=1), one, ewc, PLAN))
    clock.stop()
    assert clock.totals[0, "penalty"].seconds >= 0.08
    assert clock.totals[0, "penalty"].seconds > clock.totals[0, "steer"].seconds


def test_only_the_first_steps_are_kept_one_by_one():
    _, clock, _ = clocked(blobs(tasks=2), "naive", Plan(steps=KEPT + 20, batch_size=30))
    for experience in range(2):
        kept = [s for s in clock.spans if s.experience == experience and s.phase == "optimizer"]
        assert len(kept) == KEPT and clock.totals[experience, "optimizer"].calls == KEPT + 20
    assert all(a.start <= a.end <= b.start + 1e-9 for a, b in zip(clock.spans, clock.spans[1:], strict=False))


@pytest.mark.parametrize("phase", STEP)
def test_phases_of_a_step_are_explained(phase):
    assert PHASES[phase]


class Event:
    """A device's event: it knows when it was recorded, and tells it only once the device has been waited for."""

    now, waited = 0.0, False

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at, Event.now = Event.now, Event.now + 5.0

    def elapsed_time(self, end):
        assert Event.waited
        return end.at - self.at


def test_on_a_gpu_the_device_is_waited_for_once_an_experience(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "Event", Event)

    def wait(device):
        waits.append(device)
        Event.waited = True

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    clock = Clock(torch.device("cuda"))
    for _ in range(2):
        for phase in (*["data", "forward", "optimizer"] * 10, "consolidate"):
            clock(phase)
    clock.stop()
    assert len(waits) == 3  # the end of two experiences, and of the run
    assert clock.totals[0, "forward"] == (10, pytest.approx(0.05)) and clock.steps == 20

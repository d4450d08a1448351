"""What a strategy of one's own does wrong is a failure of its run alone: the others end with their bits."""

import json
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import perdure
from perdure.platform.fleet import fleet
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.runs.events import Lost
from perdure.testing.executors import RUN

HOOKS = {
    "init": "learner",
    "augment": "learner, batch, state",
    "penalty": "learner, batch, outputs, state",
    "steer": "learner, grads, state",
    "consolidate": "learner, experience, state",
    "answer": "learner, batch, outputs, state",
    "describe": "learner, state",
    "carried": "state",
    "curriculum": "stream",
}
HOW = {"on": "split(digits, 2)", "seeds": [0], "epochs": 1, "model": "mlp(8)", "tracking": False}


def plugin(path, **bodies):
    """A file of strategies, one for each name and (hook, body)."""
    parts = ["from dataclasses import dataclass\nimport sys, perdure\nfrom perdure.strategies.base import Strategy\n"]
    for name, (hook, body) in bodies.items():
        made = f"""
            @dataclass(frozen=True)
            class {name.title()}(Strategy):
                def {hook}(self, {HOOKS[hook]}):
                    {body}
            perdure.register("{name}", {name.title()})
        """
        parts.append(textwrap.dedent(made))
    path.write_text("\n".join(parts))
    return str(path)


def outcome_of(comparison, strategy):
    (outcome,) = [o for o in comparison.outcomes if o.run.strategy == strategy]
    return outcome


def line_of(path, text):
    return next(n for n, line in enumerate(Path(path).read_text().splitlines(), 1) if text in line)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    home = tmp_path_factory.mktemp("alone")
    return perdure.compare(["naive"], home=str(home), here=True, **HOW).outcomes[0]


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.usefixtures("cluster")
def test_beside_one_that_raises_in_each_hook_a_good_one_ends_with_its_bits(alone, tmp_path, here):
    faults = {f"bad_{hook}": (hook, f"raise KeyError('in {hook}')") for hook in HOOKS}
    path = plugin(tmp_path / "own.py", **faults)
    done = perdure.compare([*faults, "naive"], home=str(tmp_path / "home"), here=here, plugins=(path,), **HOW)
    good = outcome_of(done, "naive")
    assert good.status == "finished" and good.rows == alone.rows
    for name, (hook, body) in faults.items():
        bad = outcome_of(done, name)
        where = f"own.py, line {line_of(path, body)}, in {hook}"
        assert bad.status == "failed" and bad.problem.startswith(f"KeyError: 'in {hook}' ({where})"), name


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.usefixtures("cluster")
def test_exit_in_a_hook_is_a_failure_of_that_run(alone, tmp_path, here):
    leaves = {f"exit_{n}": pair for n, pair in enumerate([("init", "exit(3)"), ("steer", "sys.exit('enough')")])}
    path = plugin(tmp_path / "own.py", **leaves)
    how = HOW | {"seeds": [0, 1]}
    done = perdure.compare([*leaves, "naive"], home=str(tmp_path / "home"), here=here, plugins=(path,), **how)
    told = {o.run.strategy: o.problem for o in done.outcomes}
    assert re.match(r"SystemExit: 3 \(own.py, line \d+, in init\)", told["exit_0"])
    assert re.match(r"SystemExit: enough \(own.py, line \d+, in steer\)", told["exit_1"])
    assert [o.rows for o in done.outcomes if o.run == alone.run] == [alone.rows]


def test_a_wrong_return_names_strategy_and_hook_and_what_came(tmp_path):
    path = plugin(
        tmp_path / "own.py",
        wide=("answer", "return outputs[:1]"),
        idle=("steer", "return {}"),
        held=("consolidate", "return {'mine': {'function': lambda: 0}}"),
        file=("init", "return {'log': sys.stderr}"),
    )
    names = ["wide", "idle", "held", "file"]
    done = perdure.compare([*names, "naive"], home=str(tmp_path / "home"), here=True, plugins=(path,), **HOW)
    told = {o.run.strategy: o.problem for o in done.outcomes}
    assert re.search(r"^Wide.answer must return outputs \(B, C\) as \(\d+, 10\).*got \(1, 10\)", told["wide"])
    assert told["idle"].startswith("Idle.steer must return a gradient for every weight")
    assert "Held.consolidate" in told["held"] and "state['mine']['function'] is a function" in told["held"]
    assert "File.init" in told["file"] and "state['log'] is a " in told["file"]
    assert not told["naive"]


def test_what_is_refused_by_ours_still_is_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="gpm"):
        perdure.compare(["gpm", "naive"], home=str(tmp_path), here=True, optimizer="adam", **HOW)
    assert not list(tmp_path.glob("*/run.json"))


def test_the_line_says_it_and_its_code_is_not_0(tmp_path, capsys):
    from perdure.jobs.main import app

    path = plugin(tmp_path / "own.py", bad=("init", "raise RuntimeError('no such sensor')"))
    words = [
        "compare",
        "bad",
        "naive",
        "--on",
        "split(digits, 2)",
        "--epochs",
        "1",
        "--here",
        "--no-tracking",
        "--json",
    ]
    with pytest.raises(SystemExit) as left:
        app([*words, "--no-tracking", "--plugin", path, "--home", str(tmp_path / "home")])
    told = capsys.readouterr()
    assert left.value.code == 1 and "no such sensor (own.py, line " in told.out + told.err
    assert json.loads(told.out)


@pytest.mark.usefixtures("cluster")
def test_one_that_takes_its_process_with_it_as_a_leak_does_loses_its_actors_and_no_other_run(alone, tmp_path):
    path = plugin(tmp_path / "own.py", leak=("steer", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    done = perdure.compare(["leak", "naive"], home=str(tmp_path / "home"), plugins=(path,), **HOW)
    bad = outcome_of(done, "leak")
    assert bad.status == "failed" and re.search("lost its actor 4 times at one place, the last time: .", bad.problem)
    assert outcome_of(done, "naive").rows == alone.rows


def test_an_actor_that_ray_ends_for_want_of_memory_is_lost_with_that_reason(monkeypatch):
    from ray.exceptions import OutOfMemoryError

    def ended(ref):
        raise OutOfMemoryError("Task was killed due to the node running low on memory.\nRefer to the documentation")

    monkeypatch.setattr(fleet, "got", ended)
    slot: Any = SimpleNamespace(runs=[RUN], events=iter([None]), heard=0.0)
    assert Fleet._next(None, slot) == Lost(RUN.id, "Ray ended its actor, for its machine ran out of memory")  # type: ignore[arg-type]

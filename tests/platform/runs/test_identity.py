"""Identity is content: equal texts over other data, code or numerics are another run, and no number is of the old."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import perdure
from perdure.platform.api import resume
from perdure.platform.evaluation.adaptation import adapt
from perdure.platform.evaluation.generation import Generation, generate
from perdure.platform.evaluation.robustness import assault
from perdure.platform.reports import outcome
from perdure.platform.runs import plugins
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.identity import Changed, identified, with_content
from perdure.platform.runs.meta_run import MetaRun
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.search.search import Search, continual
from perdure.streams.datasets.arrays import Arrays
from perdure.streams.datasets.fingerprints import fingerprint
from perdure.streams.storage.directories import Places

HOW = {"here": True, "tracking": False, "model": "mlp(16)", "steps": 60, "optimizer": "adam(0.01)", "batch_size": 16}


def written(path: Path, shuffled: bool = False) -> Path:
    """Four classes that are easily told apart; or with labels that say nothing."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 30)
    x = rng.normal(size=(120, 6)).astype(np.float32) + 4 * np.eye(6, dtype=np.float32)[y]
    np.savez(path, x=x, y=rng.permutation(y) if shuffled else y)
    return path


def compared(home: Path, on: str, seeds=1, strategies=("joint",), **more):
    return perdure.compare(list(strategies), on, seeds, home=str(home), **{**HOW, **more})


def accuracies(result) -> list[float]:
    return list(result.frame()["accuracy"])


def test_data_that_changed_under_the_same_name_make_new_runs(tmp_path):
    data, home = written(tmp_path / "data.npz"), tmp_path / "home"
    on = f"split(arrays('{data}'), 2)"
    good = compared(home, on, 2)
    assert min(accuracies(good)) > 0.9
    written(data, shuffled=True)
    with pytest.warns(UserWarning, match=rf"{data} has changed since 2 runs were made from it: these are new"):
        bad = compared(home, on, 4)
    assert max(accuracies(bad)) < 0.6 and len(bad.outcomes) == 4  # no row of the good file among them
    assert not {o.run.id for o in good.outcomes} & {o.run.id for o in bad.outcomes}
    written(data)
    again = compared(home, on, 2)
    assert accuracies(again) == accuracies(good)
    assert [o.run.id for o in again.outcomes] == [o.run.id for o in good.outcomes]  # the first content, known again


def test_what_takes_a_finished_run_refuses_other_data(tmp_path):
    data, home = written(tmp_path / "data.npz"), tmp_path / "home"
    run = compared(home, f"split(arrays('{data}'), 2)").outcomes[0].run
    written(data, shuffled=True)
    both = r"as it was on \d{4}-.* \(sha256 \w{12}\), and now it is another \(sha256 \w{12}, changed on \d{4}-"
    with pytest.raises(Changed, match=both):
        assault(run.id, ["fgsm"], home=str(home), samples=10)
    for look in (
        lambda: outcome.outcome(run.id, str(home)),
        lambda: resume.resume(run.id, str(home), tracking=False, here=True),
    ):
        with pytest.warns(UserWarning, match=both + r".*What is shown is of the time before"):
            look()
    with pytest.warns(UserWarning, match=both):
        resume.resume(None, str(home), tracking=False, here=True)
    begun = compared(home, f"split(arrays('{data}'), 2)", start=run.id).outcomes[0].run
    assert begun.start == run.id and begun.data != run.data  # weights are content too, and it learns what is there now


def test_an_unfinished_run_does_not_go_on_with_other_data(tmp_path):
    data, home = written(tmp_path / "data.npz"), tmp_path / "home"
    on = f"split(arrays('{data}'), 2)"
    asked = identified(Run("naive", on), Data(Site(str(home))))
    site = Site(str(home))
    from perdure.platform.runs.study import Command

    Command((asked,), "typed").keep(site.home)
    written(data, shuffled=True)
    with pytest.raises(Changed, match="now it is another"):
        resume.resume(None, str(home), tracking=False, here=True)


def test_equal_relative_paths_in_two_folders_are_two_data_sets(tmp_path, monkeypatch):
    home, found = tmp_path / "home", {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "data.npz", shuffled=name == "b")
        monkeypatch.chdir(tmp_path / name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found[name] = compared(home, "split(arrays('data.npz'), 2)").outcomes[0]
    assert found["a"].run.id != found["b"].run.id
    assert found["a"].metrics()["accuracy"] > 0.9 > 0.6 > found["b"].metrics()["accuracy"]


def test_equal_content_elsewhere_is_the_same_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "data.npz")
    sets = [Data(Site(str(tmp_path), data=str(tmp_path / name))) for name in ("a", "b")]
    run = Run("naive", "split(arrays('data.npz'), 2)")
    assert identified(run, sets[0]).id == identified(run, sets[1]).id


PLUGIN = """
from dataclasses import dataclass
import perdure
from perdure.strategies.base import Strategy

@dataclass(frozen=True)
class Signed(Strategy):
    def steer(self, learner, grads, state):
        return {name: SIGN * grad for name, grad in grads.items()}

perdure.register("signed", Signed)
"""


def test_a_plugin_that_changed_makes_new_runs(tmp_path):
    """In one process, within a second, with a file of the same length: what Python keeps compiled is not asked."""
    path, home = tmp_path / "own.py", tmp_path / "home"
    more = {"plugins": (str(path),), "strategies": ("signed",)}
    path.write_text(PLUGIN.replace("SIGN", "+1"))
    good = compared(home, "split(digits, 2)", **more).outcomes[0]
    path.write_text(PLUGIN.replace("SIGN", "-1"))
    with pytest.warns(UserWarning, match="the code behind a name of your own has changed since 1 run was made by it"):
        bad = compared(home, "split(digits, 2)", **more).outcomes[0]
    assert good.run.code and good.run.id != bad.run.id
    assert bad.rows[0]["loss"] > good.rows[0]["loss"]  # it climbed
    with pytest.raises(Changed, match="with other code behind its own names"):
        assault(good.run.id, ["fgsm"], home=str(home), samples=10, plugin=(str(path),))
    path.write_text(PLUGIN.replace("SIGN", "+1"))
    assert compared(home, "split(digits, 2)", **more).outcomes[0].run.id == good.run.id


def test_a_plugin_counts_where_its_names_are_used_and_with_what_it_imports(tmp_path, monkeypatch):
    helper, path = tmp_path / "perdure_test_helper.py", tmp_path / "own.py"
    helper.write_text("SIGN = +1\n")
    path.write_text("from perdure_test_helper import SIGN\n" + PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.load([str(path)])
    data = Data(Site(str(tmp_path / "home")))
    used, unused = (identified(Run(text), data) for text in ("signed + ewc(1)", "naive"))
    assert used.code and not unused.code
    helper.write_text("SIGN = -1\n")
    plugins.load([str(path)])
    assert identified(Run("signed + ewc(1)"), data).code != used.code
    assert identified(Run("naive"), data).id == unused.id


SCRIPT = """
import sys
from dataclasses import dataclass
import perdure
from perdure.strategies.base import Strategy

@dataclass(frozen=True)
class Scaled(Strategy):
    def steer(self, learner, grads, state):
        return {name: SCALE * grad for name, grad in grads.items()}

perdure.register("scaled", Scaled)
made = perdure.compare(["scaled", "naive"], "split(digits, 2)", 1, home=sys.argv[1], here=True, tracking=False, steps=5)
print(*(o.run.id for o in made.outcomes))
"""


def test_a_class_of_a_script_is_known_by_its_text(tmp_path):
    def ids(text: str) -> list[str]:
        (tmp_path / "script.py").write_text(text)
        words = [sys.executable, "-W", "ignore", str(tmp_path / "script.py"), str(tmp_path / "home")]
        root = str(Path(__file__).parents[3])
        told = subprocess.run(words, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=120)
        assert told.returncode == 0, told.stderr
        return told.stdout.split()

    first = ids(SCRIPT.replace("SCALE", "1.0"))
    assert ids(SCRIPT.replace("SCALE", "1.0") + "\n# another line, and the same class\n") == first
    other = ids(SCRIPT.replace("SCALE", "2.0"))
    assert other[0] != first[0] and other[1] == first[1]


def test_again_keeps_what_there_is_until_the_new_run_is_there(tmp_path):
    data, home = written(tmp_path / "data.npz"), tmp_path / "home"
    on, site = f"split(arrays('{data}'), 2)", Site(str(tmp_path / "home"))
    first = compared(home, on).outcomes[0]
    data.rename(tmp_path / "away.npz")
    with pytest.raises(FileNotFoundError, match=r"data\.npz was not found"):
        compared(home, on, again=True)
    (tmp_path / "away.npz").rename(data)
    assert outcome.outcome(first.run.id, site.home).rows == first.rows
    second = compared(home, on, again=True).outcomes[0]
    assert second.rows == first.rows and second.run.id == first.run.id
    assert not list((home / "aside").iterdir())


FAILING = """
from dataclasses import dataclass
from pathlib import Path
import perdure
from perdure.strategies.base import Strategy

@dataclass(frozen=True)
class Failing(Strategy):
    mark: str = ""

    def consolidate(self, learner, experience, state):
        if Path(self.mark).exists():
            raise RuntimeError("it fails this time")
        return state

perdure.register("failing", Failing)
"""


def test_a_run_that_fails_anew_comes_back_as_it_was(tmp_path):
    path, mark, home = tmp_path / "own.py", tmp_path / "mark", tmp_path / "home"
    path.write_text(FAILING)
    more = {"plugins": (str(path),), "strategies": (f"failing('{mark}')", "naive")}
    first = compared(home, "split(digits, 2)", **more)
    mark.touch()
    second = compared(home, "split(digits, 2)", again=True, **more)
    assert [o.status for o in second.outcomes] == ["failed", "finished"]
    back = outcome.outcome(first.outcomes[0].run.id, str(home))
    assert back.status == "finished" and back.rows == first.outcomes[0].rows
    assert "it fails this time" in (Site(str(home)).folder(back.run) / "error.txt").read_text()
    assert not list((home / "aside").iterdir())


def test_other_numerics_are_other_runs(tmp_path, monkeypatch):
    home = tmp_path / "home"
    first = compared(home, "split(digits, 2)").outcomes[0].run
    old = Site(str(home)).folder(first)
    monkeypatch.setattr("perdure.platform.runs.identity.NUMERICS", 99)
    with pytest.warns(UserWarning, match=r"what Perdure computes has changed \(numerics \d+, now 99\) since 1 run"):
        second = compared(home, "split(digits, 2)").outcomes[0].run
    assert second.id != first.id and (old / "finished").exists()
    with pytest.raises(Changed, match="by numerics .*, and this version of Perdure has 99"):
        assault(first.id, ["fgsm"], home=str(home), samples=10)


def test_a_run_written_down_before_content_counted_keeps_its_id():
    row = {"strategy": "naive", "stream": "split(digits)", "model": "mlp(64, 64)", "optimizer": "adam", "seed": 0}
    row |= {"plan": {"epochs": 1, "batch_size": 128, "steps": None}, "threads": 1, "device": "cpu"}
    old = Run.of(row)
    assert old.numerics == 1 and old.id == "7240d3ea1028" and old.id != replace(old, numerics=2).id


def test_meta_learners_generators_and_streams_that_go_on_are_told_apart_too(tmp_path):
    home, data = tmp_path / "home", written(tmp_path / "data.npz")
    meta = {"home": str(home), "here": True, "tracking": False, "iterations": 4, "batch": 2, "tested": 2, "judged": 2}
    on = f"few_shot(arrays('{data}'), 2, 1, 1, shares=(0.5, 0, 0.5))"
    first = perdure.meta(["maml"], on, model="mlp(4)", **meta).outcomes[0].run
    made = generate(Generation("linear_autoencoder(2, bounds=None)", f"arrays('{data}')"), str(home))
    written(data, shuffled=True)
    with pytest.warns(UserWarning, match="has changed since 1 run was made from it"):
        second = perdure.meta(["maml"], on, model="mlp(4)", **meta).outcomes[0].run
    assert isinstance(first, MetaRun) and first.id != second.id
    assert (
        generate(Generation("linear_autoencoder(2, bounds=None)", f"arrays('{data}')"), str(home)).folder != made.folder
    )


def test_a_learner_whose_code_changed_adapts_to_nothing(tmp_path, monkeypatch):
    home = tmp_path / "home"
    meta = {"home": str(home), "here": True, "tracking": False, "iterations": 4, "batch": 2, "tested": 2, "judged": 2}
    run = perdure.meta(["maml"], **meta).outcomes[0].run
    (tmp_path / "task.csv").write_text("0.5,1\n0.2,\n")
    assert len(adapt(run.id, str(tmp_path / "task.csv"), home=str(home)).values) == 1
    monkeypatch.setattr("perdure.platform.runs.identity.NUMERICS", 99)
    with pytest.raises(Changed, match="numerics"):
        adapt(run.id, str(tmp_path / "task.csv"), home=str(home))


def test_data_are_not_read_again_to_be_known(tmp_path, monkeypatch):
    """By path, size and times; a change that leaves size and modification time as they were is noticed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("perdure.streams.datasets.fingerprints.SETTLED", 0)
    path, places, read = written(tmp_path / "data.npz"), Places(), []
    source = Arrays(str(path))

    def load():
        read.append(1)
        return source.load(places)

    first = fingerprint(source, places, load)
    assert fingerprint(source, places, load) == first and len(read) == 1
    before = path.stat()
    written(path, shuffled=True)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert fingerprint(source, places, load) != first and len(read) == 2
    for note in (tmp_path / "cache" / "perdure" / "fingerprints").iterdir():
        note.write_text(note.read_text().replace('"sha256": "', '"sha256": "0'))
    assert len(fingerprint(source, places, load)) == 64 and len(read) == 3  # a note that was changed is no note


def test_a_file_that_was_written_just_now_is_read_again(tmp_path, monkeypatch):
    """Its times may not show the next change."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, places, read = Arrays(str(written(tmp_path / "data.npz"))), Places(), []
    for _ in range(2):
        fingerprint(source, places, lambda: read.append(1) or source.load(places))
    assert len(read) == 2


def test_a_search_over_other_data_or_code_is_another_and_replays_nothing(tmp_path):
    data, path, site = written(tmp_path / "data.npz"), tmp_path / "own.py", Site(str(tmp_path / "home"))
    path.write_text(PLUGIN.replace("SIGN", "+1"))
    plugins.load([str(path)])

    def search() -> Search:
        run = continual(Run("signed + ewc(choice(1, 2))", f"split(arrays('{data}'), 2)", "mlp(8)"), 0.2, None)
        return Search(with_content(run, Data(site)), f"split(arrays('{data}'), 2)", ("accuracy",))

    first = search()
    trial, final = first.runs({"ewc.strength": "1"})[0], first.finals({"ewc.strength": "1"})[0]
    assert trial.data == final.data == Data(site).fingerprint(trial) and trial.code == final.code != ""
    written(data, shuffled=True)
    second = search()
    assert second.id != first.id and second.runs({"ewc.strength": "1"})[0].id != trial.id
    with pytest.raises(Changed, match="now it is another"):
        first.refuse(site, Data(site))
    path.write_text(PLUGIN.replace("SIGN", "-1"))
    plugins.load([str(path)])
    with pytest.raises(ValueError, match="has changed since this search was asked for"):
        second.refuse(site, Data(site))
    assert search().id != second.id

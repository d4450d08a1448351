"""Searches as they are made: on Tune, over warm actors, to a report; interrupted, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import asdict, replace
from math import isnan, log10
from pathlib import Path

import pytest

import perdure
from perdure.jobs.terminal import console
from perdure.jobs.views import search as shown
from perdure.platform.execution.execute import execute
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.lookup import found
from perdure.platform.runs.record import finished
from perdure.platform.runs.run import Run
from perdure.platform.runs.set_aside import set_aside
from perdure.platform.runs.study import Command
from perdure.platform.runs.workspace import Site
from perdure.platform.search import ray_tune, runner
from perdure.platform.search.importance import importance
from perdure.platform.search.results import Searched, html
from perdure.platform.search.search import Search, continual
from perdure.platform.search.trial import Trial
from perdure.platform.search.trial_result import Tried
from perdure.platform.storage.checkpoints import Store
from perdure.platform.tracking.mlflow_client import client
from perdure.platform.tracking.tracker import Untracked
from perdure.strategies.training.plan import Plan
from perdure.streams.datasets.digits import Digits
from perdure.streams.storage.directories import Places
from perdure.testing.equality import same
from perdure.testing.executors import results

DIGITS = Digits().load(Places(None))
SMALL = {"model": "mlp(8)", "steps": 4, "batch_size": 16, "slots": 1, "tracking": False}
TASKS = "split(digits, protocol='task')"


def searched(home, method, on="split(digits, 3)", **others) -> Searched:
    return perdure.tune(method, on, home=str(home), **(SMALL | others))


@pytest.fixture
def here(monkeypatch):
    """Trials one after the other in this process: for what is not Tune's to do."""

    def fit(search, site, arrays, length, slots, gpus, stops, folder, hear):
        trial = Trial(search, site, DIGITS, length, stops)
        for number, point in enumerate(search.points(), start=1):
            trial.begin(point)
            told = {"done": False}
            while not told["done"]:
                told = trial.step()
                hear(number, told)
            hear(number, told | {"ended": True})

    monkeypatch.setattr(runner, "fit", fit)
    monkeypatch.setattr("perdure.platform.cluster.connection.connect", lambda address: False)
    monkeypatch.setattr("perdure.platform.cluster.connection.slots", lambda *args: 1)


@pytest.mark.usefixtures("cluster")
def test_a_search_chooses_on_validation_samples_and_tests_from_fresh_seeds(tmp_path):
    heard = []
    made = searched(
        tmp_path,
        "rehearsal(choice(20, 50)) + ewc(loguniform(1, 1e4))",
        trials=3,
        fresh=2,
        hear=lambda trial, made: heard.append(trial),
    )
    assert sorted(t.number for t in heard) == [1, 2, 3] and {t.status for t in made.trials} == {"finished"}
    assert made.best[0].values == (max(t.values[0] for t in made.trials),) and made.table[0] == made.best[0]
    for trial in made.trials:  # a trial is a run like any other, with the numbers that it has elsewhere
        run = found(trial.runs[0], str(tmp_path))
        assert run.stream == "validated(split(digits, experiences=3))" and run.seed == 0
        alone = Site(str(tmp_path / "alone"))
        deque(execute(run, alone, DIGITS), maxlen=0)
        assert same(results(alone, run), results(Site(str(tmp_path)), run))
        last = Journal(alone.folder(run)).rows()[-1]["accuracy"]
        assert trial.values == (pytest.approx(sum(last) / 3),)
    (final,) = made.finals
    assert {o.run.stream for o in final.outcomes} == {"split(digits, experiences=3)"}
    assert [o.run.seed for o in final.outcomes] == [1, 2]
    assert {o.run.strategy for o in final.outcomes} == {made.best[0].method}
    text = Path(made.report).read_text()
    assert made.best[0].runs[0] in text and "ewc.strength" in text and text.count("<svg") == 1
    frame = made.frame()
    assert list(frame["trial"]) == [1, 2, 3] and list(frame["accuracy"]) == [t.values[0] for t in made.trials]


@pytest.mark.usefixtures("cluster")
def test_an_error_of_who_is_told_of_trials_ends_the_search(tmp_path):
    """Tune by itself goes on with a trial whose end it could not tell, and pickles who listens."""
    terminal = threading.RLock()

    def hear(trial, made):
        with terminal:
            raise RuntimeError("nobody listens")

    with pytest.raises(RuntimeError, match="nobody listens"):
        searched(tmp_path, "rehearsal(choice(20, 50))", trials=2, hear=hear)
    assert len(searched(tmp_path, "rehearsal(choice(20, 50))", trials=2, fresh=0).trials) == 2  # as if it had not been


def proposed(search: Search, slots: int, first: int) -> list:
    """What Optuna proposes while trials of a batch come to their ends in another order; more is better near 42."""
    searcher, points = ray_tune._optuna(search, slots), []
    for batch in range(14 // slots):
        ids = [f"{batch} {n}" for n in range(slots)]
        configs = {id: searcher.suggest(id) for id in ids}
        points += [ray_tune._point(search, config) for config in configs.values()]
        for id in ids[first:] + ids[:first]:
            value = -abs(float(ray_tune._point(search, configs[id])["ewc.strength"]) - 42)
            searcher.on_trial_complete(id, {"objective_0": value, "objective_1": value, "training_iteration": 2})
    return points


def test_optuna_proposes_the_same_whoever_is_first_and_learns(tmp_path):
    text = "ewc(loguniform(1, 1e4)) + rehearsal(randint(5, 9)) + lwf(quniform(1, 2, 0.5)) + gem(choice(5, 6))"
    search = Search(Run(text, "validated(split(digits))"), "split(digits)", ("accuracy",), by="optuna")
    points = proposed(search, 2, 0)
    assert points == proposed(search, 2, 1) and len(points) == 14
    assert proposed(replace(search, run=replace(search.run, seed=1)), 2, 0) != points
    for point in points:
        assert 1 <= float(point["ewc.strength"]) <= 1e4 and point["rehearsal.capacity"] in "56789"
        assert point["lwf.strength"] in ("1.0", "1.5", "2.0") and point["gem.capacity"] in "56"
        search.runs(point)
    two = replace(search, objectives=("accuracy", "forgetting"))
    assert len(proposed(two, 2, 0)) == 14


@pytest.mark.usefixtures("cluster")
def test_optuna_searches(tmp_path):
    made = searched(tmp_path, "ewc(loguniform(1, 1e4))", "split(digits, 2)", trials=3, by="optuna", fresh=0)
    points = ray_tune._optuna(made.search, 1)
    assert made.trials[0].point == ray_tune._point(made.search, points.suggest("0"))
    assert [t.status for t in made.trials] == ["finished"] * 3 and len({t.method for t in made.trials}) == 3


@pytest.mark.usefixtures("cluster")
def test_asha_stops_trials_after_two_experiences(tmp_path):
    asked = {"optimizer": "sgd(loguniform(1e-4, 1))", "scheduler": "asha", "trials": 8, "fresh": 0}
    made = searched(tmp_path, "naive", "split(digits)", **asked)
    stopped, whole = ([t for t in made.trials if t.status == status] for status in ("stopped", "finished"))
    assert stopped and whole and len(stopped) + len(whole) == 8
    assert {t.milestones for t in stopped} <= {2} and {t.milestones for t in whole} == {5}
    site = Site(str(tmp_path))
    for trial in stopped:
        run = found(trial.runs[0], str(tmp_path))
        assert len(Journal(site.folder(run)).rows()) == 2 and not finished(run, site)
    assert made.best[0].status == "finished"
    spent = {path: path.read_bytes() for path in (tmp_path / "runs").glob("*/attempts.jsonl")}
    again = searched(tmp_path, "naive", "split(digits)", **asked)
    assert again.trials == made.trials  # and nothing was made again, nor gone on with
    assert {path: path.read_bytes() for path in (tmp_path / "runs").glob("*/attempts.jsonl")} == spent


@pytest.mark.usefixtures("cluster")
def test_a_population_takes_over_what_did_well_and_goes_on_from_it(tmp_path):
    asked = {
        "on": TASKS,
        "optimizer": "sgd(loguniform(1e-4, 1), keep=True)",
        "scheduler": "pbt",
        "trials": 4,
        "fresh": 0,
    }
    made = searched(tmp_path, "rehearsal(choice(20, 40)) + ewc(loguniform(1, 100))", **asked)
    assert {(t.milestones, t.status) for t in made.trials} == {(5, "finished")}
    site, children = Site(str(tmp_path)), []
    for trial in made.trials:
        run = found(trial.runs[0], str(tmp_path))
        while run.after:
            donor, _, count = run.after.partition("@")
            parent = found(donor, str(tmp_path))
            told, before = (Journal(site.folder(r)).rows() for r in (run, parent))
            assert (
                told[: int(count)] == before[: int(count)]
                and run.strategy + run.optimizer != parent.strategy + parent.optimizer
            )
            children, run = [*children, run], parent
    assert children
    again = searched(tmp_path, "rehearsal(choice(20, 40)) + ewc(loguniform(1, 100))", **asked)
    assert again.trials == made.trials


def test_who_takes_over_has_the_weights_of_another_and_rates_of_its_own(tmp_path):
    run = Run(
        "naive",
        "split(digits)",
        "mlp(8)",
        "sgd(loguniform(1e-3, 1), momentum=0.9, keep=True)",
        plan=Plan(steps=3, batch_size=16),
    )
    search = Search(continual(run, 0.1, None), "split(digits)", ("accuracy",), scheduler="pbt")
    site, (one, other) = Site(str(tmp_path / "home")), ({"sgd.lr": "0.5"}, {"sgd.lr": "0.01"})
    donor, heir = (Trial(search, site, DIGITS, 5, {}) for _ in range(2))
    donor.begin(one)
    for _ in range(2):
        donor.step()
    (tmp_path / "saved").mkdir()
    donor.save(tmp_path / "saved")
    donor.step()  # it goes on, and what was saved does not
    heir.begin(other)
    heir.load(tmp_path / "saved")
    assert heir.count == 2 and heir.after == (f"{donor.runs[0].id}@2",)
    kept = Store(site.folder(heir.runs[0])).load()
    assert len(Journal(site.folder(heir.runs[0])).rows()) == 2
    told = [heir.step() for _ in range(3)]
    assert [t["count"] for t in told] == [3, 4, 5] and [t["done"] for t in told] == [False, False, True]
    end = Store(site.folder(heir.runs[0])).load()
    assert end["optimizer"]["param_groups"][0]["lr"] == 0.01 and end["optimizer"]["param_groups"][0]["momentum"] == 0.9
    assert not same(kept, end)
    # somebody forgets it and begins anew from its text: there is no beginning
    heirs = search.runs(other, (f"{donor.runs[0].id}@2",))[0]
    set_aside([heirs], site)
    (failed,) = execute(heirs, site, DIGITS)
    assert "its own beginning is gone" in failed.message


def test_a_trial_of_two_seeds_is_judged_by_their_mean(tmp_path):
    run = continual(
        Run("ewc(choice(1, 2))", "split(digits, 2)", "mlp(8)", plan=Plan(steps=3, batch_size=16)), 0.1, None
    )
    search, site = Search(run, "split(digits, 2)", ("accuracy", "forgetting"), seeds=2), Site(str(tmp_path))
    trial = Trial(search, site, DIGITS, 2, {})
    trial.begin({"ewc.strength": "2"})
    told = [trial.step(), trial.step()]
    assert [run.seed for run in trial.runs] == [0, 1] and all(finished(run, site) for run in trial.runs)
    ends = [Journal(site.folder(run)).rows()[-1]["accuracy"] for run in trial.runs]
    assert told[1]["objective_0"] == pytest.approx(sum(map(sum, ends)) / 4)
    assert told[0]["objective_1"] == 0 and told[1]["done"]
    assert [run.seed for run in search.finals(trial.point)] == [2, 3, 4]
    again = Trial(search, site, DIGITS, 2, {json.dumps({"ewc.strength": "2"}): 1})
    again.begin({"ewc.strength": "2"})
    assert again.step() == told[0] | {"done": True}  # it was stopped there before


def test_a_trial_that_diverges_is_told_and_never_the_best(tmp_path):
    run = Run("naive", "split(digits, 2)", "mlp(8)", "sgd(choice(0.1, 1e30))", plan=Plan(steps=3, batch_size=16))
    search, site = Search(continual(run, 0.1, None), "split(digits, 2)", ("accuracy",)), Site(str(tmp_path))
    trial = Trial(search, site, DIGITS, 2, {})
    trial.begin({"sgd.lr": "1e30"})
    told = trial.step()
    assert told["done"] and told["objective_0"] == 0 and told["count"] == 0 and "the loss became" in told["problem"]
    folders = [site.folder(run) for run in trial.runs]
    anew = Trial(search, site, DIGITS, 2, {})
    anew.begin({"sgd.lr": "1e30"})
    assert anew.step() == told and [len(list(f.glob("attempt-*"))) for f in folders] == [1]  # it is known
    heard, command = [], Command((), search=asdict(search))
    log = runner.Log(search, command, site, 2, Untracked(), lambda trial, made: heard.append(trial))
    command.folder(site.home).mkdir(parents=True)
    log(1, told | {"ended": True})
    trial.begin({"sgd.lr": "0.1"})
    for _ in range(2):
        log(2, trial.step())
    log(2, trial.step() | {"ended": True, "count": 2})
    bad, good = log.tried()
    assert heard == [bad, good] and (bad.status, good.status) == ("failed", "finished")
    made = Searched(search, log.tried())
    assert made.best == [good] and made.table == [good, bad] and "the loss became" in html(made)


@pytest.mark.usefixtures("here")
def test_two_objectives_make_a_front_and_mlflow_has_all_of_it(tmp_path):
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    made = searched(
        tmp_path, "rehearsal(choice(10, 40, 160))", objective=["accuracy", "state_bytes"], by="grid", trials=3,
        fresh=0, tracking=True, tracking_uri=uri,
    )  # fmt: skip
    assert made.undelivered == "" and [a.maximised for a in made.search.aims] == [True, False]
    assert [t.values[1] for t in sorted(made.trials, key=lambda t: t.number)] == sorted(
        t.values[1] for t in made.trials
    )
    assert made.front[-1].point == {"rehearsal.capacity": "10"} and made.best[0] == made.front[0]
    assert Path(made.report).read_text().count("<svg") == 2
    known = client(uri)
    (experiment,) = [e for e in known.search_experiments() if e.name == "perdure"]
    runs = known.search_runs([experiment.experiment_id])
    parent = next(r for r in runs if r.info.run_name.startswith("search of rehearsal(choice"))
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {r.data.tags["perdure.run"] for r in children} == {id for t in made.trials for id in t.runs}
    assert {r.info.status for r in [parent, *children]} == {"FINISHED"}
    by_id = {r.data.tags["perdure.run"]: r.data.metrics["accuracy"] for r in children}
    assert all(by_id[t.runs[0]] == t.values[0] for t in made.trials)
    drawn = {a.path for place in (None, "figures") for a in known.list_artifacts(parent.info.run_id, place)}
    assert {"report.html", "runs.csv", "figures/front.png", "figures/trials.png"} <= drawn


@pytest.mark.usefixtures("here")
def test_meta_learners_are_searched_on_validation_tasks(tmp_path):
    small = {"iterations": 20, "batch": 4, "every": 10, "judged": 10, "tested": 12, "slots": 1, "tracking": False}
    made = perdure.tune(
        "maml(loguniform(0.001, 0.1), steps=choice(1, 2))", "sinusoid(shots=5)", trials=3, fresh=0,
        optimizer="adam(loguniform(1e-4, 1e-2))", home=str(tmp_path), model="mlp(8)", **small,
    )  # fmt: skip
    assert made.search.objectives == ("loss",) and {t.status for t in made.trials} == {"finished"}
    site = Site(str(tmp_path))
    for trial in made.trials:
        rows = Journal(site.folder(found(trial.runs[0], str(tmp_path)))).rows()
        assert [("test" in row) for row in rows] == [False, False] and trial.values == (rows[-1]["judged"]["loss"][-1],)
    assert made.best[0].values[0] == min(t.values[0] for t in made.trials)
    final = replace(made.search, fresh=1).finals(made.best[0].point)[0]
    assert (final.tested, final.seed, final.learner) == (12, 1, made.best[0].method)


@pytest.mark.usefixtures("here")
def test_data_are_loaded_once_for_the_trials_and_for_the_best_again(tmp_path, monkeypatch):
    loads, load = [], Digits.load
    monkeypatch.setattr(Digits, "load", lambda self, places: loads.append(self) or load(self, places))
    made = searched(tmp_path, "ewc(choice(1, 100))", trials=2, fresh=1, here=True)
    assert len(made.league) == 1 and len(loads) == 1


@pytest.mark.usefixtures("here")
def test_results_of_a_search_go_to_storage_and_are_known_there(tmp_path, monkeypatch):
    address = f"file://{tmp_path}/bucket"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one machine"))
    made = searched(address, "ewc(choice(1, 100))", trials=2, fresh=1, here=True)
    assert [t.status for t in made.trials] == ["finished"] * 2 and len(made.league) == 1
    assert Path(made.report).is_relative_to(tmp_path / "one machine")
    assert [p.name.partition(".")[0] for p in (tmp_path / "bucket").rglob("report.html*")].count("report") == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "bucket" / "runs").rglob("*.pt*")}
    again = searched(address, "ewc(choice(1, 100))", trials=2, fresh=1, here=True)
    assert [t.values for t in again.trials] == [t.values for t in made.trials]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "bucket" / "runs").rglob("*.pt*")} == before
    assert not (tmp_path / "file:").exists()
    with pytest.raises(ValueError, match="a population hands its weights on in a folder"):
        searched(address, "ewc(uniform(1, 100))", trials=2, scheduler="pbt")


def test_importance_is_the_share_that_a_parameter_explains_alone():
    space = Search(
        Run("ewc(loguniform(1, 1e4))", "validated(split(digits))", "mlp(choice(8, 16, 32))"),
        "split(digits)",
        ("accuracy",),
    ).space
    strength, width = space.parameters

    def shares(values):
        points = [(10.0**n, w) for n in range(5) for w in ("8", "16", "32")]
        trials = [tried(k, 0.0, point={strength: str(s), width: w}) for k, (s, w) in enumerate(points)]
        return importance(space, trials, [values(s, w) for s, w in points])

    told = shares(lambda s, w: -((log10(s) - 2) ** 2))
    assert told[strength] == pytest.approx(1) and told[width] == 0
    told = shares(lambda s, w: {"8": 0.1, "16": 0.9, "32": 0.2}[w])
    assert told[strength] == 0 and told[width] == pytest.approx(1)
    assert isnan(shares(lambda s, w: 1.0)[width])
    assert isnan(importance(space, [], [])[width])


def test_the_line_of_a_trial_tells_what_differs_between_trials(capsys):
    shown.trial(
        Tried(3, {"ewc.strength": "12.0", "mlp.1": "64"}, ("a",), "ewc(12.0)", 5, (0.5,), "finished"), console()
    )
    assert capsys.readouterr().out == "trial 3: ewc.strength = 12, mlp.1 = 64: finished: 0.5 after 5\n"


def tried(number: int, *values: float, point: dict[str, str] | None = None) -> Tried:
    return Tried(
        number, point or {"ewc.strength": str(number)}, (str(number),), f"ewc({number})", 5, values, "finished"
    )


def test_a_front_has_whom_nobody_beats():
    search = Search(
        Run("ewc(uniform(1, 9))", "validated(split(digits))"), "split(digits)", ("accuracy", "forgetting"), finalists=3
    )
    points = [(0.9, 0.5), (0.8, 0.3), (0.8, 0.4), (0.5, 0.1), (0.4, 0.1), (0.7, 0.2), (0.9, 0.5)]
    made = Searched(search, [tried(n, *values) for n, values in enumerate(points)])
    assert [t.number for t in made.front] == [0, 6, 1, 5, 3]
    assert [t.number for t in made.best] == [0, 1, 3]
    assert made.table[0].number == 0 and [t.number for t in made.table[-2:]] == [2, 4]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"method": "ewc"}, "nothing to search for"),
        ({"method": "ewc(uniform(1, 2))", "objective": "acuracy"}, "unknown objective 'acuracy'"),
        ({"method": "ewc(uniform(1, 2))", "first": 9}, "first asks for 9 experiences, and the stream has 3"),
        ({"method": "ewc(uniform(1, 2))", "share": 1.5}, "share must be above 0 and below 1"),
        ({"method": "rehearsal(uniform(1, 2))"}, "capacity must be a whole number"),
        ({"method": "ewc(uniform(1, 2))", "by": "grid"}, "ewc.strength has none"),
        ({"method": "ewc(randint(1, 100))", "by": "grid"}, "the grid has 100 points: ask for --trials 100"),
        ({"method": "ewc(uniform(1, 2))", "slots": 1000}, "asked for 1000 at once"),
        ({"method": "gpm(choice(0.9, 0.95))"}, r"\(at gpm"),
        ({"method": "maml(uniform(0.1, 1))", "on": "sinusoid", "first": 2}, "episodes have none"),
        ({"method": "maml(uniform(0.1, 1))", "on": "sinusoid", "objective": "forgetting"}, "known: loss, accuracy"),
        ({"method": "ewc(uniform(1, 2))", "on": "split(digits, choice(2, 3))"}, "no distribution in it"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_what_cannot_be_is_refused_before_anything_starts(tmp_path, asked, said):
    with pytest.raises(ValueError, match=said):
        searched(tmp_path, **asked)
    assert not list(tmp_path.glob("runs/*")), "nothing was made"


KILLED = """
import sys
import perdure
perdure.tune("ewc(loguniform(1, 1e4))", "split(digits, 3)", trials=4, fresh=1, home=sys.argv[1], model="mlp(8)",
             steps=150, batch_size=16, slots=1, tracking=False,
             hear=lambda t, made: print(t.number, t.runs[0], flush=True))
"""


@pytest.mark.usefixtures("cluster")
def test_a_search_whose_process_is_killed_is_restored(tmp_path):
    """SIGKILL after the second trial: those that have ended are not made again, and the end is as without it."""
    root = Path(__file__).parents[3]
    words = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(root)}
    running = subprocess.Popen(words, cwd=root, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stdout
    ended = [running.stdout.readline().split()[1] for _ in range(2)]
    running.send_signal(signal.SIGKILL)
    running.communicate()
    runs, site, alone = tmp_path / "runs", Site(str(tmp_path)), Site(str(tmp_path / "alone"))
    spent = {id: (runs / id / "attempts.jsonl").read_bytes() for id in ended}
    assert all((runs / id / "finished").exists() for id in ended) and len(list(runs.glob("*/finished"))) < 4
    heard = []
    again = perdure.resume(home=str(tmp_path), hear=lambda trial, made: heard.append(trial))
    assert [t.number for t in heard] == [1, 2, 3, 4] and again.trials == heard
    assert [t.status for t in again.trials] == ["finished"] * 4 and len(again.league) == 1
    assert [t.runs[0] for t in again.trials][:2] == ended
    assert {id: (runs / id / "attempts.jsonl").read_bytes() for id in ended} == spent
    for trial in again.trials:
        run = found(trial.runs[0], str(tmp_path))
        deque(execute(run, alone, DIGITS), maxlen=0)
        assert same(results(site, run), results(alone, run))


@pytest.mark.usefixtures("here")
def test_an_interrupt_ends_a_search_with_what_is_known(tmp_path, monkeypatch):
    def interrupted(search, site, arrays, length, slots, gpus, stops, folder, hear):
        trial = Trial(search, site, DIGITS, length, stops)
        trial.begin(search.points()[0])
        for _ in range(3):
            told = trial.step()
            hear(1, told | ({"ended": True} if told["done"] else {}))
        trial.begin(search.points()[1])
        hear(2, trial.step())
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "fit", interrupted)
    made = searched(tmp_path, "ewc(loguniform(1, 1e4))", trials=3)
    assert made.stopped and [t.status for t in made.trials] == ["finished", "stopped"] and not made.finals
    assert not (tmp_path / "commands" / made.search.id / "stops.json").exists()  # no scheduler has stopped it
    assert "Not made yet" in Path(made.report).read_text()


@pytest.mark.usefixtures("here")
def test_again_forgets_what_was_made(tmp_path):
    asked = {"method": "ewc(uniform(1, 2))", "on": "split(digits, 2)", "trials": 1, "fresh": 0}
    made = searched(tmp_path, **asked)
    attempts = tmp_path / "runs" / made.trials[0].runs[0] / "attempts.jsonl"
    before = attempts.read_bytes()
    assert searched(tmp_path, **asked).trials == made.trials and attempts.read_bytes() == before
    assert searched(tmp_path, **asked, again=True).trials == made.trials and attempts.read_bytes() != before

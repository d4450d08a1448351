"""Runs of meta-learning: the same bits however they are made, tracked, reported, adapted to new tasks."""

import math
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import perdure
from perdure.notation import NotationError
from perdure.platform.api import resume
from perdure.platform.evaluation.adaptation import adapt
from perdure.platform.execution.execute import execute
from perdure.platform.fleet.fleet import Fleet
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.meta_run import MetaRun, meta_build
from perdure.platform.runs.run import Run, build
from perdure.platform.runs.study import Command
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.platform.workloads.initial_weights import start_from
from perdure.platform.workloads.meta_learning import refuse
from perdure.strategies.meta.base import weights_of
from perdure.strategies.meta.loop import MetaPlan, judge
from perdure.strategies.meta.losses import Huber
from perdure.strategies.meta.maml import MAML
from perdure.strategies.numerics.rng import Rng
from perdure.streams.datasets.dataset import DataError
from perdure.streams.episodes import Sinusoid
from perdure.testing.equality import same
from perdure.testing.executors import results

WAVES = MetaRun(plan=MetaPlan(60, 5, 20, 20), tested=30)
SHOTS = MetaRun(
    "protonets(8)", "few_shot(strokes(20, 8), 3, 2, 3)", "mlp(16)", plan=MetaPlan(20, 4, 10, 20, parts=2), tested=30
)


def made(run, home, **site):
    where = Site(str(home), **site)
    return where, deque(execute(run, where, Data(where).of(run)))


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """A home with a run that has learned waves well enough to be asked."""
    home = tmp_path_factory.mktemp("waves")
    comparison = perdure.meta(
        ["maml(0.01, 2)"], "sinusoid", iterations=600, batch=10, tested=50, home=str(home), here=True, tracking=False
    )
    return home, comparison.outcomes[0].run.id


def test_equal_texts_are_equal_runs():
    run = MetaRun("maml( lr=0.010, steps = 2)", "sinusoid(shots=10)")
    assert run.id == MetaRun("maml(steps=2)").id != MetaRun("maml(steps=3)").id
    assert MetaRun.of({**run.normal().__dict__, "plan": run.plan.__dict__}) == run.normal()
    with pytest.raises(NotationError, match="unknown name 'mammal', did you mean 'maml'"):
        MetaRun("mammal").normal()
    with pytest.raises(NotationError, match="expected episodes such as sinusoid"):
        MetaRun(episodes="strokes").normal()
    with pytest.raises(ValueError, match="number of test tasks and of steps"):
        MetaRun(adapted=(-1,))


def test_any_loss(tmp_path):
    how = {"iterations": 20, "batch": 4, "judged": 10, "tested": 20, "here": True, "tracking": False}
    made = perdure.meta(["maml"], "sinusoid", loss=Huber(0.5), **how, home=str(tmp_path))
    (told,) = made.outcomes
    assert told.run.loss == told.run.row()["loss"] == "huber(0.5)" and "--loss 'huber(0.5)'" in made.line
    assert MetaRun().id == MetaRun(loss="").id != MetaRun(loss="huber").id == MetaRun(loss="huber(1.0)").id
    assert "loss" not in MetaRun().row() and "<span>loss</span><code>huber(0.5)</code>" in Path(made.report).read_text()
    tasks, model, loss, learner = meta_build(told.run, None)
    drawn = tasks.draw(5, torch.Generator().manual_seed(0))
    outputs = model(drawn.query_x.flatten(0, 1)).view_as(drawn.query_y)
    expected = torch.nn.functional.huber_loss(outputs, drawn.query_y, delta=0.5)
    untouched = judge(learner, loss, {"weights": weights_of(model)}, drawn, [0], Rng(0))["loss"][0]
    torch.testing.assert_close(untouched.mean(), expected)
    (tmp_path / "wave.csv").write_text("x,y\n0,1\n1,\n")
    answered = adapt(told.run.id, str(tmp_path / "wave.csv"), 0, str(tmp_path))
    weights = Store(Site(str(tmp_path)).folder(told.run)).load()["learned"]["weights"]
    off = (loss.outputs(weights, torch.zeros(1, 1)) - 1).abs().item()
    assert answered.loss[0] == pytest.approx(off**2 / 2 if off < 0.5 else 0.5 * (off - 0.25))
    for wrong, on in (("cross_entropy", "sinusoid"), ("huber", "few_shot(strokes(20, 8), 3, 2, 3)")):
        with pytest.raises(ValueError, match=f"{wrong} is a loss of .*, and .* asks for"):
            perdure.meta(["maml"], on, loss=wrong, **how, home=str(tmp_path))
    with pytest.raises(ValueError, match="loss is of episodes"):
        perdure.tune("rehearsal(choice(5, 9))", loss="huber", home=str(tmp_path), tracking=False)


@pytest.mark.usefixtures("cluster")
def test_an_actor_makes_the_same_bits_and_sharers_too(tmp_path):
    for run in (WAVES, SHOTS):
        here, events = made(run, tmp_path / "here")
        assert [e.row["milestone"] for e in list(events)[1:-1]] == list(range(run.plan.iterations // run.plan.every))
        there = Site(str(tmp_path / "there"))
        fleet = Fleet(there, slots=1)
        deque(fleet.map([run]), maxlen=0)
        fleet.close()
        assert same(results(here, run), results(there, run))
    shared, _ = made(SHOTS, tmp_path / "shared", workers=2)
    assert same(results(here, SHOTS), results(shared, SHOTS))


OWN = """
import perdure, torch
from perdure.strategies.meta.maml import MAML


class Eager(MAML):
    def rate(self, learned, name, step):
        return 2 * self.lr


def narrow(shape, classes):
    return torch.nn.Sequential(torch.nn.Linear(1, 5), torch.nn.Tanh(), torch.nn.Linear(5, classes))


perdure.register("eager", Eager)
perdure.register("narrow", narrow)
"""


@pytest.mark.usefixtures("cluster")
def test_names_of_ones_own_reach_the_workers_that_share(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    how = {"model": "narrow", "iterations": 6, "batch": 4, "parts": 2, "judged": 5, "tested": 5, "here": True}
    how |= {"plugins": (str(tmp_path / "own.py"),), "tracking": False}
    shared, alone = (
        perdure.meta(["eager"], home=str(tmp_path / str(workers)), workers=workers, **how) for workers in (2, 1)
    )
    assert not shared.failed and shared.outcomes[0].rows == alone.outcomes[0].rows
    plain = perdure.meta(["maml"], home=str(tmp_path / "plain"), **how)
    assert plain.outcomes[0].rows != alone.outcomes[0].rows


def test_what_a_run_comes_to_is_in_its_journal_and_its_picture(tmp_path):
    site, _ = made(WAVES, tmp_path)
    rows = Journal(site.folder(WAVES)).rows()
    assert [row["iteration"] for row in rows] == [20, 40, 60]
    assert "test" not in rows[0] and rows[-1]["test"]["steps"] == [0, 1, 5, 10]
    assert len(rows[-1]["test"]["loss"]) == 4 and all(half > 0 for _, half in rows[-1]["test"]["loss"])
    assert [p.name for p in site.pictures(WAVES)] == ["fits.png"]


def test_learners_are_compared_in_a_table_a_report_and_mlflow(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    learners = ["reptile(0.02, 2)", MAML(0.01), "maml(1000.0, 8)"]
    result = perdure.meta(
        learners, Sinusoid(5), 2, iterations=20, batch=4, judged=10, tested=20, adapted=(0, 2), here=True
    )
    assert [o.run.learner for o in result.failed] == ["maml(1000, steps=8)"] * 2
    assert "lower the inner rate (lr=1000)" in result.failed[0].problem
    assert sorted(s.learner for s in result.league) == ["maml", "reptile(steps=2)"]
    for standing in result.league:
        assert standing.steps == (0, 2) and standing.seeds == (0, 1) and standing.loss[1].half > 0
    assert len(result.frame()) == 6 and result.frame()["test_loss_after_2"].notna().sum() == 4
    text = (tmp_path / result.report).read_text()
    assert text.count("<svg") == 2 and text.count("data:image/png") == 2 and "sinusoid(5)" in text
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (into,) = [e.experiment_id for e in client.search_experiments() if e.name == "perdure"]
    runs = {r.info.run_name: r for r in client.search_runs([into])}
    one = runs["maml seed 1"]
    assert one.info.status == "FINISHED" and one.data.params["iterations"] == "20"
    assert one.data.metrics["test_loss_after_2"] > 0 and runs["maml(1000, steps=8) seed 0"].info.status == "FAILED"
    figures = {f.path for f in client.list_artifacts(one.info.run_id, "figures")}
    assert figures == {"figures/fits.png"}  # the curves are the study's
    again = perdure.meta(
        learners[:2], Sinusoid(5), 2, iterations=20, batch=4, judged=10, tested=20, adapted=(0, 2), here=True
    )
    assert [o.rows for o in again.outcomes if o.run.seed == 1] == [
        o.rows for o in result.outcomes if o.run.seed == 1 and o.status == "finished"
    ]
    assert resume.resume(again.outcomes[0].run.id[:6], here=True).outcomes[0].status == "finished"


def test_what_does_not_fit_is_refused_before_anything_starts(tmp_path):
    for run, why in (
        (MetaRun("protonets"), "prototypes are of classes"),
        (MetaRun("darts"), "take a model that mixes some"),
        (MetaRun(model="mlp(20, winners=0.3)"), r"cannot be taken, 2 \(Winners\).*without winners"),
        (MetaRun("meta_augmentation"), "for images"),
    ):
        with pytest.raises(ValueError, match=why):
            refuse(run, None, Site(str(tmp_path)))
    few = MetaRun(episodes="few_shot(strokes(10, 8), 5, 1, 3)", model="mlp(16)")
    with pytest.raises(ValueError, match="5 ways need as many classes to meta-test on"):
        refuse(few, Data(Site(str(tmp_path))).of(few), Site(str(tmp_path)))
    with pytest.raises(ValueError, match="ask for --here beside --workers"):
        perdure.meta(workers=2, home=str(tmp_path))
    with pytest.raises(ValueError, match="expected meta-learners, one at least"):
        perdure.meta([], home=str(tmp_path))


def test_a_new_wave_is_adapted_to(waves, tmp_path):
    home, id = waves
    wave = [(x, 2 * math.sin(x - 1)) for x in np.linspace(-5, 5, 12)]
    lines = ["x,y", *(f"{x},{y}" for x, y in wave[::2]), *(f"{x}," for x, _ in wave[1::2])]
    (tmp_path / "wave.csv").write_text("\n".join(lines))
    before, after = (adapt(id, str(tmp_path / "wave.csv"), steps, str(home)) for steps in (0, 10))
    assert before.steps == 0 and before.loss[0] == before.loss[1] and after.loss[1] < 0.7 * after.loss[0]
    assert after.names[0] == "row 7" and len(after.said) == 6 and isinstance(after.said[0], float)
    true = [y for _, y in wave[1::2]]
    missed = [sum((a - b) ** 2 for a, b in zip(each.said, true, strict=True)) for each in (before, after)]
    assert missed[1] < missed[0]
    np.savez(tmp_path / "wave.npz", x=[[x] for x, _ in wave[::2]], y=[y for _, y in wave[::2]], queries=[[0.5]])
    assert len(adapt(id, str(tmp_path / "wave.npz"), None, str(home)).said) == 1


def test_new_characters_are_told_apart(tmp_path):
    from PIL import Image

    site, _ = made(replace(SHOTS, plan=MetaPlan(60, 4, 30, 20)), tmp_path / "home")
    (id,) = [p.name for p in site.runs.iterdir()]
    source = Data(site).of(SHOTS)
    folder = tmp_path / "task"
    for c in (0, 1, 2):
        own = (source.train.y == c).nonzero().flatten().tolist()
        (folder / f"sign {c}").mkdir(parents=True)
        for n, at in enumerate(own[:3]):
            where = folder / f"sign {c}" / f"{n}.png" if n < 2 else folder / f"asked {c}.png"
            Image.fromarray(source.train.x[at, 0].numpy()).save(where)
    told = adapt(id, str(folder), None, str(tmp_path / "home"))
    assert told.classes == ("sign 0", "sign 1", "sign 2")
    assert told.names == ("asked 0.png", "asked 1.png", "asked 2.png")
    assert told.said == ["sign 0", "sign 1", "sign 2"]
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in told.values)


def test_a_stream_is_learned_from_what_was_meta_learned(tmp_path):
    home = str(tmp_path / "home")
    site, _ = made(SHOTS, home)
    learned = Store(site.folder(SHOTS)).load()["learned"]["weights"]
    common = {"on": "split(strokes(20, 8), 4)", "model": "mlp(16)", "epochs": 1, "home": home, "tracking": False}
    fresh, begun, again = (
        perdure.compare(["naive"], seeds=1, start=start, here=True, **common) for start in ("", SHOTS.id[:6], SHOTS.id)
    )
    run = begun.outcomes[0].run
    assert run.start == SHOTS.id and run.id == again.outcomes[0].run.id != fresh.outcomes[0].run.id
    assert "start" not in fresh.outcomes[0].run.row() and f"--start {SHOTS.id}" in begun.line
    first, other = fresh.outcomes[0].rows[0], begun.outcomes[0].rows[0]
    assert first["baseline"] != other["baseline"] and first["loss"] != other["loss"]
    _, learner, _ = build(run, Data(site).of(run))
    anew = {k: v.clone() for k, v in learner.model.state_dict().items()}
    start_from(learner.model, run, site)
    *body, weight, bias = learner.model.state_dict()
    assert all(torch.equal(learner.model.state_dict()[k], learned[k]) for k in body)
    assert all(torch.equal(learner.model.state_dict()[k], anew[k]) for k in (weight, bias))  # 20 classes, not 8 values
    with pytest.raises(ValueError, match=r"weights of mlp\(16\), which do not fit mlp\(17\)"):
        perdure.compare(["naive"], start=SHOTS.id, here=True, **common | {"model": "mlp(17)"})
    start_from(learner.model, replace(run, start=run.id), site)  # and from what a stream has left
    left = Store(site.folder(run)).load()["model"]
    assert all(torch.equal(v, left[k]) for k, v in learner.model.state_dict().items())
    (site.folder(run) / "finished").unlink()
    with pytest.raises(ValueError, match="is not finished"):
        perdure.compare(["ewc"], seeds=1, start=run.id, here=True, **common)


ODD = """
import perdure, torch
from torch import nn


class Odd(nn.Module):
    \"\"\"The head is defined first, and the layer that is frozen has other weights in every process.\"\"\"

    def __init__(self, shape, classes):
        super().__init__()
        self.head, self.first, self.body = nn.Linear(6, classes), nn.Linear(1, 6), nn.Linear(6, 6)
        self.first.requires_grad_(False)
        with torch.no_grad():
            self.first.weight.copy_(torch.randn(6, 1, generator=torch.Generator().manual_seed(torch.seed() % 2**31)))

    def forward(self, x):
        return self.head(self.body(torch.dropout(self.first(x).tanh(), 0.5, self.training)).tanh())


perdure.register("odd", lambda shape, classes: Odd(shape, classes))
"""


def test_an_odd_model_is_adapted_at_rest_with_what_it_had_frozen(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    home, plugins = str(tmp_path / "home"), (str(tmp_path / "odd.py"),)
    how = {"model": "odd", "iterations": 12, "batch": 4, "judged": 5, "tested": 5, "every": 4, "here": True}
    made = perdure.meta(["anil(0.05)", "reptile"], home=home, plugins=plugins, tracking=False, **how)
    assert not made.failed, [o.problem for o in made.failed]
    assert [o.run.optimizer for o in made.outcomes] == ["adam", "sgd(0.5)"] and "--optimizer" not in made.line
    assert "adam of anil(0.05), sgd(0.5) of reptile" in Path(made.report).read_text()
    run, site = made.outcomes[0].run, Site(home)
    kept = Store(site.folder(run)).load()
    assert set(kept["still"]) == {"first.weight", "first.bias"} and "first.bias" not in kept["learned"]["weights"]
    (tmp_path / "wave.csv").write_text("x,y\n0,1\n1,2\n-1,0.5\n2,\n")
    one, two = (adapt(run.id, str(tmp_path / "wave.csv"), 3, home) for _ in range(2))
    weights = {k: v.clone() for k, v in (kept["learned"]["weights"] | kept["still"]).items()}

    def outputs(x):
        hidden = (x @ weights["first.weight"].T + weights["first.bias"]).tanh()
        hidden = (hidden @ weights["body.weight"].T + weights["body.bias"]).tanh()
        return hidden @ weights["head.weight"].T + weights["head.bias"]

    x, y = torch.tensor([[0.0], [1.0], [-1.0]]), torch.tensor([[1.0], [2.0], [0.5]])
    for _ in range(3):
        own = [weights[k].requires_grad_() for k in ("head.weight", "head.bias")]
        slopes = torch.autograd.grad((outputs(x) - y).square().mean(), own)
        weights |= {
            k: (v - 0.05 * g).detach() for k, v, g in zip(("head.weight", "head.bias"), own, slopes, strict=True)
        }
    assert one.values == two.values and one.said[0] == pytest.approx(outputs(torch.tensor([[2.0]])).item(), rel=1e-5)
    net = meta_build(run, None)[1]
    assert not torch.equal(net.state_dict()["first.weight"], kept["still"]["first.weight"])
    start_from(net, Run(model="odd", start=run.id), site)
    assert torch.equal(net.state_dict()["first.weight"], kept["still"]["first.weight"])
    wider = type(net)((1,), 4)  # whose head, defined first, begins anew
    before = wider.state_dict()["head.weight"].clone()
    start_from(wider, Run(model="odd", start=run.id), site)
    assert torch.equal(wider.state_dict()["head.weight"], before)
    assert torch.equal(wider.state_dict()["body.weight"], kept["learned"]["weights"]["body.weight"])


def test_what_is_compared_is_called_by_its_name():
    assert Command((MetaRun().normal(),)).title == "1 meta-learner on sinusoid"
    assert Command((MetaRun().normal(), MetaRun("reptile").normal())).title == "2 meta-learners on sinusoid"
    assert Command((Run(),)).title == "1 strategy on split(digits)"


def test_reptile_descends_where_nothing_else_is_asked_for():
    assert MetaRun("reptile").normal().optimizer == "sgd(0.5)" and MetaRun("reptile").outer == "sgd(0.5)"
    assert MetaRun("reptile", optimizer="adam").normal().optimizer == MetaRun().normal().optimizer == "adam"
    assert MetaRun("reptile").id != MetaRun("reptile", optimizer="adam").id


def test_tasks_that_cannot_be_taken_are_refused(waves, tmp_path):
    home, id = str(waves[0]), waves[1]
    for name, text, why in (
        ("none.csv", "1,2\n2,3\n", "has no queries"),
        ("two.csv", "1,2,3\n1,1,\n", r"of shape \(1,\), as in training, got \(2,\)"),
        ("word.csv", "1,2\nx,\n", "is not a table of numbers"),
        ("nan.csv", "nan,2\n1,\n", "holds NaN"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=why):
            adapt(id, str(tmp_path / name), None, home)
    np.savez(tmp_path / "half.npz", x=[[1.0]], y=[1.0])
    with pytest.raises(DataError, match="it lacks queries"):
        adapt(id, str(tmp_path / "half.npz"), None, home)
    with pytest.raises(DataError, match="is a folder of images"):
        adapt(id, str(tmp_path), None, home)
    with pytest.raises(FileNotFoundError, match=r"gone\.csv was not found"):
        adapt(id, str(tmp_path / "gone.csv"), None, home)
    with pytest.raises(ValueError, match="no finite answer"):
        (tmp_path / "far.csv").write_text("1000,2\n1,\n")
        adapt(id, str(tmp_path / "far.csv"), 200, home)
    perdure.compare(["naive"], seeds=1, steps=1, home=str(tmp_path / "other"), here=True, tracking=False)
    (other,) = [p.name for p in (tmp_path / "other" / "runs").iterdir()]
    with pytest.raises(ValueError, match="learned a stream"):
        adapt(other, "x.csv", None, str(tmp_path / "other"))

"""Attacks on finished runs: the model that is attacked is the run's, heads, answers and all."""

import json

import pytest
import torch
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.evaluation.robustness import assault
from perdure.platform.execution.execute import execute
from perdure.platform.figures.adversarial import drawn
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.safe_names import metric_name
from perdure.platform.tracking import mlflow_client
from perdure.strategies.attacks.evaluate import attack
from perdure.strategies.training.plan import Plan

from ...servers import free_port


@pytest.fixture
def made(tmp_path):
    """Makes runs in a home of their own: (home, run, accuracy on every experience as the run itself found it)."""

    def make(strategy, stream="split(digits)", model="mlp(32)"):
        site = Site(str(tmp_path / "home"))
        run = Run(strategy, stream, model, plan=Plan(epochs=2, batch_size=32)).normal()
        *_, last, _ = execute(run, site, Data(site).of(run))
        return site.home, run, last.row["accuracy"]

    return make


@pytest.mark.parametrize(
    ("strategy", "stream"),
    [
        ("rehearsal(100)", "split(digits)"),
        ("icarl(100)", "split(digits)"),
        ("xdg", "split(digits, protocol='task')"),
        ("naive", "rotated(digits, 2)"),
    ],
)
def test_what_is_attacked_is_the_run_as_it_answers(strategy, stream, made):
    home, run, accuracy = made(strategy, stream)
    (whole,) = assault(run.id[:8], ["pgd(0.2, steps=5)"], home=home, samples=10_000).blows
    assert whole.clean == pytest.approx(accuracy, abs=1e-6)
    assert all(r <= c for r, c in zip(whole.robust, whole.clean, strict=True))
    assert sum(whole.robust) < sum(whole.clean) and whole.picture and whole.picture.stat().st_size > 5000
    assert assault(run.id, ["pgd(0.2, steps=5)"], home=home, samples=10_000).blows[0].robust == whole.robust


def test_surrogates_are_runs_and_known_the_next_time(made):
    home, run, _ = made("rehearsal(100)")
    told = [
        assault(run.id, ["pgd(0.2)"], threat, home=home, samples=100).blows[0] for threat in ("white", "gray(5, 6)")
    ]
    assert told[0].measures["robust_accuracy"] < told[1].measures["robust_accuracy"]
    runs = {p.name for p in Site(home).runs.iterdir()}
    assert len(runs) == 3
    assault(run.id, ["pgd(0.2)"], "transfer(mlp(16), seeds=(5,))", home=home, samples=100)
    assert len({p.name for p in Site(home).runs.iterdir()} - runs) == 1


def test_the_command_prints_a_table_and_json(made):
    home, run, _ = made("naive")
    words = [
        "attack",
        "fgsm(0.2)",
        "square(0.2, queries=20)",
        "--run",
        run.id,
        "--home",
        home,
        "--samples",
        "50",
        "--no-tracking",
    ]
    told = CliRunner().invoke(main.app, words)
    assert told.exit_code == 0, told.output
    for part in (
        "naive on split(digits), mlp(32), seed 0; threat: white",
        "robust %",
        "square(0.2, queries=20)",
        "picture:",
    ):
        assert part in told.stdout
    known = json.loads(CliRunner().invoke(main.app, [*words, "--json"]).stdout)
    told = known["attacks"]
    assert [k["attack"] for k in told] == words[1:3] and len(told[0]["robust"]) == 5
    assert told[1]["measures"]["queries"] <= 20
    for bad, said in (
        (["--threat", "nobody"], "unknown name 'nobody'"),
        (["--run", "zz"], "expected the id of one run"),
    ):
        refused = CliRunner().invoke(main.app, [*words, *bad])
        assert refused.exit_code == 2 and said in refused.stderr


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    from perdure.platform.runs.record import begin

    site = Site(str(tmp_path))
    run = Run().normal()
    begin(run, site)
    with pytest.raises(ValueError, match="is not finished; go on with it first"):
        assault(run.id, ["pgd"], home=site.home)


def test_a_picture_shows_clean_changed_and_attacked():
    x, y = torch.rand(12, 3, 6, 6), torch.arange(12) % 4
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 4))
    got = attack(net, x, net(x).argmax(1), "pgd(0.3)")
    figure = drawn(got, "pgd(0.3)")
    told = [text.get_text() for text in figure.axes[0].texts]
    count = min(8, int(got.fooled.sum()))
    rows = got.fooled.nonzero().flatten()[:count].tolist()
    assert told == [str(int(v)) for row in rows for v in (got.before[row], got.after[row])] and len(y) == 12


def test_shards_on_a_fleet_come_to_the_same_as_one_process(made):
    home, run, _ = made("rehearsal(100)", model="convnet(8)")
    texts = ["pgd(0.15, steps=5)", "cw(steps=20, searches=2)", "universal(0.2, epochs=2)"]
    here = assault(run.id, texts, home=home, samples=300)
    kept = (Site(home).folder(run) / "attacks" / here.assault.id / "attacks.json").read_text()
    progress = []
    there = assault(run.id, texts, home=home, samples=300, here=False, slots=2, hear=lambda *now: progress.append(now))
    for one, two in zip(here.blows, there.blows, strict=True):
        assert (one.clean, one.robust) == (two.clean, two.robust)
        assert one.measures | {"seconds": 0} == two.measures | {"seconds": 0}
    assert len([p for p in progress if p[0] == "pgd(0.15, steps=5)"]) == 4 and progress[-1][1:] == (300, 300)
    assert json.loads(kept)["run"] == run.id


def test_report_and_mlflow_tell_of_an_attack(made, tmp_path):
    home, run, _ = made("naive", model="convnet(8)")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    told = [assault(run.id, ["pgd(0.2)"], home=home, samples=60, tracking_uri=uri) for _ in range(2)]
    page = told[0].report.read_text()
    assert "What is left" in page and "data:image/png" in page and told[0].assault.line.replace("'", "&#39;") in page
    client = mlflow_client.client(uri)
    (known,) = client.search_runs(["1"])  # the second time it was there
    assert known.data.tags["perdure.attacked"] == run.id and known.data.params["method"] == "naive"
    name = metric_name("pgd(0.2)/robust_accuracy")
    assert known.data.metrics[name] == told[1].blows[0].measures["robust_accuracy"]
    assert {a.path for a in client.list_artifacts(known.info.run_id)} == {"figures", "report.html", "attacks.json"}
    away = assault(run.id, ["fgsm"], home=home, samples=60, tracking_uri=f"http://127.0.0.1:{free_port()}")
    assert "MLflow at http://127.0.0.1:" in away.undelivered and "does not take it (API request" in away.undelivered

"""Attacks within a run: made after every experience, told beside its accuracy, and no part of what it learns."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.api.compare import compare
from perdure.platform.evaluation.robustness import assault
from perdure.platform.execution.execute import execute
from perdure.platform.runs.command_line import line
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.journal import Journal, robustness, under
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.safe_names import file_name, metric_name
from perdure.platform.tracking import mlflow_client
from perdure.strategies.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32)


def made(site, attacks, strategy="rehearsal(50)", stream="split(digits)", model="mlp(32)", until=None):
    run = Run(strategy, stream, model, plan=PLAN, attacks=attacks, attack_samples=40).normal()
    events = execute(run, site, Data(site).of(run))
    if until is None:
        assert [type(e).__name__ for e in events][-1] == "Finished"
    else:
        for _ in range(until):
            next(events)
        events.close()
    return run, Journal(site.folder(run))


def test_what_a_run_tells_is_what_an_attack_on_its_last_checkpoint_finds(tmp_path):
    site = Site(str(tmp_path))
    texts = ("pgd(0.15, steps=5)", "universal(0.2, epochs=3)", "square(0.2, queries=30)")
    run, journal = made(site, texts, model="convnet(8, 8)")
    found = assault(run.id, texts, home=site.home, samples=40 * 5, seed=run.seed)
    told = under(journal.rows())
    for blow in found.blows:
        assert told[blow.attack][-1] == list(blow.robust)
        assert [len(row) for row in told[blow.attack]] == [1, 2, 3, 4, 5]
        assert robustness(journal.rows())[blow.attack]["success"] == blow.measures["success"]
    assert told["pgd(0.15, steps=5)"] != told["square(0.2, queries=30)"]


def test_attacks_change_nothing_of_what_is_learned(tmp_path):
    site = Site(str(tmp_path))
    (_, plain), (_, attacked) = (
        made(site, (), "icarl(50)", model="convnet(8, 8)"),
        made(site, ("fgsm", "deepfool"), "icarl(50)", model="convnet(8, 8)"),
    )
    without = [{k: v for k, v in row.items() if k != "attacked"} for row in attacked.rows()]
    assert without == plain.rows()


def test_a_stopped_run_goes_on_to_the_same_journal(tmp_path):
    whole, parts = Site(str(tmp_path / "whole")), Site(str(tmp_path / "parts"))
    _, one = made(whole, ("pgd(steps=5)",))
    made(parts, ("pgd(steps=5)",), until=3)
    _, two = made(parts, ("pgd(steps=5)",))
    assert one.path.read_bytes() == two.path.read_bytes()


def test_experiences_not_met_yet_are_not_attacked(tmp_path):
    _, journal = made(Site(str(tmp_path)), ("fgsm",), stream="rotated(digits, 3)")
    assert [len(row["accuracy"]) for row in journal.rows()] == [3, 3, 3]
    assert [len(row) for row in under(journal.rows())["fgsm"]] == [1, 2, 3]


def test_a_run_is_another_by_its_attacks_but_not_without_any():
    assert Run(attack_samples=7).id == Run().id != Run(attacks=("pgd",)).id
    assert Run(attacks=("pgd(0.1)", "pgd")).normal().attacks == ("pgd",)
    told = line(["naive"], Run(attacks=("pgd(eps=0.2)", "fgsm")).normal(), [0])
    assert "--attack 'pgd(0.2)' --attack fgsm --attack-samples 200" in told


@pytest.mark.parametrize(
    ("strategy", "on", "attacks", "said"),
    [
        ("naive", "split(digits)", ["trigger(12)"], "aims at class 12, and split\\(digits\\) has 0 to 9"),
        ("naive", "swiss_roll", ["spatial"], "spatial is for images"),
        ("avalanche('Naive')", "split(digits)", ["pgd"], "keeps its model to itself"),
        ("naive", "split(digits)", ["gpd"], "did you mean 'pgd'"),
    ],
)
def test_attacks_that_do_not_fit_are_refused_before_anything_is_learned(strategy, on, attacks, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        compare([strategy], on, 1, attacks=attacks, home=str(tmp_path), here=True, tracking=False)
    assert not list((tmp_path / "runs").glob("*/journal.jsonl"))


def test_league_report_and_mlflow_tell_of_attacks(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    words = ["compare", "naive", "rehearsal(50)", "--on", "backdoored(split(digits), 0)", "--epochs=1", "--seeds=2"]
    words += ["--attack", "pgd(eps=0.1, steps=3)", "--attack", "trigger", "--attack-samples", "30", "--here"]
    words += ["--home", str(tmp_path / "home"), "--tracking-uri", uri]
    shown = CliRunner().invoke(main.app, words)
    assert shown.exit_code == 0, shown.output
    for part in ("pgd(eps=0.1,", "steps=3) %", "trigger %"):  # titles are broken over lines
        assert part in " ".join(shown.stdout.split()), shown.stdout
    known = json.loads(CliRunner().invoke(main.app, [*words, "--json"]).stdout)
    best = known["league"][0]["under"]
    assert set(best) == {"pgd(steps=3)", "trigger"}
    runs = [r["robust"]["trigger"] for r in known["runs"] if r["strategy"] == known["league"][0]["strategy"]]
    mean = sum(sum(robust[-1]) / 5 for robust in runs) / 2
    assert best["trigger"]["robust_accuracy"]["mean"] == pytest.approx(mean)
    page = Path(known["report"]).read_text()
    assert "Under attack" in page and "under pgd(eps=0.1, steps=3) %" in page and "poison_success" in page
    assert page.count("<svg") == 3 + 2 * 3 + 2  # accuracy, either attack, and how far the poisoner got
    client = mlflow_client.client(uri)
    children = [r for r in client.search_runs(["1"]) if "perdure.run" in r.data.tags]
    told = {r.data.params["method"]: r.data.metrics for r in children if r.data.params["seed"] == "0"}
    first = next(r for r in known["runs"] if r["strategy"] == "naive" and r["seed"] == 0)
    robust = told["naive"][metric_name("pgd(steps=3)/robust_accuracy")]
    assert robust == pytest.approx(sum(first["robust"]["pgd(steps=3)"][-1]) / 5)
    assert {"trigger/success", "trigger/robust_forgetting", "trigger/experience_05"} <= set(told["naive"])
    held = {a.path for a in client.list_artifacts(children[0].info.run_id)}
    assert {"robust_trigger.csv", f"{file_name('robust_pgd(steps=3)')}.csv", "accuracy_matrix.csv"} <= held

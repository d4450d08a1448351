"""What a team finds in MLflow: whose a run is, of which commit, in which experiment, and the numbers of a study."""

import re
import subprocess
from dataclasses import replace

import pytest

import perdure
from perdure.platform.runs.workspace import Site
from perdure.platform.tracking.mlflow_client import KIND, client, experiment
from perdure.platform.tracking.provenance import origin

from .commands import command, known, made

SHORT = {"iterations": 4, "batch": 2, "every": 2, "judged": 4, "tested": 4, "adapted": (0, 1), "here": True}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Two commands that share two runs, and one that meta-learns, in one MLflow."""
    folder = tmp_path_factory.mktemp("team")
    uri, site = f"sqlite:///{folder}/mlflow.db", Site(str(folder / "home"))
    first, then = command(0, 1), command(0, 1, strategies=["naive", "rehearsal(20)"])
    for asked in (first, then):
        assert made(site, uri, asked).undelivered == ""
    perdure.meta(["reptile"], "sinusoid", 1, model="mlp(8)", home=site.home, tracking_uri=uri, **SHORT)
    return uri, first, then


def test_parents_have_the_parameters_and_the_means_of_their_study(there):
    uri, first, then = there
    _, parents, children = known(uri)
    alone, both = parents[first.id].data, parents[then.id].data
    assert both.params["method"] == "naive, rehearsal(20)" and both.params["seed"] == "0, 1"
    mean = sum(children[run.id].data.metrics["accuracy"] for run in first.runs) / 2
    assert alone.metrics["accuracy"] == alone.metrics["accuracy/naive"] == pytest.approx(mean)
    assert both.metrics["accuracy/naive"] == pytest.approx(mean) and "accuracy" not in both.metrics
    assert alone.metrics["accuracy_ci95"] > 0 and any(k.startswith("accuracy/rehearsal") for k in both.metrics)
    (meta,) = (p.data for p in parents.values() if p.data.params["method"].startswith("reptile"))
    assert meta.metrics["test_loss_after_1"] > 0


def test_children_of_every_kind_have_the_same_names_for_the_same_parameters(there):
    uri, *_ = there
    _, _, children = known(uri)
    assert len(children) == 5
    for child in children.values():
        assert {"method", "on", "model", "optimizer", "seed", "batch_size"} <= child.data.params.keys()
        assert not {"strategy", "learner", "stream", "episodes", "batch"} & child.data.params.keys()


def test_a_shared_run_is_there_once_and_says_whose_it_is_too(there):
    uri, first, then = there
    _, parents, children = known(uri)
    of_both, own = children[first.runs[0].id].data.tags, children[then.runs[1].id].data.tags
    mine, other = parents[first.id].info.run_id, parents[then.id].info.run_id
    assert of_both["mlflow.parentRunId"] == mine and of_both[f"perdure.also.{then.id}"] == other
    assert f"/runs/{other}?workflowType=machine_learning)" in of_both["mlflow.note.content"]
    assert own["mlflow.parentRunId"] == other and "mlflow.note.content" not in own


def test_the_experiment_is_one_of_models_and_runs_say_who_made_them_with_what(there):
    uri, first, _ = there
    to, parents, children = known(uri)
    assert to.get_experiment(experiment(to, uri)).tags[KIND[0]] == KIND[1] == "custom_model_development"
    for run in (parents[first.id], children[first.runs[0].id]):
        tags = run.data.tags
        assert tags["mlflow.user"] and tags["perdure.host"] and tags["perdure.version"] == perdure.__version__
        assert all(re.match(r"\d+\.\d+", tags[f"perdure.{name}"]) for name in ("torch", "ray", "python"))


def test_an_experiment_that_was_there_before_is_marked_once(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    to = client(uri)
    into = to.create_experiment("ours")
    assert experiment(to, uri, "ours") == into
    assert to.get_experiment(into).tags[KIND[0]] == KIND[1]
    to.set_experiment_tag(into, KIND[0], "finetuning")
    assert experiment(to, uri, "ours") == into and to.get_experiment(into).tags[KIND[0]] == "finetuning"


def test_the_commit_of_the_working_folder_is_told_and_whether_it_was_changed(tmp_path, monkeypatch):
    def git(*words):
        own = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
        return subprocess.run(["git", *own, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "mlflow.source.git.commit" not in origin()
    git("init", "-b", "mine")
    (tmp_path / "own.py").write_text("1")
    git("add", "own.py")
    git("commit", "-m", "one")
    told = {"commit": git("rev-parse", "HEAD").strip(), "branch": "mine", "dirty": "false"}
    assert {f"mlflow.source.git.{k}": v for k, v in told.items()}.items() <= origin().items()
    (tmp_path / "own.py").write_text("2")
    assert origin()["mlflow.source.git.dirty"] == "true"


def test_commands_go_to_the_experiment_that_was_asked_for_late_ones_too(tmp_path, monkeypatch):
    uri, site = f"sqlite:///{tmp_path}/mlflow.db", Site(str(tmp_path / "home"))

    def asked(seed, name):
        return replace(command(seed), how={"experiment": name})

    with monkeypatch.context() as away:

        def nobody(self):
            raise ConnectionRefusedError("nobody is there")

        away.setattr("perdure.platform.tracking.mlflow_client.Server.open", nobody)
        away.setattr("perdure.platform.tracking.mlflow_tracker.GREETING", 0.1)
        assert "is away" in made(site, uri, asked(0, "ours"), patience=0.2).undelivered
    assert made(site, uri, asked(1, "theirs")).undelivered == ""
    to = client(uri)
    into = {name: to.get_experiment_by_name(name).experiment_id for name in ("ours", "theirs")}
    for name, seed in (("ours", "0"), ("theirs", "1")):
        runs = to.search_runs([into[name]])
        assert [r.data.params["seed"] for r in runs] == [seed, seed] and {r.info.status for r in runs} == {"FINISHED"}
    to.delete_experiment(into["ours"])
    common = {"epochs": 1, "here": True, "home": site.home, "tracking_uri": uri}
    with pytest.raises(ValueError, match=f"the experiment 'ours' .id {into['ours']}. is deleted; restore it"):
        perdure.compare(["naive"], seeds=[2], experiment="ours", **common)
    assert to.get_experiment_by_name("perdure") is None

"""Versions in MLflow's model registry: one for every arrival, an alias by the rule, models that load by themselves."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
import torch

import perdure
from perdure.platform.live import model_registry
from perdure.platform.live.model_registry import Registration, Registry
from perdure.platform.live.state import Kept
from perdure.platform.runs.journal import matrix
from perdure.platform.storage.sealed import read_sealed
from perdure.platform.tracking import mlflow_client
from perdure.strategies.metrics import forgetting

from ...servers import free_port, guard, mlflow

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(0)
CENTRES = RNG.integers(0, 255, (6, 1, 4, 4))


def arrival(*classes, n=60):
    y = np.resize(np.array(classes), n)
    return (CENTRES[y] + RNG.integers(-20, 20, (n, 1, 4, 4))).clip(0, 255).astype(np.uint8), y


ARRIVALS = [arrival(0, 1), arrival(0, 1, 2), arrival(3, 4, n=200)]  # the naive learner forgets at the last


def follow(state, uri, arrivals=3, **how):
    heard = []
    common = {"strategy": "naive", "classes": 6, "epochs": 10, "model": "mlp(32)", "here": True, "tracking_uri": uri}
    done = perdure.follow(
        lambda: iter(ARRIVALS),
        state=str(state),
        arrivals=arrivals,
        register="kinds",
        hear=lambda what, of: heard.append(of) if what == "said" else None,
        **(common | how),
    )
    return done, heard


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A state whose three arrivals are in a registry, its URI, and what was said."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    follow(folder / "state", uri, arrivals=2)
    done, heard = follow(folder / "state", uri)
    assert done.undelivered == ""
    return folder / "state", uri, heard


def versions(uri):
    client = mlflow_client.client(uri)
    return sorted(client.search_model_versions("name = 'kinds'"), key=lambda v: int(v.version))


def run_of(uri):
    client = mlflow_client.client(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("perdure").experiment_id])
    return client, run


def test_every_arrival_is_a_version_and_the_alias_moves_while_no_class_falls(registered):
    _, uri, heard = registered
    found = versions(uri)
    assert [v.tags["perdure.arrival"] for v in found] == ["1", "2", "3"]
    assert str(mlflow_client.client(uri).get_model_version_by_alias("kinds", "champion").version) == "2"
    assert found[1].tags["alias.champion"] == "champion is version 2"
    told = found[2].tags["alias.champion"]
    assert told.startswith("champion stays with version 2: class 0 fell from 100.0% to 0.0%, class 1 fell")
    assert f"kinds version 3: {told}" in heard


def test_one_run_has_every_row_once_and_the_pictures(registered):
    state, uri, _ = registered
    client, run = run_of(uri)
    rows = Kept(state).journal.rows()
    for key, of in (("accuracy/arrival_0001", lambda r: r["accuracy"][0]), ("loss", lambda r: r["loss"])):
        history = client.get_metric_history(run.info.run_id, key)
        assert [(m.step, m.value) for m in history] == [(r["experience"] + 1, of(r)) for r in rows]
    assert client.get_metric_history(run.info.run_id, "accuracy/class_3")[0].step == 3
    assert run.info.status == "FINISHED" and run.data.params["method"] == "naive"
    names = {a.path for a in client.list_artifacts(run.info.run_id, "figures")}
    pictures = {f"{p.stem}.png" for p in (state / "pictures").glob("*.png")}
    assert names == {f"figures/{name}" for name in pictures}
    assert pictures == {"accuracy_over_arrivals.png", "accuracy_by_class.png", "accuracy_matrix.png"}


def test_what_a_crash_has_hidden_is_found_and_not_made_twice(registered, tmp_path):
    """As if the process had died after each version was made and before that was written down."""
    state, uri, _ = registered
    kept = Kept(state)
    (path,) = state.glob("mlflow-*.json")
    known = read_sealed(path)
    before = [(v.version, v.tags) for v in versions(uri)]
    path.unlink()
    for number in range(3):
        (kept.models / f"{number:05d}").mkdir(parents=True)
    following = perdure.platform.live.settings.Following.of(
        json.loads((state / "follow.json").read_text())["following"]
    )
    created = json.loads((state / "follow.json").read_text())["created"]
    of = Registry(kept, following, created, uri, Registration("kinds"))
    of.deliver("FINISHED")
    assert of.problem == "" and of.known == known
    assert [(v.version, v.tags) for v in versions(uri)] == before
    test_one_run_has_every_row_once_and_the_pictures(registered)


def test_the_alias_is_where_a_person_has_put_it(registered):
    """Moved back by hand, it is that version which a new one is held against; of another make, it stays."""
    state, uri, _ = registered
    client = mlflow_client.client(uri)
    of = _opened(state, uri)
    rows = Kept(state).journal.rows()
    assert of._fallen("3", rows) == ""
    client.create_registered_model("other")
    foreign = client.create_model_version("other", str(state))
    lone = replace(of, registration=Registration("other"))
    lone._open()
    assert lone._fallen(str(foreign.version), rows).startswith("it cannot be asked what it answers")


def _opened(state, uri):
    known = json.loads((state / "follow.json").read_text())
    following = perdure.platform.live.settings.Following.of(known["following"])
    of = Registry(Kept(state), following, known["created"], uri, Registration("kinds"))
    of._open()
    return of


def test_while_mlflow_is_away_models_wait(tmp_path):
    state = tmp_path / "state"
    done, heard = follow(state, f"http://127.0.0.1:{free_port()}", arrivals=2)
    assert len(done.rows) == 2 and done.undelivered
    assert len([said for said in heard if "does not take it" in said]) == 1
    assert sorted(p.name for p in Kept(state).models.iterdir()) == ["00000", "00001"]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done, _ = follow(state, uri, arrivals=2)
    assert done.undelivered == "" and [v.tags["perdure.arrival"] for v in versions(uri)] == ["1", "2"]
    assert list(Kept(state).models.iterdir()) == []


def test_what_is_sent_of_an_arrival_does_not_grow_with_the_stream(registered, monkeypatch, tmp_path):
    rows = Kept(registered[0]).journal.rows()
    points = model_registry.Curves()
    many = [rows[-1] | {"accuracy": [0.5] * n, "baseline": []} for n in range(1, 101)]
    counts = [len(points(row)) for row in many]
    assert counts[-1] == counts[10] and counts[99] < 40
    sent = model_registry.Curves()
    told = [sent(row) for row in rows]
    assert [t["accuracy/arrival_0001"] for t in told] == [row["accuracy"][0] for row in rows]
    assert told[-1]["forgetting"] == pytest.approx(forgetting(matrix(rows)))


def test_a_refusal_of_curves_holds_up_no_version(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def refusing(self, run, metrics=(), **other):
        if metrics:
            raise MlflowException("no metric of yours", error_code=INVALID_PARAMETER_VALUE)
        taken(self, run, **other)

    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    taken = MlflowClient.log_batch
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", refusing)
        done, heard = follow(tmp_path / "state", uri, arrivals=2)
    assert "no metric of yours" in done.undelivered and len([s for s in heard if "no metric" in s]) == 1
    assert len(versions(uri)) == 2 and run_of(uri)[1].info.status == "FINISHED"
    done, _ = follow(tmp_path / "state", uri, arrivals=2)  # gone on with, it is sent
    client, run = run_of(uri)
    assert done.undelivered == "" and len(client.get_metric_history(run.info.run_id, "loss")) == 2


def test_an_mlflow_that_refuses_is_told_before_anything_is_learned(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow_client.client(uri)
    client.delete_experiment(client.create_experiment("perdure"))
    with pytest.raises(ValueError, match="the experiment 'perdure' .* is deleted; restore it .* --no-tracking"):
        follow(tmp_path / "state", uri)
    assert Kept(tmp_path / "state").journal.rows() == []


ALONE = """
import sys, numpy as np, mlflow
sys.modules["perdure"] = None  # whoever imports it is refused
mlflow.set_tracking_uri(sys.argv[1])
paths = list(sys.path)
x = np.load(sys.argv[2])
model = mlflow.pyfunc.load_model("models:/kinds/2")
np.save(sys.argv[3], model.predict(x))
import torch
with torch.no_grad():
    again = mlflow.pytorch.load_model("models:/kinds/2")(torch.from_numpy(x)).numpy()
assert np.array_equal(again, model.predict(x)) and model.predict(x[:1]).shape == (1, 6)
try:
    model.predict(x.astype(np.float32))
except mlflow.exceptions.MlflowException as e:
    assert "uint8" in str(e)
else:
    raise AssertionError("it took what its signature does not")
assert [name for name in sys.modules if name.partition(".")[0] == "perdure"] == ["perdure"]
assert sys.path == paths, "the model brought code of its own"
"""


def test_a_version_answers_in_a_process_that_has_neither_perdure_nor_pickles(registered, tmp_path):
    state, uri, _ = registered
    taken = [Kept(state).taken(j) for j in range(2)]
    x, y = (torch.cat([t[k] for t in taken]) for k in ("held_x", "held_y"))
    np.save(tmp_path / "x.npy", x.numpy())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    words = [sys.executable, "-P", "-c", ALONE, uri, str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    told = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    outputs = torch.from_numpy(np.load(tmp_path / "y.npy"))
    assert outputs.dtype == torch.float32 and outputs.shape == (len(x), 6)
    assert (outputs[:, 3:] == -1e9).all() and (outputs[:, :3] > -1e9).all()  # classes met by then, and no other
    right = (outputs.argmax(1) == y).double().mean().item()
    counts = Kept(state).journal.rows()[1]["classes"].values()
    assert right == pytest.approx(sum(hits for _, hits in counts) / sum(count for count, _ in counts))


ANOTHER = """
import sys, numpy as np, mlflow
sys.modules["perdure"] = None  # whoever imports it is refused
mlflow.set_tracking_uri(sys.argv[1])
x = np.load(sys.argv[2])
answers = mlflow.pyfunc.load_model("models:/kinds@champion").predict(x)
import torch
with torch.no_grad():
    assert np.array_equal(mlflow.pytorch.load_model("models:/kinds@champion")(torch.from_numpy(x)).numpy(), answers)
np.save(sys.argv[3], answers)
try:
    mlflow.MlflowClient().set_registered_model_alias("kinds", "champion", 1)
except mlflow.exceptions.MlflowException as e:
    assert "denied" in str(e).lower(), e
else:
    raise AssertionError("who may only read has moved the alias")
"""


def test_another_user_loads_the_champion_from_the_teams_server(tmp_path, monkeypatch):
    """Who may read signs in as himself, and gets artifacts through the server: of its folder he knows nothing."""
    port, state, there = free_port(), tmp_path / "state", tmp_path / "server"
    there.mkdir()
    uri, login = (
        f"http://127.0.0.1:{port}",
        {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "one long word"},
    )
    with mlflow(there, port, ["--app-name", "basic-auth"], **guard(there, login["MLFLOW_TRACKING_PASSWORD"])):
        for name, value in login.items():
            monkeypatch.setenv(name, value)
        done, heard = follow(state, uri, arrivals=2, epochs=3)
        assert done.undelivered == "" and heard[-1] == "kinds version 2: champion is version 2"
        made = {"username": "reader", "password": "another long word"}
        asked = requests.post(f"{uri}/api/2.0/mlflow/users/create", json=made, auth=tuple(login.values()), timeout=60)
        assert asked.status_code == 200, asked.text
        reader = dict(zip(login, made.values(), strict=True))
        x = Kept(state).taken(0)["held_x"]
        np.save(tmp_path / "x.npy", x.numpy())
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | reader
        environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        words = [sys.executable, "-P", "-c", ANOTHER, uri, str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
        told = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    assert np.load(tmp_path / "y.npy").shape == (len(x), 6)


def test_what_is_served_is_what_the_strategy_answers(tmp_path):
    """The nearest mean, where that is the classifier, and not the model alone."""
    perdure.follow(
        lambda: iter(ARRIVALS[:2]),
        "icarl(30)",
        state=str(tmp_path / "s"),
        classes=6,
        epochs=2,
        model="mlp(32)",
        here=True,
        register="kinds",
        tracking_uri=f"http://127.0.0.1:{free_port()}",
    )
    from mlflow import pytorch

    kept = Kept(tmp_path / "s")
    model = pytorch.load_model(str(kept.models / "00001"))
    hits = count = 0
    for j in range(2):
        taken = kept.taken(j)
        hits += int((model(taken["held_x"]).argmax(1) == taken["held_y"]).sum())
        count += len(taken["held_y"])
    told = kept.journal.rows()[1]["classes"].values()
    assert (count, hits) == (sum(c for c, _ in told), sum(h for _, h in told))
    assert model(taken["held_x"]).max() <= 2  # -|f - mean|^2 + 1 of unit vectors

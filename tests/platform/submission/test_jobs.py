"""Command lines as jobs of a cluster that asks for a token."""

import json
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.jobs.commands import submit as submitting
from perdure.platform.submission import jobs
from perdure.platform.submission import parcel as jobs_parcel
from perdure.platform.submission.jobs import Cluster, token
from perdure.platform.submission.parcel import Parcel, packed
from perdure.strategies.names import STRATEGIES

from ...heads import head

TOKEN = "0123456789abcdef" * 4
PLUGIN = Path(__file__).parents[3] / "examples" / "own_strategy.py"


@pytest.fixture(scope="module")
def address():
    with head(TOKEN) as url:
        yield url


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder and a home without settings or tokens of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN_PATH", "PERDURE_STORAGE", "PERDURE_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    return tmp_path


def perdure(*words: str):
    return CliRunner().invoke(main.app, [*words], env={"COLUMNS": "140"})


def id_of(told) -> str:
    return re.search(r"perdure-[0-9a-f]{12}_\d+", told.stderr).group()


def test_a_line_runs_there_with_its_recipe_and_plugin(address, folder, monkeypatch):
    """Followed to its end; results and MLflow are in the storage; known to list, status and logs."""
    Path("own.py").write_text(PLUGIN.read_text())
    Path("mine.yaml").write_text("strategies: [naive, l2(0.1)]\nplugin: own.py\nseeds: 1\nepochs: 1\nslots: 2\n")
    at = ["--address", address]
    words = ["submit", *at, "--storage", str(folder / "kept"), "--", "compare", "--recipe", "mine.yaml"]
    told = perdure(*words)
    assert told.exit_code == 0, told.output
    assert "[2/2]" in told.stdout and {"naive", "l2"} <= {
        line.split()[0] for line in told.stdout.splitlines() if "±" in line or " 0 B" in line or "kB" in line
    }
    assert list((folder / "kept").glob("commands/*/report.html"))
    assert (folder / "kept" / "mlflow.db").exists()
    assert len(list((folder / "kept" / "runs").glob("*/finished"))) == 2
    id = id_of(told)
    listed = perdure("job", "list", *at)
    assert f"{id}  SUCCEEDED" in listed.stdout and "perdure compare --recipe mine.yaml" in listed.stdout
    status = perdure("job", "status", id[:16], *at)
    assert status.exit_code == 0 and "SUCCEEDED" in status.stdout
    assert f"next:   perdure fetch {id} --address {address}" in perdure("job", "logs", id, *at).stdout
    monkeypatch.delitem(STRATEGIES, "l2", raising=False)
    came = perdure("fetch", id, *at)  # and is no mystery where its plugin is not loaded
    assert came.stdout.startswith(f"2 of 2 runs are finished\nreport: {folder}/{id}/report.html\nnext:"), came.output


def test_a_failure_comes_back_as_words_and_code(address):
    line = ["run", "naive", "--on", "split(digits, 20)"]  # ten classes, which is known where the data are
    told = perdure("submit", "--address", address, "--", *line)
    assert told.exit_code == 2, told.output
    assert "at most 10, the classes of the data" in told.stdout and "failed with code 2" in told.stderr
    id = id_of(told)
    assert perdure("job", "status", id, "--address", address).exit_code == 2
    again = perdure("submit", "--address", address, "--no-wait", "--", *line)
    assert id_of(again) == id.replace("_1", "_2")  # it has ended: a new one


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Ray lets go of a socket unclosed
def test_a_running_job_is_joined_left_and_stopped(address, folder, monkeypatch):
    words = ["run", "naive", "--epochs", "100000", "--save-every", "0.2", "--no-tracking"]
    at = ["--address", address]
    first = perdure("submit", *at, "--no-wait", "--", *words)
    id = id_of(first)
    end = time.monotonic() + 120
    while not list(folder.glob("perdure-runs/runs/*/checkpoint-*")):
        assert time.monotonic() < end, perdure("job", "logs", id, *at).output
        time.sleep(0.3)

    def interrupted(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(submitting, "_print", interrupted)
    left = perdure("submit", *at, "--", *words)  # typed again: joined, followed and left by Ctrl-C
    assert left.exit_code == 130 and f"{id} is running already" in left.stderr
    assert f"{id} goes on; follow it with: perdure job logs {id} --follow --address {address}" in left.stderr
    assert "RUNNING" in perdure("job", "status", id, *at).stdout
    stopped = perdure("job", "stop", id, *at)
    assert stopped.exit_code == 0 and "STOPPED" in stopped.stdout
    assert perdure("job", "status", id, *at).exit_code == 130
    stopped = f"stopped; go on with: perdure submit --address {address} -- resume"
    assert stopped in perdure("job", "logs", id, *at).stdout
    assert list(folder.glob("perdure-runs/commands/*/report.html"))


def test_results_go_to_remote_storage_from_actors(address, folder):
    url = f"file://{folder}/bucket"
    at = ["--address", address]
    words = ["compare", "naive", "--seeds", "2", "--epochs", "1", "--slots", "2", "--no-tracking"]
    told = perdure("submit", *at, "--storage", url, "--", *words)
    assert told.exit_code == 0, told.output
    here = perdure("compare", *words[1:], "--home", url, "--json")  # from another machine: known from before
    assert here.stderr.count("known from before") == 2, here.output
    assert {run["status"] for run in json.loads(here.stdout)["runs"]} == {"finished"}


def test_data_that_are_sent_are_found_by_the_same_paths(address, folder):
    """By a run of actors too, with a plugin that imports from beside it; by a path in full, and under --data."""
    images_of(folder / "given" / "photos")
    (folder / "given" / ".gitignore").write_text("photos\n")
    Path("beside.py").write_text("from perdure.strategies.base import Naive\n")
    Path("own.py").write_text(
        "import dataclasses, perdure, beside\n@dataclasses.dataclass(frozen=True)\nclass Mine(beside.Naive): pass\n"
        "perdure.register('mine', Mine)\n"
    )
    at, more = ["--address", address, "--storage", str(folder / "kept")], ["--epochs", "1", "--no-tracking"]
    line = ["compare", "mine", "--plugin", "own.py", "--seeds", "2", "--slots", "2", *more]
    told = perdure(
        "submit", *at, "--send", "given", "--", *line, "--on", "split(images('photos'), 2)", "--data", "given"
    )
    assert told.exit_code == 0, told.output
    full = str(folder / "given" / "photos")
    told = perdure("submit", *at, "--send", full, "--", "run", "naive", "--on", f"split(images('{full}'), 2)", *more)
    assert told.exit_code == 0, told.output


def images_of(folder: Path) -> None:
    from PIL import Image

    for n in range(8):
        (folder / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 20 * n).save(folder / "ab"[n % 2] / f"{n}.png")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "asks for a token, and there is none here: set RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN": "f" * 64}, "does not take the token that was found here"),
        ({"RAY_AUTH_TOKEN_PATH": "nowhere"}, "RAY_AUTH_TOKEN_PATH names nowhere, which cannot be read"),
        ({"RAY_AUTH_TOKEN_PATH": "empty"}, "RAY_AUTH_TOKEN_PATH names empty, which is empty"),
    ],
)
def test_a_token_that_lacks_or_is_wrong_is_said(address, monkeypatch, given, said):
    Path("empty").touch()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    told = perdure("job", "list", "--address", address)
    assert told.exit_code == 2 and said in told.stderr, told.output
    assert TOKEN not in told.output and "f" * 64 not in told.output


def test_a_token_is_found_in_the_environment_then_in_files(folder, monkeypatch):
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("third\n")
    (folder / "named").write_text("second\n")
    assert token() == TOKEN
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    assert token() == "third"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "named"))
    assert token() == "second"


def test_a_token_in_a_file_opens_the_cluster(address, folder, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text(TOKEN)
    assert perdure("job", "list", "--address", address).exit_code == 0


def test_a_cluster_that_is_not_there_is_said():
    told = perdure("submit", "--address", "http://127.0.0.1:1", "--", "run", "naive")
    assert told.exit_code == 2 and "no Ray dashboard answers at http://127.0.0.1:1" in told.stderr


def test_files_travel_under_names_of_their_own(folder):
    for name in ("a", "b"):
        Path(name).mkdir()
        Path(name, "own.py").write_text(f"# {name}")
    Path("task.csv").write_text("1,2\n")
    parcel = packed(["compare", "naive", "--plugin", "a/own.py", "--plugin=b/own.py", "--seeds", "2"])
    there = "compare naive --plugin files/own.py --plugin files/2/own.py --seeds 2 --address auto"
    assert list(parcel.words) == there.split()
    assert dict(parcel.files) == {"files/own.py": b"# a", "files/2/own.py": b"# b"}
    assert parcel.line == "perdure compare naive --plugin a/own.py --plugin=b/own.py --seeds 2"
    assert packed(["adapt", "7a1b", "--data", "task.csv"]).words == ("adapt", "7a1b", "--data", "files/task.csv")
    assert packed(["run", "naive", "--data", "/sets"]).words == ("run", "naive", "--data", "/sets", "--address", "auto")
    for own in (["--here"], ["--address", "other:6379"], ["here=true"], ["--workers", "2"]):
        assert packed(["meta", "maml", *own]).words == ("meta", "maml", *own)
    assert packed(["run", "naive", "--workers", "2"]).words[-2:] == ("--address", "auto")


def test_equal_parcels_have_equal_ids(folder):
    Path("own.py").write_text("1")
    first = packed(["run", "naive", "--plugin", "own.py"])
    assert packed(["run", "naive", "--plugin", "own.py"]).id == first.id
    assert packed(["run", "naive", "--plugin", "own.py", "--seed", "1"]).id != first.id
    assert packed(["run", "naive", "--plugin", "own.py"], storage="/other").id != first.id
    Path("own.py").write_text("2")
    assert packed(["run", "naive", "--plugin", "own.py"]).id != first.id


@pytest.mark.parametrize(
    ("words", "how", "said"),
    [
        ([], {}, "expected a command after --"),
        (["ui"], {}, "perdure ui is for this machine"),
        (["submit", "--", "run"], {}, "perdure submit is for this machine"),
        (["run", "naive"], {"runtime": {"pip": ["numpy"]}}, "asks for pip, which hangs for ever"),
        (["run", "naive"], {"runtime": {"uv": ["numpy"]}}, "asks for uv, which hangs for ever"),
        (["run", "--plugin", "nowhere.py"], {}, "nowhere.py was to travel with the command, and cannot be read"),
        (["run", "--recipe", "nowhere.yaml"], {}, "nowhere.yaml was to travel"),
        (["run", "--recipe", "out.yaml"], {"storage": "/shared/runs"}, "/etc/runs leaves the storage of this job"),
        (["run", "--recipe", "up.yaml"], {"storage": "/shared/runs"}, "../runs2 leaves the storage of this job"),
        (["run", "--recipe", "up.yaml"], {"storage": "s3://bucket/runs"}, "../runs2 leaves the storage of this job"),
        (["run", "--home", "/etc/runs"], {"storage": "/shared/runs"}, "/etc/runs leaves the storage"),
        (["run", "--tracking-uri", "http://me:hunter2@host"], {}, r"http://\*\*\*@host holds a password"),
        (["run", "--recipe", "secret.yaml"], {}, "secret.yaml holds a password"),
        (["run"], {"storage": "s3://key:hunter2@bucket"}, r"s3://\*\*\*@bucket holds a password"),
    ],
)
def test_what_could_not_work_there_is_refused_here(words, how, said):
    Path("out.yaml").write_text("home: /etc/runs\n")
    Path("up.yaml").write_text("home: ../runs2\n")
    Path("secret.yaml").write_text("tracking_uri: http://me:hunter2@host\n")
    with pytest.raises(ValueError, match=said) as told:
        packed(words, **how)
    assert "hunter2" not in str(told.value)


def test_packages_are_sent_for_where_there_is_an_index():
    assert packed(["run", "naive"], runtime={"pip": ["numpy"]}, online=True).runtime == {"pip": ["numpy"]}


def test_storage_is_this_folder_only_where_the_cluster_is_this_machine(folder):
    here = packed(["run", "naive"], "http://127.0.0.1:8265").environment
    assert here["PERDURE_STORAGE"] == str(folder / "perdure-runs") and here["PERDURE_MACHINE"]
    there = packed(["run", "naive"], "http://head:8265").environment
    assert "PERDURE_STORAGE" not in there


def test_the_package_goes_along_where_it_is_asked_for(tmp_path):
    jobs_parcel.lay(Parcel(("run",), ("run",), whole=True), tmp_path)
    assert (tmp_path / "perdure" / "__main__.py").exists() and not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("job", "words", "said"),
    [
        ({"PERDURE_STORAGE": "/shared/runs"}, ["--home", "/etc/runs"], "/etc/runs leaves the storage of this job"),
        ({"PERDURE_STORAGE": "/shared/runs"}, ["home=../other"], "../other leaves the storage of this job"),
        ({"PERDURE_STORAGE": "s3://b/runs"}, ["--home", "s3://b/other"], "s3://b/other leaves the storage"),
        ({"PERDURE_STORAGE": "/shared"}, ["--tracking-uri", "sqlite:////tmp/m.db"], "/tmp/m.db leaves the storage"),
        ({"PERDURE_JOB": "perdure-1"}, [], "results would vanish with this job"),
        ({"PERDURE_STORAGE": "s3://b/runs"}, [], "which can hold no database"),
        ({"PERDURE_STORAGE": "/x", "PERDURE_MACHINE": "laptop"}, [], "/x is a folder of laptop"),
    ],
)
def test_what_leaves_the_storage_is_refused_in_the_job(monkeypatch, job, words, said):
    """A recipe may come from anywhere; the job trusts no client."""
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    told = perdure("run", "naive", "--epochs", "1", *words)
    assert told.exit_code == 2
    assert said in " ".join(told.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("storage", "state", "said"),
    [
        ("/shared/runs", "../kinds", "../kinds leaves the storage of this job"),
        ("s3://bucket/runs", "kinds", "expected a folder, which all machines see"),
    ],
)
def test_a_state_that_would_vanish_with_its_job_is_refused_in_the_job(folder, monkeypatch, storage, state, said):
    monkeypatch.setenv("PERDURE_STORAGE", storage)
    told = perdure("follow", str(folder), "--state", state, "--no-tracking")
    assert told.exit_code == 2 and said in " ".join(told.stderr.replace("│", " ").split())


def test_links_out_of_the_storage_are_no_way_out(tmp_path):
    from perdure.platform.storage.locations import within

    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "out").symlink_to("/etc")
    with pytest.raises(ValueError, match="leaves the storage"):
        within("out/runs", str(tmp_path / "kept"))


def test_a_job_that_waits_is_spoken_of(monkeypatch):
    """Ray says nothing of a job that waits for an environment that never comes."""
    monkeypatch.setattr(jobs, "PATIENCE", 0.0)
    waiting = jobs.Job("perdure-1", "PENDING", "perdure run", 0.0, None, "waiting for resources", None)
    ended = jobs.Job("perdure-1", "FAILED", "perdure run", 0.0, 1.0, "", 3)
    states = iter([waiting, waiting, ended])
    cluster = object.__new__(Cluster)
    monkeypatch.setattr(Cluster, "job", lambda self, id: next(states))
    monkeypatch.setattr(Cluster, "logs", lambda self, id: "all of it")
    said, hints = [], []
    assert cluster.follow("perdure-1", said.append, hints.append) == ended
    assert said == ["all of it"] and hints == ["perdure-1 is still waiting for the cluster: waiting for resources"]

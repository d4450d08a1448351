"""What a submitted job has come to, on the laptop: from a folder, an object store, or through the dashboard alone."""

import json
import os
import re
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.jobs.boundary import _fault
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.locations import fetch_line, line_for
from perdure.platform.storage.sealed import Damaged
from perdure.platform.submission import fetch, jobs, print_files

from ...heads import head
from ..storage.test_s3 import store

TOKEN = "fedcba9876543210" * 4
LINE = ["compare", "naive", "rehearsal(20)", "--seeds", "2", "--epochs", "1", "--slots", "1", "--no-tracking"]


@pytest.fixture(scope="module")
def bucket():
    with store() as (url, environment):
        yield url, environment


@pytest.fixture(scope="module")
def cluster(bucket):
    with head(TOKEN, **bucket[1]) as address:
        yield address


@pytest.fixture(autouse=True)
def laptop(tmp_path, monkeypatch):
    """A machine with a token, and no credentials of the object store, nor any that another test has used."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    for name in ("RAY_AUTH_TOKEN_PATH", "PERDURE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def perdure(*words: str):
    return CliRunner().invoke(main.app, [*words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def job(cluster, shared):
    """A finished job, whose results lie in a folder of the cluster."""
    os.environ["RAY_AUTH_TOKEN"] = TOKEN
    told = perdure("submit", "--address", cluster, "--storage", str(shared), "--", *LINE)
    assert told.exit_code == 0, told.output
    return re.search(r"perdure-[0-9a-f]{12}_\d+", told.stderr).group(), told.stdout


def begun(url: str, environment: dict[str, str]) -> set[str]:
    """The runs that have a checkpoint in a store."""
    import s3fs

    fs = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=environment["AWS_ENDPOINT_URL"])
    fs.invalidate_cache()
    return {path.split("/")[-3] for path in fs.glob(f"{url}/runs/*/attempt-*/checkpoint-*")}


def journals(home: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in home.glob("runs/*/journal.jsonl")}


def test_the_end_of_a_job_names_what_to_type_on_the_laptop(job, cluster):
    id, said = job
    assert said.splitlines()[-1] == f"next:   perdure fetch {id} --address {cluster}"
    for useless in ("report:", "perdure ui", "file://", "/report.html"):
        assert useless not in said


def test_status_and_list_tell_how_far_a_job_has_come(job, cluster):
    id, _ = job
    assert f"{id}  SUCCEEDED  4 of 4 runs  perdure compare" in perdure("job", "status", id, "--address", cluster).stdout
    assert "4 of 4 runs  perdure compare" in perdure("job", "list", "--address", cluster).stdout


@pytest.mark.parametrize("visible", [True, False])
def test_a_job_comes_from_the_folder_or_through_the_dashboard(job, cluster, shared, laptop, monkeypatch, visible):
    """Where this machine does not see the folder, in several parcels; then nothing is sent twice."""
    id, _ = job
    if not visible:
        monkeypatch.setattr(fetch, "taken_from", lambda *about: None)
    told = perdure("fetch", id[:16], "--address", cluster)
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[0] == "4 of 4 runs are finished"
    home = laptop / id
    assert journals(home) == journals(shared) and len(journals(home)) == 4
    assert "rehearsal(20)" in (home / "report.html").read_text()
    assert len((home / "table.csv").read_text().splitlines()) == 5
    assert perdure("verify", "--home", str(home)).exit_code == 0
    run = next(iter(journals(home)))
    assert "accuracy" in perdure("show", run, "--home", str(home)).stdout
    gone_on = perdure("resume", "--home", str(home), "--here")
    assert gone_on.exit_code == 0 and gone_on.stderr.count("known from before") == 4, gone_on.output
    (home / "runs" / run / "journal.jsonl").write_text("torn")
    again = perdure("fetch", id, "--address", cluster)
    assert again.exit_code == 0 and journals(home) == journals(shared)
    assert "fetch-" not in perdure("job", "list", "--address", cluster).stdout


def test_files_come_in_parcels(monkeypatch, tmp_path, capsys):
    for name in "abc":
        (tmp_path / name).write_bytes(os.urandom(100))
    monkeypatch.setattr(print_files, "MOST", 150)
    monkeypatch.setenv("PERDURE_STORAGE", str(tmp_path))
    monkeypatch.setattr(fetch, "seen", lambda id, storage: (tmp_path, []))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asked.json").write_text(json.dumps(["a", "b", "c"]))
    print_files.main("perdure-1")
    log = "a warning of somebody's\n" + capsys.readouterr().out
    assert dict(print_files.contents(print_files.printed(log))) == {"a": (tmp_path / "a").read_bytes()}


def test_what_comes_otherwise_than_it_was_sent_is_not_written(tmp_path):
    with pytest.raises(Damaged, match=r"runs/x/run.json came otherwise than it was sent; fetch again"):
        fetch.take([], {"runs/x/run.json": "0" * 64}, lambda names: [("runs/x/run.json", b"{}")], tmp_path)
    with pytest.raises(Damaged, match="was sent and not asked for"):
        fetch.take([], {}, lambda names: [("../out", b"")], tmp_path / "home")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_that_has_come_further_here_stays(tmp_path):
    for where, step in (("there", 5), ("here", 9)):
        run = tmp_path / where / "runs" / "x"
        run.mkdir(parents=True)
        (run / f"checkpoint-00001-{step:09d}-0001.pt").write_text(where)
    there = tmp_path / "there"
    files = fetch.files(there, ["runs/x"])
    made = fetch.take([], files, fetch.read_from(there), tmp_path / "here")
    assert made.kept == ("x",) and len(list((tmp_path / "here").glob("runs/x/*"))) == 1
    back = fetch.files(tmp_path / "here", ["runs/x"])
    assert fetch.take([], back, fetch.read_from(tmp_path / "here"), there).kept == ()
    assert sorted(p.name for p in (there / "runs/x").iterdir()) == [
        "attempt-0001",
        "checkpoint-00001-000000009-0001.pt",
    ]


@pytest.mark.parametrize("fetching", [False, True])
def test_a_driver_killed_with_an_object_store_is_gone_on_with_here_to_the_same_bits(
    cluster, bucket, laptop, monkeypatch, fetching
):
    """By the same line on the laptop, whose home is the store; or from what was fetched through the dashboard."""
    url, environment = bucket
    url = f"{url}/{fetching}"
    words = ["compare", "naive", "rehearsal(20)", "--seeds", "1", "--epochs", "80", "--no-tracking"]
    at = ["--address", cluster]
    told = perdure("submit", *at, "--storage", url, "--no-wait", "--", *words, "--slots", "1", "--save-every", "0.2")
    id = re.search(r"perdure-[0-9a-f]{12}_\d+", told.stderr).group()
    end = time.monotonic() + 300
    while len(begun(url, environment)) < 2:  # into the second run, with a checkpoint of it in the store
        assert time.monotonic() < end, perdure("job", "logs", id, *at).stdout
        time.sleep(0.2)
    (driver,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[1:4] == ["-m", "perdure", "compare"] and url in process.environ().values()
    ]
    driver.kill()
    jobs.Cluster(cluster).follow(id, lambda text: None)
    status = perdure("job", "status", id, *at)
    assert "FAILED  1 of 2 runs  perdure compare" in status.stdout and status.exit_code == 137
    if fetching:
        home = str(laptop / id)
        came = perdure("fetch", id, *at)
        assert came.exit_code == 0 and "is not seen from here" in came.stderr, came.output
        assert came.stdout.startswith("1 of 2 runs are finished\n") and (laptop / id / "table.csv").exists()
        on = perdure("resume", "--home", home, "--here")
    else:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        home = url
        on = perdure(*words, "--home", url, "--here")
    assert on.exit_code == 0 and on.stderr.count("known from before") == 1, on.output
    assert "goes on from its checkpoint" in on.stderr
    assert perdure(*words, "--home", "undisturbed", "--here").exit_code == 0
    undisturbed = journals(Path("undisturbed"))
    there = journals(Path(home) if fetching else Path(Site(home).home))
    assert there == undisturbed and len(undisturbed) == 2


def test_a_job_that_has_kept_nothing_is_said(cluster):
    told = perdure("submit", "--address", cluster, "--", "list")
    id = re.search(r"perdure-[0-9a-f]{12}_\d+", told.stderr).group()
    said = perdure("fetch", id, "--address", cluster)
    assert said.exit_code == 2 and f"{id} has kept nothing yet that could be fetched" in said.stderr


def test_hints_in_a_job_are_for_the_laptop(monkeypatch):
    assert line_for("resume 5f2c") == "perdure resume 5f2c" and fetch_line() == ""
    monkeypatch.setenv("PERDURE_JOB", "perdure-1_1")
    monkeypatch.setenv("PERDURE_STORAGE", "s3://bucket/runs")
    monkeypatch.setenv("PERDURE_DASHBOARD", "http://head:8265")
    assert fetch_line() == "perdure fetch perdure-1_1 --address http://head:8265"
    said = _fault(RuntimeError("odd"))
    assert "RuntimeError: odd" in said and "Python" in said and " are in " not in said
    assert (
        line_for("resume 5f2c") == "perdure submit --address http://head:8265 --storage s3://bucket/runs -- resume 5f2c"
    )

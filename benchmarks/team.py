"""A team's day on a cluster, on loopback: `python -m benchmarks.team [FOLDER]`.

A head that asks for a token and two machines that join it, MLflow behind a login, an object store that speaks S3.
Command lines are submitted, followed, left, joined, stopped, and each part is killed in turn; at the end every journal
is equal to a laptop's byte for byte, and MLflow has every run once. Prints the seconds of each step. What MLflow shows
is left in FOLDER as pictures of its pages.
"""

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.browser import look
from tests.heads import head
from tests.platform.storage.test_s3 import store
from tests.servers import free_port, guard, mlflow

from .table import show

TOKEN, PASSWORD = "0123456789abcdef" * 4, "of a team, on loopback"
LINE = ["compare", "naive", "rehearsal(200)", "ewc(100)", "--seeds", "2", "--epochs", "8"]
LATER = [*LINE[:-3], "4", *LINE[-2:]]  # two more seeds: half of its runs are there
LONG = ["compare", "naive", "rehearsal(500)", "--seeds", "2", "--epochs", "30", "--slots", "2"]
SEARCH = ["tune", "rehearsal(choice(20, 200))", "--trials", "4", "--scheduler", "asha", "--epochs", "4", "--slots", "2"]
JOB = re.compile(r"perdure-[0-9a-f]{12}_\d+")


class Day:
    """What everybody types, and how long it takes."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.environment, self.rows = folder, environment, []

    def perdure(self, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-W", "ignore", "-m", "perdure", *words]
        made = subprocess.run(line, cwd=self.folder, env=self.environment | more, capture_output=True, text=True)
        assert made.returncode == code, f"{' '.join(words)}: {made.returncode}\n{made.stdout}\n{made.stderr}"
        return made

    @contextmanager
    def begun(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on meanwhile."""
        line, out = [sys.executable, "-W", "ignore", "-m", "perdure", *words], subprocess.PIPE
        with subprocess.Popen(
            line, cwd=self.folder, env=self.environment, stdout=out, stderr=out, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        self.rows.append({"step": name, "s": f"{time.perf_counter() - start:.1f}"})


def main(chosen: str = "") -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the object store's, of every request
    with tempfile.TemporaryDirectory(prefix="perdure-team-") as scratch:
        pictures = Path(chosen or Path(scratch) / "pictures").absolute()
        pictures.mkdir(parents=True, exist_ok=True)
        try:
            _day(Path(scratch), pictures)
        finally:
            print(f"pictures of MLflow's pages: {pictures}" if chosen else "", file=sys.stderr)


def _day(folder: Path, pictures: Path) -> None:
    port = free_port()
    login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    login |= {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_ENABLE_ASYNC_LOGGING": "false"}
    served = folder / "mlflow"
    served.mkdir()

    def pages():
        return mlflow(served, port, ["--app-name", "basic-auth"], **guard(served, PASSWORD))

    with store() as (bucket, s3):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PERDURE_", "MLFLOW_", "AWS_"))}
        laptop = kept | s3 | login | {"RAY_AUTH_TOKEN": TOKEN, "COLUMNS": "160"}
        laptop |= {"PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(folder)}
        day = Day(folder, laptop)
        start, tracked = time.perf_counter(), pages()
        tracked.__enter__()
        with head(TOKEN, cpus=0, machines=2, **s3, **login) as address:
            day.rows.append(
                {"step": "a head, two machines and MLflow start", "s": f"{time.perf_counter() - start:.1f}"}
            )
            try:
                _worked(day, address, bucket, tracked, pages)
            finally:
                tracked = day.tracked
                (folder / "pages").mkdir()
                _looked(day, folder / "pages", pictures, port)
                tracked.__exit__(None, None, None)
    show(f"A team's day, on {os.cpu_count()} cores", day.rows)


def _worked(day: Day, address: str, bucket: str, tracked, pages) -> None:
    day.tracked = tracked
    at, sent = ("--address", address), ("submit", "--address", address, "--storage", bucket, "--")
    day.bucket = bucket
    with day.step("the same on a laptop: 6 runs, 6 more, 4 long ones, without tracking"):
        for line in (LINE, LATER, LONG):
            here = [word for word in line if word not in ("--slots",)]
            here = here[:-1] if "--slots" in line else here
            day.perdure(*here, "--here", "--no-tracking", "--home", str(day.folder / "laptop"))
    with day.step("a mistake in a line is refused on the laptop"):
        told = day.perdure(*sent, "compare", "rehearsall(200)", code=2)
        assert "rehearsal" in told.stderr and not JOB.search(told.stderr), told.stderr
    with day.step("6 runs submitted, and followed to their end"):
        done = day.perdure(*sent, *LINE)
        first = JOB.search(done.stderr).group()
        assert f"perdure fetch {first}" in done.stdout, done.stdout
    with day.step("12 runs, of which 6 are known: followed, left by Ctrl-C, joined by a colleague, to their end"):
        with day.begun(*sent, *LATER) as leaving:
            second = JOB.search(_until(leaving.stderr, JOB)).group()
            leaving.send_signal(signal.SIGINT)
            assert leaving.wait(60) == 130
        joined = day.perdure(*sent, *LATER)
        assert f"{second} is running already" in joined.stderr or "12/12" in joined.stdout, joined.stderr
        assert "12 of 12 runs" in day.perdure("job", "status", second, *at).stdout
    with day.step("a job in mid-run is stopped, and told of as stopped"):
        third = JOB.search(day.perdure("submit", "--no-wait", *sent[1:], *LONG).stderr).group()
        _come_to(day, third, at, "checkpoint")
        assert "STOPPED" in day.perdure("job", "stop", third, *at).stdout
    with day.step("the same line again: one machine dies in mid-run, then the driver"):
        fourth = JOB.search(day.perdure("submit", "--no-wait", *sent[1:], *LONG).stderr).group()
        _come_to(day, fourth, at, "another actor goes on" if _raylet_killed(day, fourth, at) else "")
        _driver(fourth).kill()
        _ended(day, fourth, at)
        assert day.perdure("job", "status", fourth, *at, code=137).stdout.count("FAILED") == 1
    with day.step("MLflow is killed, and the laptop goes on from where the driver died"):
        day.tracked.__exit__(None, None, None)
        here = [*LONG[:-2], "--home", bucket, "--here"]
        with day.begun(*here) as process:
            time.sleep(8)
            day.tracked = pages()
            day.tracked.__enter__()
            said = process.communicate(timeout=600)
            assert process.returncode == 0, said
        day.perdure(*here)  # what MLflow was not there for, if anything
    with day.step("a search of 4 trials with ASHA on the cluster"):
        searched = day.perdure(*sent, *SEARCH)
        fifth = JOB.search(searched.stderr).group()
    with day.step("reports and runs are fetched to the laptop"):
        for id in (first, second, fourth):
            told = day.perdure("fetch", id, *at, "--to", str(day.folder / "fetched"))
        assert "12 of 12" in told.stdout or "4 of 4" in told.stdout, told.stdout
        day.perdure("verify", "--home", str(day.folder / "fetched"))
    with day.step("every journal is a laptop's, byte for byte; MLflow has every run once"):
        mine, theirs = _journals(day.folder / "laptop"), _journals(day.folder / "fetched")
        assert mine == theirs and len(mine) == 16, (len(mine), len(theirs))
        _complete(day)
    assert fifth


def _until(stream, pattern: re.Pattern[str]) -> str:
    for line in stream:
        if pattern.search(line):
            return line
    raise AssertionError(f"{pattern.pattern} was not told")


def _come_to(day: Day, id: str, at: tuple[str, str], what: str) -> None:
    """Wait until a job is in mid-run; what: in its log, or a checkpoint in its storage."""
    import s3fs

    end = time.monotonic() + 300
    while time.monotonic() < end:
        if what != "checkpoint":
            if what in day.perdure("job", "logs", id, *at).stdout:
                return
        else:
            fs = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=day.environment["AWS_ENDPOINT_URL"])
            fs.invalidate_cache()
            going = day.perdure("job", "logs", id, *at).stdout
            if len(fs.glob(f"{day.bucket}/runs/*/attempt-*/checkpoint-*")) and going is not None:
                return
        time.sleep(1)
    raise AssertionError(f"{id} has not come to {what}")


def _raylet_killed(day: Day, id: str, at: tuple[str, str]) -> bool:
    """Kill one of the two machines once both are at work."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        found = [p for p in psutil.process_iter(["cmdline", "name"]) if p.info["name"] == "raylet" and _ours(p, day)]
        busy = [p for p in found if any("Worker" in c.name() for c in p.children(recursive=True))]
        if len(busy) >= 2:
            time.sleep(3)
            for process in [*busy[0].children(recursive=True), busy[0]]:
                process.kill()
            return True
        time.sleep(0.5)
    raise AssertionError("two machines were never at work")


def _ours(process: psutil.Process, day: Day) -> bool:
    with psutil.Process(process.pid).oneshot():
        return process.environ().get("MLFLOW_TRACKING_URI") == day.environment["MLFLOW_TRACKING_URI"]


def _driver(id: str) -> psutil.Process:
    """The process of a job's command."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "perdure" in words and "-m" in words and process.environ().get("PERDURE_JOB") == id:
            return process
    raise AssertionError(f"no process of {id}")


def _ended(day: Day, id: str, at: tuple[str, str]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        line = [sys.executable, "-W", "ignore", "-m", "perdure", "job", "status", id, *at]
        told = subprocess.run(line, env=day.environment, cwd=day.folder, capture_output=True, text=True).stdout
        if "RUNNING" not in told:
            return
        time.sleep(1)
    raise AssertionError(f"{id} does not end")


def _journals(home: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in home.glob("runs/*/journal.jsonl")}


def _complete(day: Day) -> None:
    """Every run is a child of one parent, once, and finished."""
    os.environ |= {k: v for k, v in day.environment.items() if k.startswith("MLFLOW_")}
    from mlflow import MlflowClient

    client = MlflowClient(day.environment["MLFLOW_TRACKING_URI"])
    (into,) = [e.experiment_id for e in client.search_experiments() if e.name == "perdure"]
    runs = client.search_runs([into], max_results=1000)
    children = [r.data.tags["perdure.run"] for r in runs if "perdure.run" in r.data.tags]
    assert len(children) == len(set(children)), "a run is there twice"
    assert _journals(day.folder / "laptop").keys() <= set(children), "a run is lacking"
    assert {r.info.status for r in runs if "perdure.run" in r.data.tags} == {"FINISHED"}


def _looked(day: Day, folder: Path, pictures: Path, port: int) -> None:
    """Pictures of what MLflow shows."""
    for name, page in {"experiments": "#/experiments", "runs": "#/experiments/1?workflowType=machine_learning"}.items():
        look(f"http://admin:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/{page}", folder)
        (folder / "screenshot.png").replace(pictures / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])

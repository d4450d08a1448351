"""Servers of tests: on loopback, on free ports."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def answers(url: str, seconds: float = 120, process: subprocess.Popen | None = None) -> None:
    """Wait until the address answers with 200. process: that is to answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < end, f"{url} did not answer within {seconds} s"
            assert process is None or process.poll() is None, f"{process.args} has ended with {process.returncode}"
            time.sleep(0.3)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Line:
    """The way to a server, which can be cut: connections are refused then, and those that are open broken off."""

    def __init__(self, port: int):
        self._to, self.port, self._cut = port, free_port(), threading.Event()
        self._heard: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        self._cut.clear()
        self._heard = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._heard,), daemon=True).start()

    def cut(self) -> None:
        self._cut.set()
        assert self._heard
        for one in (self._heard, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, heard: socket.socket) -> None:
        with suppress(OSError):
            while True:
                asks, _ = heard.accept()
                self._open.append(asks)
                with suppress(OSError):  # the server's own outage is nobody's fault here
                    answers = socket.create_connection(("127.0.0.1", self._to))
                    self._open.append(answers)
                    for pair in ((asks, answers), (answers, asks)):
                        threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(1 << 16):
                other.sendall(content)
            other.shutdown(socket.SHUT_WR)


@contextmanager
def cuttable(port: int) -> Iterator[Line]:
    line = Line(port)
    try:
        yield line
    finally:
        with suppress(OSError):
            line.cut()


@contextmanager
def mlflow(folder: Path, port: int, words: Sequence[str] = (), store: str = "", **environment: str) -> Iterator[int]:
    """MLflow's own server, whose process group is told. store: of runs, an SQLite file in the folder by default."""
    line = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    line += ["--workers", "1", "--backend-store-uri", store or f"sqlite:///{folder}/m.db"]
    line += ["--artifacts-destination", str(folder / "artifacts"), *words]
    # its runner of jobs, which nothing here asks for, is eight processes that look for work all the time
    set_here = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | environment
    with (folder / "server.log").open("w") as log:
        to = {"stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen(line, env={**os.environ, **set_here}, cwd=folder, **to)
    try:
        answers(f"http://127.0.0.1:{port}/health", process=process)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def guard(folder: Path, password: str) -> dict[str, str]:
    """The environment of a server of MLflow's basic-auth app, in which everybody may read and `admin` may all."""
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\n"
        f"admin_password = {password}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    return {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test"}


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database of Debian's PostgreSQL, which root cannot run itself."""
    tools = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    folder = Path(tempfile.mkdtemp(prefix="perdure-postgres-"))
    root = os.getuid() == 0
    if root:
        shutil.chown(folder, "postgres")

    def run(*words: str) -> None:
        as_user = ["runuser", "-u", "postgres", "--"] if root else []
        subprocess.run([*as_user, str(tools / words[0]), *words[1:]], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    data, port = str(folder / "data"), free_port()
    settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    try:
        run("initdb", "--pgdata", data, "--username", "me", "--auth", "trust", "--no-sync")
        run("pg_ctl", "start", "--pgdata", data, "--wait", "--options", settings, "--log", str(folder / "log"))
        try:
            yield f"postgresql+psycopg2://me:unchecked@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "--pgdata", data, "--mode", "immediate")
    finally:
        shutil.rmtree(folder)

"""Ray clusters of tests: on loopback, on free ports, in process groups of their own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .servers import free_port

ROOT = Path(__file__).parent.parent
RANDOM = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port")


@contextmanager
def head(token: str, **env: str) -> Iterator[str]:
    """The address of the dashboard of a cluster that asks for a token, and knows no setting of this process."""
    port, dashboard, client = free_port(), free_port(), free_port()
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets' paths have to be short
    # Ray hands the path of its Python to a shell as it is: the environment, by a name that has no space
    bin = Path(folder, "env", "bin")
    bin.parent.symlink_to(Path(sys.executable).parents[1])
    words = [str(bin / Path(sys.executable).name), "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    words += [f"--port={port}", f"--temp-dir={folder}", "--num-cpus=2"]
    words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    words += ["--disable-usage-stats", "--include-log-monitor=false", *(f"--{name}=0" for name in RANDOM)]
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words]  # as in the background of a script
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PERDURE_", "MLFLOW_"))}
    kept |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    kept |= {"PATH": f"{bin}:{kept['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **env}
    with Path(folder, "out").open("wb") as out:
        process = subprocess.Popen(words, env=kept, stdout=out, stderr=out, start_new_session=True)
    try:
        end, listening = time.monotonic() + 120, False
        while not listening:
            said = Path(folder, "out").read_text(errors="replace")
            assert time.monotonic() < end and process.poll() is None, said
            with suppress(OSError):
                listening = _asks_for_a_token(dashboard)
            time.sleep(0.3)
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _asks_for_a_token(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version", timeout=5)
    except urllib.error.HTTPError as e:
        return e.code == 401
    return False

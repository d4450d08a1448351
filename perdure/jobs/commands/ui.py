"""MLflow's own pages over everything tracked, on loopback."""

import os
import signal
import socket
import subprocess
import sys
from typing import Annotated

from typer import Option

from .. import options as o


def ui(
    port: Annotated[int, Option(help="On this machine; another where it is taken.")] = 5000,
    tracking_uri: o.TrackingUri = None,
    recipe: o.RecipeFile = None,
) -> None:
    """Show all runs in MLflow's own pages, served to this machine alone. Ctrl-C ends it."""
    _serve(port, tracking_uri)


def _serve(port: int, uri: str | None) -> None:
    """Run MLflow's server until it is interrupted. Raises ValueError where there is nothing to show."""
    from ...platform.storage.secrets import masked
    from ...platform.tracking.addresses import artifacts_beside, default_uri, file_of
    from ...platform.tracking.mlflow_client import PAGES

    uri = uri or default_uri()
    file = file_of(uri)
    if uri.startswith(("http://", "https://")):
        raise ValueError(f"{masked(uri)} is a server already: open it in a browser")
    if file is not None and not file.exists():
        raise ValueError(f"nothing has been tracked in {masked(uri)} yet; make a run first: perdure compare")
    port = _free(port)
    print(f"MLflow on http://127.0.0.1:{port}/#/experiments?{PAGES} (Ctrl-C ends it)", flush=True)
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": uri}  # all may read a command line
    quiet |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # of language models: processes that always look for work
    quiet |= {"MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts_beside(file)} if file is not None else {}
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen([sys.executable, "-m", "mlflow", *words], env={**os.environ, **quiet}, process_group=0)
    try:
        server.wait()
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # it has processes of its own
        server.wait()


def _free(port: int) -> int:
    """`port`, or where it is taken a free one of the system's choice."""
    for wanted in (port, 0):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", wanted))
                return s.getsockname()[1]
            except OSError:
                continue
    raise ValueError("no free port on this machine")

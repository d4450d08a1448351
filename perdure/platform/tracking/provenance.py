"""Who made something, on which machine, from which commit, with which versions: what a team searches MLflow by."""

import getpass
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..storage.locations import JOB

PATIENCE = 10  # seconds for git, whose folder may lie on a slow disk
PACKAGES = ("torch", "ray")


def origin() -> dict[str, str]:
    """Tags of what this process makes in its working folder; without a commit where that is no git repository."""
    from ...version import __version__

    tags = {"mlflow.user": _user(), "mlflow.source.type": "JOB" if os.environ.get(JOB) else "LOCAL"}
    tags |= {
        "perdure.host": platform.node(),
        "perdure.version": __version__,
        "perdure.python": platform.python_version(),
    }
    return tags | {f"perdure.{name}": known for name in PACKAGES if (known := _version(name))} | _commit(Path.cwd())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's, whom its list of users does not name
        return str(os.getuid())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit(folder: Path) -> dict[str, str]:
    commit, branch = _git(folder, "rev-parse", "HEAD"), _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    told = {"commit": commit, "branch": branch, "dirty": "" if changed is None else str(bool(changed)).lower()}
    return {f"mlflow.source.git.{name}": text for name, text in told.items() if text}


def _git(folder: Path, *words: str) -> str | None:
    """What git says of a folder; None where it is not there, or says no."""
    line = ["git", "-c", "core.fsmonitor=false", *words]  # nothing of a repository's own is started
    try:
        told = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() if told.returncode == 0 else None

"""The Ray cluster that a command starts for itself: nobody else can use it, and nothing of it stays behind.

A token of its own, in the environment of its processes alone, is asked for at every port; its sockets and logs lie in a
folder that no other user may enter.
"""

import atexit
import fcntl
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..storage import signals

LONG = 19  # characters of a folder for temporary files, with which the longest socket's path has the 107 it may have
LOOK = 1.0  # seconds between two looks whether the cluster is there
_PREFIX = "perdure-ray-"
_LOCK = "lock"  # held for as long as whoever made the folder lives
_DIED = "Ray's {name} has died, and with it this command's cluster; perdure resume, or the same command, goes on\n"


class Local:
    """A cluster of this machine alone, from its start to its end."""

    def __init__(self, dashboard: bool, quiet: dict[str, Any]):
        import ray
        from ray._private import worker

        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short()))  # 0700; Ray opens its own within to all
        self._lock, self._ended = _locked(self.folder), threading.Event()
        self._before = authenticated("token", secrets.token_hex(32))
        atexit.register(self.close)  # after Ray has ended its processes
        where = {"address": "local", "_temp_dir": str(self.folder / "r"), "dashboard_host": "127.0.0.1"}
        try:
            # "local": by default Ray would join whatever cluster it finds on this machine, somebody else's too
            ray.init(include_dashboard=dashboard, **where, **_python(), **quiet)
        except BaseException:
            self.forget()
            raise
        node: Any = worker._global_node
        self._processes = node.all_processes
        signals.at_last(self.kill)
        atexit.register(self.let_go)  # before Ray ends them
        threading.Thread(target=self._watch, name="watch ray", daemon=True).start()

    def let_go(self) -> None:
        """Before Ray is asked to end: that its processes do so is no news from now on."""
        self._ended.set()
        signals.no_more(self.kill)

    def forget(self) -> None:
        """Once this process has left it: its token is nobody's business."""
        restored(self._before)

    def close(self) -> None:
        """Once its processes have ended."""
        _removed(self.folder)
        atexit.unregister(self.close)
        atexit.unregister(self.let_go)
        self._lock.close()

    def kill(self) -> None:
        """Its processes, however they are, and its folder."""
        _end(self.folder)

    def _watch(self) -> None:
        """End the command where a server of Ray's is gone: without it Ray would wait for a minute, and then abort."""
        while not self._ended.wait(LOOK):
            dead = [name for name, own in list(self._processes.items()) if name in _SERVERS and _has_ended(own)]
            if dead and not self._ended.is_set():
                signals.leave(_DIED.format(name=_SERVERS[dead[0]]).encode(), 1)


_SERVERS = {"raylet": "raylet", "gcs_server": "head (GCS)"}


def authenticated(mode: str, token: str | None = None) -> dict[str, str | None]:
    """Have Ray ask for a token in this process, and in those that it starts; what was said of it before."""
    said = {"RAY_AUTH_MODE": mode} | ({"RAY_AUTH_TOKEN": token, "RAY_AUTH_TOKEN_PATH": None} if token else {})
    before = {name: os.environ.get(name) for name in said}
    restored(said)
    return before


def restored(said: dict[str, Any]) -> None:
    from ray import _raylet

    inner: Any = _raylet

    for name, value in said.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    inner.Config.initialize("")  # Ray reads both once, and in this order
    inner.AuthenticationTokenLoader.instance().reset_cache()


def _short() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONG or not os.access("/tmp", os.W_OK) else "/tmp"


def _locked(folder: Path) -> IO[bytes]:
    """The folder's lock, there only once it is held."""
    file = (folder / f".{_LOCK}").open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(folder / f".{_LOCK}", folder / _LOCK)
    return file


def _sweep() -> None:
    """Remove what killed commands have left."""
    for lock in Path(_short()).glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end(lock.parent)


def _has_ended(infos: Any) -> bool:
    return any(info.process.poll() is not None for info in infos)


def _end(folder: Path) -> None:
    """A cluster's folder, and the processes that write there: its agents outlive a raylet that is killed."""
    for pid in [pid for pid in _users(folder) if pid != os.getpid()]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _removed(folder)


def _removed(folder: Path) -> None:
    """The lock last: where a process that is on its way out still writes, the next command sees that and sweeps."""
    shutil.rmtree(folder / "r", ignore_errors=True)
    if not (folder / "r").exists():
        shutil.rmtree(folder, ignore_errors=True)


def _users(folder: Path) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone, or somebody else's
            if any(os.readlink(file).startswith(f"{folder}/r/") for file in (process / "fd").iterdir()):
                yield int(process.name)


def _python() -> dict[str, Any]:
    """Ray hands the path of Python to a shell as it is, for every worker with a runtime environment, which each of
    Tune's trials has: with a space in it no worker would ever start. So it is given quoted, where it must be."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"runtime_env": {"py_executable": quoted}}

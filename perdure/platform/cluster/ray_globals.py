"""What Ray would change in a program that connects to it, and must not."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

# despite its name the one switch that keeps every server of Ray's on 127.0.0.1: its processes read it here
MANY_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def alone() -> Iterator[None]:
    """While the block starts a cluster of this machine alone: its servers listen to this machine, in a program too that
    has imported Ray before, which has read the switch by then."""
    from ray._private import ray_constants

    with _replaced(ray_constants, "ENABLE_RAY_CLUSTER", os.environ.get(MANY_MACHINES, "0") == "1"):
        yield


@contextmanager
def tamed() -> Iterator[None]:
    """While the block connects to Ray: handlers of signals stay as they are, and actors look for modules where this
    process does.

    Ray puts the working folder before everything else on their path, where a torch.py would be taken for torch.
    """
    from ray._private import ray_constants, utils
    from ray.job_config import JobConfig

    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True  # which prints a C++ stack for a SIGTERM
    with ExitStack() as patched:
        if callable(signal.getsignal(signal.SIGTERM)):
            patched.enter_context(_replaced(utils, "set_sigterm_handler", lambda handler: None))
        if os.getcwd() not in map(os.path.abspath, sys.path):
            patched.enter_context(_replaced(JobConfig, "_runtime_env_has_working_dir", _with_the_scripts_folder))
        yield


@contextmanager
def _replaced(of: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(of, name)
    setattr(of, name, value)
    try:
        yield
    finally:
        setattr(of, name, before)


def _with_the_scripts_folder(job: Any) -> bool:
    """In the place of a question on whose `no` Ray adds the folder of the script, and the working folder too."""
    folder = os.path.dirname(os.path.realpath(sys.argv[0]))
    if folder in sys.path and folder not in job._py_driver_sys_path:
        job._py_driver_sys_path.append(folder)
    return True

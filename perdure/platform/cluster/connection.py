"""Joining a Ray cluster, or starting one on this machine that nobody else can reach."""

import gc
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from math import floor
from threading import Thread
from typing import Any, cast

from ..storage.locations import JOB
from ..storage.secrets import masked
from .addresses import as_typed, expect_head
from .local import Local, authenticated
from .ray_globals import MANY_MACHINES, alone, tamed

_leaving: Thread | None = None  # ends the processes of the last cluster, and may be at it
_ours: Local | None = None  # the cluster that this process has started and is connected to


class TooFew(ValueError):
    """More is asked for than the cluster has."""


def connect(address: str | None = None, dashboard: bool = False) -> bool:
    """Connect this process to Ray; says whether it did (and has to disconnect), or was connected before.

    Without an address a cluster of this machine alone is started (see `local`), with a dashboard only where asked.
    Whether one that is joined asks for a token is set explicitly, since Ray would otherwise switch it on the first time
    and surprise whoever comes next.
    """
    address = address or ("auto" if os.environ.get(JOB) else None)  # a submitted job's own cluster
    if not address:
        os.environ.setdefault(MANY_MACHINES, "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if _leaving is not None:
        _leaving.join()
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
    global _ours
    with tamed(), alone() if not address else nullcontext():
        _ours = None if address else Local(dashboard, quiet)
        if address:
            _join(address, quiet)
    _hush()
    return True


def _join(address: str, quiet: dict[str, Any]) -> None:
    import ray

    expect_head(address)
    known = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    authenticated(os.environ.get("RAY_AUTH_MODE") or ("token" if known else "disabled"))
    try:
        with nullcontext() if address == "auto" else as_typed():  # a job's own cluster stands in the environment
            ray.init(address=address, **quiet)
    except (ConnectionError, TimeoutError) as e:
        why = "is a cluster running there, and is RAY_AUTH_TOKEN set if it asks for one?"
        raise ValueError(f"no Ray cluster answers at {masked(address)}; {why} ({masked(str(e))})") from None


def disconnect() -> None:
    """Let go of Ray, whose processes take a second to end. Nobody waits for them but who connects next, and the end of
    this process.

    Only they are ended beside what comes next. While Ray leaves this process nothing may drop a reference to one of its
    objects, as an interrupt's traceback does, or the garbage collector in another thread: Ray would end the process.
    """
    import ray
    from ray._private import worker

    global _ours
    node, ours, _ours = cast(Any, worker._global_node), _ours, None
    if ours is not None:
        ours.let_go()
    if node is not None:
        end = node.kill_all_processes

        def beside(**how: Any) -> None:
            global _leaving
            node.kill_all_processes = end  # asked once more as this process ends
            _leaving = Thread(target=_left, args=(end, how, ours), name="leave ray")
            _leaving.start()

        node.kill_all_processes = beside
    collecting = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if ours is not None:
            ours.forget()
        if collecting:
            gc.enable()


def _left(end: Callable[..., None], how: dict[str, Any], ours: Local | None) -> None:
    end(**how)
    if ours is not None:
        ours.close()


def slots(wanted: int | None, threads: int, gpus_per_run: float) -> int:
    """How many runs the cluster can make at once. Raises TooFew where that is none, or less than `wanted`."""
    has = room(threads, gpus_per_run)
    if has < (wanted or 1):
        cpus, gpus = (sum(node.get(k, 0.0) for node in _machines()) for k in ("CPU", "GPU"))
        need = f"{wanted or 1} at once of {threads} CPU and {gpus_per_run:g} GPU each"
        raise TooFew(
            f"asked for {need}, but the cluster has {cpus:g} CPU and {gpus:g} GPU; ask for fewer or join another"
        )
    return wanted or has


def room(threads: int, gpus_per_run: float) -> int:
    """How many runs the machines that are alive can make at once, none of which straddles two."""
    return sum(_on(node, threads, gpus_per_run) for node in _machines())


def where_there_is(cpus: int) -> Any:
    """Ray's word for a machine that runs of so many CPUs may be on: not one that is kept free of work."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    fit = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= cpus]
    return NodeAffinitySchedulingStrategy(fit[-1], soft=True) if fit else "DEFAULT"


def _machines() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _on(node: dict[str, float], threads: int, gpus_per_run: float) -> int:
    fit = floor(node.get("CPU", 0.0) / threads)
    if gpus_per_run:
        whole = gpus_per_run if gpus_per_run >= 1 else 1 / floor(1 / gpus_per_run)  # nor two GPUs
        fit = min(fit, floor(node.get("GPU", 0.0) / whole + 1e-9))
    return fit


def _hush() -> None:
    """Ray prints what becomes of its machines to standard output, whatever it is told of logs. A fleet tells it."""
    from ray._private import worker

    worker.print_to_stdstream = lambda data, ignore_prefix: None

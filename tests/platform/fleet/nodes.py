"""A Ray cluster of several machines on this one, of which each can be killed, frozen and woken."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[3]
# A machine that stops answering is given up after seconds, not a minute; no disk has room for what the store has not
QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
    "local_fs_capacity_threshold": 0.001,
}
STORE = 80 << 20  # bytes of a machine's object store


@contextmanager
def machines(count: int) -> Iterator[Any]:
    """A head without CPUs, that nothing is done on, and `count` machines with one."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE, "_system_config": QUICK}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        yield cluster
    finally:
        for node in list(cluster.worker_nodes):
            for process in family(node):
                process.kill()  # the frozen too
        cluster.shutdown()


def family(node: Any) -> list[psutil.Process]:
    """The processes of a machine: its raylet, and the actors on it."""
    found = []
    for process in (p.process.pid for own in node.all_processes.values() for p in own):
        if psutil.pid_exists(process):
            found += [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    return found


def raylet(node: Any) -> int:
    return next(p.process.pid for name, own in node.all_processes.items() if "raylet" in name for p in own)


def machine_of(cluster: Any, pid: int) -> Any:
    """Where a process is at work."""
    return next(node for node in cluster.worker_nodes if any(p.pid == pid for p in family(node)))


def buried(cluster: Any, node: Any) -> None:
    """Take a machine that has died out of the cluster, and wait for what is left of its processes."""
    cluster.worker_nodes.remove(node)
    for known in node.all_processes.values():
        for info in known:
            info.process.kill()
            info.process.wait()


class Watched:
    """A command in a process of its own, and what it tells, line by line."""

    def __init__(self, *words: str):
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", *words], **out)
        self.told: list[str] = []
        self.out: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((self.process.stderr, self.told), (self.process.stdout, self.out))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines):
        for line in stream:
            lines.append(line.rstrip())

    def ended(self, seconds: float = 400) -> int:
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join()
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.ended()

    def waited(self, ready, seconds: float = 120.0):
        """What `ready` says as soon as it is true, while the process is at work."""
        end = time.monotonic() + seconds
        while not (said := ready()):
            assert self.process.poll() is None, self.told
            assert time.monotonic() < end, f"not within {seconds} s: {self.told}"
            time.sleep(0.02)
        return said

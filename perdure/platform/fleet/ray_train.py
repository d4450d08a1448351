"""Runs that several workers share, by Ray Train: the processes of a group learn one run as a team (strategies.team)."""

import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from ..cluster import connection
from ..runs.any_run import AnyRun, run_of
from ..runs.datasets import Data, Packed, packed, unpacked
from ..runs.events import Event, Failed, Finished, Lost
from ..runs.record import finished, told
from ..runs.workspace import Site
from ..workloads.kinds import workload

POLL = 0.1  # seconds between looks at what a group has to tell
RAISED = "UserExceptionWithTraceback"  # what Train makes of what a worker raises; anything else is its death
QUIET = {  # Train's own: it shall look at its workers often, print nothing, and leave the working folder as it is
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@dataclass
class Trainers:
    """Makes runs one after the other, each on as many workers as it asks for.

    The first worker of a group writes the journal and the checkpoints and tells of the run; the others do the same
    work and stay silent. A group that loses a worker is begun anew from the newest checkpoint, `retries` times at most.
    So is one that fails otherwise, for where a worker is lost another may notice first; once: what fails in the same
    way again is the run's own fault.
    silence: seconds after which workers that wait for one of theirs give up. gpu: whether every worker has one.

    Raises TooFew where the cluster has less than is asked for.
    """

    site: Site
    address: str | None = None
    gpu: bool = False
    silence: float = 300.0
    retries: int = 3
    data: Data | None = None

    def __post_init__(self):
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        self._ours = connection.connect(self.address, dashboard=True)  # Train asks it who is alive
        self._data = self.data or Data(self.site)

    def map(self, runs: Sequence[AnyRun]) -> Iterator[Event]:
        for run in runs:
            if finished(run, self.site):
                yield from told(run, self.site)
                continue
            try:
                dataset = self._data.of(run)
            except (ValueError, FileNotFoundError) as e:
                yield Failed(run.id, "user", str(e))
                continue
            yield from self._made(run, dataset)

    def close(self) -> None:
        if self._ours:
            connection.disconnect()

    def _made(self, run: Any, dataset: Any) -> Iterator[Event]:
        import ray

        connection.slots(run.workers, run.threads, float(self.gpu))
        held = None if dataset is None else ray.put(packed(dataset))
        before = ""
        for lost in range(1, self.retries + 2):
            group = _Group(run, self.site, held, self.gpu, self.silence)
            try:
                for event in group.events():
                    if not isinstance(event, Lost):  # of which the group knows more
                        yield event
                    if isinstance(event, Finished | Failed):
                        return
            finally:
                group.end()
            if lost > self.retries:
                yield Failed(run.id, "lost", f"lost a worker {lost} times: {group.reason}")
            elif not group.died and group.reason == before:
                yield Failed(run.id, "error", group.reason)
                return
            else:
                yield Lost(run.id, group.reason)
            before = group.reason


class _Group:
    """One attempt at a run by several workers."""

    def __init__(self, run: Any, site: Site, held: Any, gpu: bool, silence: float):
        import ray

        remote: Any = ray.remote
        self.reason, self.died, self._run = "its workers did not start", False, run
        self._mail = remote(num_cpus=0, max_concurrency=2)(_Mailbox).remote()
        config = {"run": asdict(run), "site": site, "held": held, "mail": self._mail}
        self._folder = Path(site.home) / "train"
        self._name = f"{run.id}-{uuid4().hex[:12]}"
        self._thread = threading.Thread(target=self._fit, args=(config, gpu, silence), daemon=True)
        self._thread.start()

    def events(self) -> Iterator[Event]:
        """As they come, until the workers are done or one of them is lost."""
        import ray

        while True:
            alive = self._thread.is_alive()
            yield from ray.get(self._mail.taken.remote())
            if not alive:
                return
            time.sleep(POLL)

    def end(self) -> None:
        """Have the workers stop, where they have not."""
        import ray
        from ray.exceptions import RayError

        with suppress(RayError):
            ray.get(self._mail.close.remote())
        self._thread.join(30)
        ray.kill(self._mail)
        shutil.rmtree(self._folder / self._name, ignore_errors=True)
        with suppress(OSError):
            self._folder.rmdir()  # where no other group is at work

    def _fit(self, config: dict[str, Any], gpu: bool, silence: float) -> None:
        import logging

        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer

        logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # what happens is told by us, in a line
        needs = {"CPU": self._run.threads} | ({"GPU": 1} if gpu else {})
        scaling = ScalingConfig(num_workers=self._run.workers, use_gpu=gpu, resources_per_worker=needs)
        trainer = TorchTrainer(
            work,
            train_loop_config=config,
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=max(1, int(silence))),
            scaling_config=scaling,
            run_config=RunConfig(
                name=self._name, storage_path=str(self._folder), failure_config=FailureConfig(max_failures=0)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as e:
            self.reason, self.died = _told(e)
        except Exception as e:  # the driver is on its way out, or Ray is gone: whoever listens is told
            self.reason = f"Ray Train failed ({type(e).__name__}: {e})"


class _Mailbox:
    """An actor between a group and whoever listens to it."""

    def __init__(self):
        self._events, self._open = [], True

    def put(self, event: Event) -> bool:
        """Whether anybody still wants the run."""
        self._events.append(event)
        return self._open

    def taken(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken

    def wanted(self) -> bool:
        return self._open

    def close(self) -> None:
        self._open = False


class Unwanted(RuntimeError):
    """Whoever asked for the run listens no more."""


def work(config: dict[str, Any]) -> None:
    """What each worker of a group does."""
    import ray
    import torch

    from ...strategies.distributed import collectives
    from ..execution.execute import execute
    from ..runs import plugins

    site, mail = config["site"], config["mail"]
    plugins.load(site.plugins)
    run = run_of(config["run"])
    held = config["held"] and cast(Packed, ray.get(config["held"]))
    dataset = unpacked(held, lambda: Data(site).of(run)) if held else None
    torch.set_num_threads(run.threads)
    if collectives.rank() > 0:
        for _ in workload(run).work(run, dataset, lambda: None, site).steps(None, lambda: False):
            pass
        return
    for event in execute(run, site, dataset, _Wanted(mail)):
        odd = isinstance(event, Failed) and event.kind == "error"  # which a lost worker looks like from here
        ray.get(mail.put.remote(Lost(run.id, "") if odd else event))
        if isinstance(event, Failed):
            raise RuntimeError(event.message)  # the others wait for this worker


class _Wanted:
    """Asks every second whether the run is still wanted. Raises Unwanted, or Ray's error where the asker is gone."""

    def __init__(self, mail: Any):
        self._mail, self._asked = mail, time.monotonic()

    def __call__(self) -> None:
        import ray

        if time.monotonic() - self._asked >= 1:
            self._asked = time.monotonic()
            if not ray.get(self._mail.wanted.remote()):
                raise Unwanted("nobody listens any more")


def _told(error: Exception) -> tuple[str, bool]:
    """Why a group came to its end, and whether a worker of it died."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    dead = [n for n, e in sorted(failures.items()) if type(e).__name__ != RAISED]
    if dead:
        return f"its worker {dead[0]} died", True
    told = [str(e).strip().splitlines()[-1][:200] for _, e in sorted(failures.items())]
    return f"a worker failed ({told[0] if told else type(error).__name__})", False

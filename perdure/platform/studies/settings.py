"""How and where runs are made."""

import os
from dataclasses import asdict, dataclass, replace
from os import fspath
from typing import Any

from ...notation import expect_types
from ..execution.executor import Executor, InProcess
from ..runs.datasets import Data
from ..runs.run import Run
from ..runs.study import Command
from ..runs.workspace import Site
from ..storage.locations import JOB, absolute
from ..storage.secrets import masked
from ..tracking import addresses
from ..tracking.tracker import Tracker, Untracked


@dataclass(frozen=True)
class How:
    """Where runs are made and by whom. Nothing of it changes what comes out."""

    home: str = "perdure-runs"  # folder of all results that every node of a cluster sees, or an address as s3://bucket
    data: str | None = None  # folder to look for data in first
    plugins: tuple[str, ...] = ()  # Python files that register names of their own
    save_every: float = 60.0  # seconds between checkpoints inside an experience
    here: bool = False  # one after the other in this process, without Ray
    slots: int | None = None  # runs at once; None takes as many as there are CPUs (and GPUs)
    gpus_per_run: float = 0.0  # a fraction lets runs share one
    address: str | None = None  # of a Ray cluster to join; None starts one on this machine
    workers: int = 1  # that share every meta-batch of a run in this process
    together: bool | None = None  # learn seeds, and other numbers of one strategy, at once; None where that is faster
    silence: float = 300.0  # seconds without a step after which a run is given to another actor
    profile: bool = False  # tell where the time of every run goes
    tracking: bool = True  # mirror everything in MLflow
    tracking_uri: str | None = None  # $MLFLOW_TRACKING_URI, or mlflow.db in the working folder, by default
    experiment: str = ""  # of MLflow, by name; $MLFLOW_EXPERIMENT_NAME, or perdure, by default

    def __post_init__(self):
        object.__setattr__(self, "home", fspath(self.home))
        object.__setattr__(self, "data", None if self.data is None else fspath(self.data))
        object.__setattr__(self, "plugins", tuple(map(fspath, self.plugins)))
        expect_types(self)

    def settled(self) -> "How":
        """The same for whoever reads it in another folder: paths in full, and where tracking goes."""
        uri = self.tracking_uri
        if self.tracking:
            uri = addresses.default_uri() if uri is None else addresses.settled(uri)
        files, data = tuple(map(absolute, self.plugins)), self.data and absolute(self.data)
        return replace(self, home=absolute(self.home), data=data, plugins=files, tracking_uri=uri)

    def kept(self) -> dict[str, Any]:
        """As it is written down: without the password or key in an address, which whoever goes on says again, and
        without the cluster that a submitted job runs on, which a laptop that goes on has none of."""
        address = None if os.environ.get(JOB) and self.address == "auto" else self.address
        return asdict(self) | {"tracking_uri": self.tracking_uri and masked(self.tracking_uri), "address": address}


def executor_of(command: Command, how: How, site: Site, data: Data) -> Executor:
    gpu = any(run.device.startswith("cuda") for run in command.runs)
    if any(isinstance(run, Run) and run.workers > 1 for run in command.runs):
        from ..fleet.ray_train import Trainers

        return Trainers(site, how.address, gpu, how.silence, data=data)
    if how.here:
        return InProcess(site, data)
    from ..fleet.fleet import Fleet

    return Fleet(site, how.slots, how.gpus_per_run or float(gpu), how.address, how.silence, data=data)


def tracker_of(how: How, site: Site) -> Tracker:
    if not how.tracking or how.tracking_uri is None:
        return Untracked()
    from ..tracking.mlflow_tracker import MLflow

    return MLflow(site, how.tracking_uri)

"""Making a run, whether its folder lies on this machine or in remote storage."""

from collections.abc import Callable, Iterator

from ...streams.datasets.dataset import Dataset
from ..runs.any_run import AnyRun
from ..runs.events import Event
from ..runs.workspace import Site
from ..workloads.work import Work
from .attempt import attempt_run
from .remote import mirrored


def execute(
    run: AnyRun,
    site: Site,
    dataset: Dataset | None,
    alive: Callable[[], None] = lambda: None,
    part: Work | None = None,
) -> Iterator[Event]:
    """The events of `attempt_run`, in the folder of a run or in a copy of what remote storage holds of it."""
    return mirrored(run, site, dataset, alive) if site.storage else attempt_run(run, site, dataset, alive, part)

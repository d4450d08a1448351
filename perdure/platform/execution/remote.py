"""A run whose folder lies in remote storage: brought before an attempt, carried while it goes on."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from tempfile import TemporaryDirectory

from ...streams.datasets.dataset import Dataset
from ..runs.any_run import AnyRun
from ..runs.events import Event, Failed, Repaired
from ..runs.record import finished, told
from ..runs.run import Run
from ..runs.sync import mirror_of_run
from ..runs.verification import unseal_damaged
from ..runs.workspace import Site
from ..storage.checkpoints import Fenced
from ..storage.mirror import Mirror
from ..storage.sealed import Damaged
from .attempt import attempt_run

CHECKED = 1.0  # seconds between looks for a checkpoint that is not there yet


def mirrored(run: AnyRun, site: Site, dataset: Dataset | None, alive: Callable[[], None]) -> Iterator[Event]:
    """`attempt_run` in a folder of this attempt's own, that storage has a mirror of: brought before, carried after."""
    with TemporaryDirectory(prefix="perdure-", ignore_cleanup_errors=True) as scratch:
        here = replace(site, home=scratch, storage="")
        mirror = mirror_of_run(run.id, here, site.storage)
        carry = _Carry(mirror, alive)
        try:
            mirror.pull()
            if mirror.damaged:  # a checkpoint too, which a finished run's numbers do not need
                unseal_damaged(here.folder(run))
            if finished(run, here):
                yield from told(run, here)
                return
            if isinstance(run, Run) and run.start:
                mirror_of_run(run.start, here, site.storage).pull()
            for problem in mirror.damaged:
                yield Repaired(run.id, f"{problem}; the run goes on from what is whole")
            attempt = mirror.claim()
            if attempt > 1:  # the same number on this machine
                here.folder(run).mkdir(parents=True, exist_ok=True)
                (here.folder(run) / f"attempt-{attempt - 1:04d}").touch()
            for event in attempt_run(run, here, dataset, carry):
                if not (isinstance(event, Failed) and event.kind == "taken"):
                    mirror.push()
                yield event
        except Fenced as e:
            yield Failed(run.id, "taken", f"{e}: somebody else is making this run now")
        except (OSError, Damaged) as e:
            yield Failed(run.id, "error", f"storage {site.storage}: {type(e).__name__}: {e}")


class _Carry:
    """Shows that a run is alive, and carries a checkpoint as soon as it is there."""

    def __init__(self, mirror: Mirror, alive: Callable[[], None]):
        self.mirror, self.alive, self.looked, self.changed = mirror, alive, time.monotonic(), 0

    def __call__(self) -> None:
        self.alive()
        if time.monotonic() - self.looked < CHECKED:
            return
        changed = self.mirror.folder.stat().st_mtime_ns  # of the folder: something has come or gone
        if changed != self.changed:
            self.changed = changed
            self.mirror.push()
        self.looked = time.monotonic()

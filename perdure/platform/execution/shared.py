"""Runs that several commands of one home want at once: one makes each of them, the others wait and read it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ..runs import sync
from ..runs.any_run import AnyRun
from ..runs.events import Awaited, Event, Failed, Finished
from ..runs.record import finished, told
from ..runs.workspace import Site
from ..storage.claims import LOOK, Claims
from .executor import Executor

FAR = 5.0  # seconds between two looks at remote storage
SILENCE = 300.0  # seconds without a sign after which whoever has taken a run over is believed dead


def made(runs: Sequence[AnyRun], site: Site, executor: Callable[[], Executor]) -> Iterator[Event]:
    """The events of all runs: of those that are finished, that this command makes, and that others do.

    On one machine a claim says who makes a run; it is gone with its holder, and the run is free again. Where another
    machine has taken a run over, it is waited for as long as there are signs of it.
    """
    left = {run.id: run for run in runs}
    lost, awaited = dict[str, _Signs](), set[str]()
    with closing(Claims(site.home)) as claims:
        while left:
            ours = [run for run in left.values() if _is_free(run, lost, site) and claims.take(run.id)]
            known = [run for run in left.values() if finished(run, site)]  # once it is claimed it stays as it is
            for run in known:
                del left[run.id]
                claims.release(run.id)
                yield from told(run, site)
            ours = [run for run in ours if run.id in left]
            if ours:
                with closing(executor()) as makes:
                    for event in makes.map(ours):
                        if isinstance(event, Failed) and event.kind == "taken":
                            lost[event.run] = _Signs()
                            claims.release(event.run)
                            continue
                        if isinstance(event, Finished | Failed):
                            del left[event.run]
                            claims.release(event.run)
                        yield event
                continue
            for run in [run for run in left.values() if run.id not in awaited]:
                awaited.add(run.id)
                yield Awaited(run.id)
            if left:
                _looked_again(list(left.values()), site)


class _Signs:
    """Whether something still happens in a run's folder."""

    def __init__(self):
        self._seen, self._since = None, time.monotonic()

    def gone(self, folder: Path) -> bool:
        seen = sorted((p.name, p.stat().st_size) for p in folder.glob("*") if p.exists())
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since > SILENCE


def _is_free(run: AnyRun, lost: dict[str, _Signs], site: Site) -> bool:
    """Whether nobody on another machine is at work on it, as far as can be seen."""
    if run.id in lost and lost[run.id].gone(site.folder(run)):
        del lost[run.id]
    return run.id not in lost


def _looked_again(left: Sequence[AnyRun], site: Site) -> None:
    time.sleep(FAR if site.storage else LOOK)
    sync.fetch([run.id for run in left], site)

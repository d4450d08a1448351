"""Makes the runs of a study, or resumes them."""

from dataclasses import replace
from typing import Any

from ..execution.replicas import expect_together
from ..runs import sync
from ..runs.datasets import Data
from ..runs.identity import announce_changes, identified
from ..runs.set_aside import set_aside, settled
from ..runs.study import Command
from ..runs.workspace import Site
from .runner import Watch, check, conduct, nobody
from .settings import How, executor_of, tracker_of


def make(
    command: Command,
    how: How,
    again: bool = False,
    watch: Watch = nobody,
    typed: bool = False,
    data: Data | None = None,
) -> Any:
    """Make the runs of a command, or go on with them.

    again: make finished ones anew; what was there comes back where that cannot be done. typed: runs are of the data and
    the code as they are now; otherwise they have been told already what they are of. data: loaded already.
    """
    how = how.settled()
    more = {"profile": how.profile, "workers": how.workers, "together": how.together}
    site = Site(how.home, how.data, how.plugins, how.save_every, **more)
    data = data or Data(site)
    sync.look(site)
    if typed:
        command = replace(command, runs=tuple(identified(run, data) for run in command.runs))
        sync.fetch_commands(site)
    sync.fetch([run.id for run in command.runs], site)
    if typed:
        announce_changes(command.runs, site)
    check(command, site, data, again)
    if how.together:
        expect_together(command.runs)
    kept_command = replace(command, how=how.kept())
    if again:
        with command.held(site.home):
            set_aside(command.runs, site)
    with settled(command.runs, site):
        return conduct(kept_command, site, lambda: executor_of(command, how, site, data), tracker_of(how, site), watch)


def unheard(trial: Any, so_far: Any) -> None:
    """Nobody wants to know."""

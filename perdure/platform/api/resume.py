"""Resume a study, a search or a run."""

from collections.abc import Callable
from typing import Any

from ..reports.kinds import reporting
from ..runs import plugins, sync
from ..runs import study as commands
from ..runs.datasets import Data
from ..runs.identity import doubt_same
from ..runs.lookup import found
from ..runs.record import finished
from ..runs.study import Command
from ..runs.verification import unseal_damaged
from ..runs.workspace import Site
from ..studies.make import make, unheard
from ..studies.runner import Watch, nobody
from ..studies.settings import How


def resume(
    id: str | None = None,
    home: str = "perdure-runs",
    watch: Watch = nobody,
    hear: Callable[[Any, Any], None] = unheard,
    **other: Any,
) -> Any:
    """Go on with a command, a search or a run by (the beginning of) its id; by default with the newest command.

    hear: told of every trial of a search that has come to an end.
    other: fields of `How` that shall be different this time. Raises ValueError where there is none.
    """
    site = Site(home)
    sync.fetch_commands(site)
    folder = next((f for f in commands.folders(site.home) if f.name.startswith(id or "")), None)
    if folder is not None:
        how = How(**{**commands.settings(folder), "home": home, **other})
        plugins.load(how.plugins)
        command = commands.read(folder)
        doubt_same([run for run in command.runs if finished(run, site)], site, Data(Site(home, how.data)))
        if command.search:
            from ..search.runner import conduct_search
            from ..search.search import Search

            return conduct_search(Search.of(command.search), how, watch=watch, hear=hear)
        return make(command, how, watch=watch)
    if id is None:
        raise ValueError(f"no command in {home} to go on with; name another folder with --home")
    how = How(**{"home": home, **other})
    plugins.load(how.plugins)
    run = found(id, home)
    unseal_damaged(site.folder(run))
    if finished(run, site):
        doubt_same([run], site, Data(Site(home, how.data)))
    return make(Command((run,), reporting(run).line([run.method], run, [run.seed])), how, watch=watch)

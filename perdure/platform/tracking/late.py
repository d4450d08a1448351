"""What commands of before have left behind: after an outage, after a refusal, after they were killed."""

from collections.abc import Iterator
from contextlib import suppress

from ...notation import NotationError
from ..runs import study as commands
from ..runs.workspace import Site
from ..storage.lock import Busy
from .command_mirror import CommandMirror
from .delivery import Delivery
from .mlflow_client import known_by


def left_behind(site: Site, uri: str, current: str) -> Iterator[CommandMirror]:
    """Commands, but for the current one, of which MLflow lacks something."""
    for folder in commands.folders(site.home):
        if folder.name == current or not known_by(folder, uri).exists():
            continue
        with suppress(NotationError, OSError, ValueError):  # a plugin's, or not ours to read
            mirror = CommandMirror(commands.read(folder), site, uri)
            if not mirror.delivered:
                yield mirror


def deliver_late(mirror: CommandMirror, to: Delivery) -> None:
    """As it would have been delivered then."""
    with suppress(Busy), mirror.command.held(mirror.site.home):
        for id, run in mirror.runs.items():
            if end := run.end():
                mirror.ends[id] = end
        mirror.deliver(to, over=True)

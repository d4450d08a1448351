"""Learn from a live source as it grows."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...notation import NotationError
from ...strategies import names
from ...strategies.base import Strategy
from ...strategies.training.plan import Plan
from ...strategies.training.requirements import Caution, caution
from ...streams.live.folder import Folder
from ...streams.live.source import Generated, LiveSource
from ...streams.names import live_source
from ..live.model_registry import Registration, Registry
from ..live.pipeline import Apart, Here, Pair
from ..live.session import Followed, Hear, Session
from ..live.settings import Following, room
from ..live.state import Kept
from ..runs import dry_run
from ..runs import plugins as modules
from ..runs.job_record import note
from ..runs.workspace import Site, absolute
from ..storage.lock import held


def follow(
    source: str | LiveSource | Callable[[], Iterator[Any]],
    strategy: str | Strategy = "rehearsal(500)",
    *,
    state: str,
    classes: int | str | tuple[str, ...] | list[str] = 10,
    model: str = "mlp(64, 64)",
    optimizer: str = "adam",
    epochs: int = 20,
    steps: int | None = None,
    batch_size: int = 32,
    hold_out: float = 0.2,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    arrivals: int | None = None,
    idle: float | None = None,
    ahead: int = 2,
    here: bool = False,
    address: str | None = None,
    save_every: float | None = 60.0,
    tracking: bool = True,
    tracking_uri: str | None = None,
    experiment: str = "",
    register: str | None = None,
    alias: str = "champion",
    tolerance: float = 0.02,
    plugins: tuple[str, ...] = (),
    hear: Hear = lambda what, of: None,
) -> Followed:
    """Learn what arrives, each arrival as one experience, and go on where the folder `state` says.

    source: a folder that receives files, as a path or as `"folder('inbox', label='kind')"`; the name of a source of
    one's own; a LiveSource; or a generator function of `(x, y)` or `(id, x, y)`.
    classes: room for so many classes, or their names, as `"cat,dog,fox"`.
    arrivals: stop once so many are learned in all. idle: stop after so many seconds without one.
    ahead: arrivals that the stream actor reads before the learner actor takes them; here nothing is read ahead.
    experiment: of MLflow, by name.
    register: name in MLflow's model registry, where every arrival makes a version. alias: it moves to the newest
    version unless a class's accuracy on what was held out fell by more than `tolerance` against the one that has it.
    hear: told of everything as it happens.

    Raises NotationError (a ValueError) for texts that cannot be read, ValueError for what does not fit together, for a
    folder whose stream is learned in another way, or that another process is at work on (Busy), FileNotFoundError
    where there is no folder to follow.
    """
    modules.load(plugins)
    count, named = room(classes)
    text = strategy if isinstance(strategy, str) else names.spelled(strategy)
    plan = Plan(epochs, batch_size, steps)
    asked = Following(text, count, named, model, optimizer, seed, plan, hold_out, threads, device).normal()
    if ahead < 1 or tolerance < 0:
        raise ValueError(f"expected ahead of 1 at least and tolerance of 0 at least, got {ahead} and {tolerance:g}")
    given, site = _source(source), Site(state, plugins=plugins, every_seconds=save_every)
    if isinstance(given, Folder) and Path(given.folder) in (Path(site.home), *Path(site.home).parents):
        raise ValueError(f"the state {site.home} lies in the folder that is followed; name a folder elsewhere")
    doubt = caution(names.strategy(text), "class")
    if doubt:
        warnings.warn(f"{text} {doubt.partition(':')[0]}; where classes are new in later arrivals, add a memory, as "
                      "rehearsal(500)", Caution, stacklevel=2)  # fmt: skip
    registration = Registration(register, alias, tolerance) if register else None
    if registration and not tracking:
        raise ValueError("a version is registered in MLflow: ask for tracking, or leave out the name to register")
    if isinstance(given, Folder) and isinstance(source, str):
        dry_run.ends(paths=[given.folder if given.folder in source else os.path.relpath(given.folder)])
    dry_run.ends()
    kept = Kept(Path(site.home))
    with held(kept.path):
        known = kept.begin(asked)
        note(Path(site.home), site)
        registry = _registry(kept, asked, known["created"], tracking, tracking_uri, experiment, registration)

        def pair() -> Pair:
            if here:
                return Here(given, asked, site, registration is not None, idle)
            return Apart(given, asked, site, registration is not None, idle, ahead, address)

        return Session(kept, asked, registry, hear).made(pair, arrivals)


def _source(given: str | LiveSource | Callable[[], Iterator[Any]]) -> LiveSource:
    if isinstance(given, LiveSource):
        return given
    if not isinstance(given, str):
        return Generated(given)
    if Path(given).expanduser().is_dir():
        return Folder(given)
    try:
        source = live_source(given)
    except NotationError:
        if "(" in given:
            raise
        if dry_run.asked():
            return Folder(given)
        raise FileNotFoundError(f"{_nothing(given)}, or a source of your own with --plugin") from None
    if isinstance(source, Folder) and not Path(source.folder).is_dir() and not dry_run.asked():
        raise FileNotFoundError(_nothing(source.folder))
    return source


def _nothing(folder: str) -> str:
    return f"no folder {absolute(folder)} to follow; make it, or name another"


def _registry(
    kept: Kept,
    following: Following,
    created: int,
    tracking: bool,
    uri: str | None,
    experiment: str,
    registration: Registration | None,
) -> Registry | None:
    if not tracking:
        return None
    from ..tracking.addresses import default_uri

    return Registry(kept, following, created, uri or default_uri(), registration, experiment)

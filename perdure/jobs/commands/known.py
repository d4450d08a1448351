"""`perdure resume`, `show`, `list` and `version`: what was made, and what there is."""

from typing import Annotated, Any

from typer import Argument, Option

from .. import options as o
from ..conducted import conducted
from ..terminal import console, refusing


def resume(
    id: Annotated[str | None, Argument(help="Of a command or a run, or its beginning; the newest command.")] = None,
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    here: Annotated[bool | None, Option("--here/--fleet", help="In this process, or on Ray actors.")] = None,
    slots: o.Slots = None,
    address: o.Address = None,
    tracking_uri: o.TrackingUri = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Go on with a command that was stopped, from its checkpoints.

    Settings are those of the time before, but for those given now. Example: `perdure resume`
    """
    given = {"data": data, "here": here, "slots": slots, "address": address, "tracking_uri": tracking_uri}
    changed = {k: v for k, v in given.items() if v is not None}
    from ...platform import api
    from ..watch import trial

    def hear(tried: Any) -> None:
        trial(tried, console(stderr=True))

    conducted(lambda watch: api.resume(id, home, watch, hear, **changed), json)


def show(
    run: Annotated[str, Argument(metavar="RUN", help="Its id, or the beginning of it.")],
    home: o.Home = "perdure-runs",
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Tell everything of one run: what it is, how far it came, its accuracy matrix. Example: `perdure show 5f2c`"""
    from ...platform import api, plugins
    from ..shown.outcome import outcome, outcome_json

    def told() -> None:
        plugins.load(plugin or [])
        known = api.outcome(run, home)
        print(outcome_json(known)) if json else outcome(known, console(), tuple(plugin or ()))

    refusing(told)


def list_(
    names: Annotated[list[str] | None, Argument(help="Only these.", show_default="all")] = None,
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """List every stream, data set, model, optimizer and strategy, with parameters, defaults and paper."""
    from ...platform import plugins
    from .. import listing

    def told() -> None:
        plugins.load(plugin or [])
        print(listing.as_json(names)) if json else listing.show(names, console())

    refusing(told)


def version() -> None:
    """Print the version of Perdure, and of what it runs on."""
    from importlib.metadata import version as of
    from platform import python_version

    from ... import __version__

    print(f"perdure {__version__}")
    print(f"python {python_version()}")
    for package in ("torch", "ray", "mlflow"):
        print(f"{package} {of(package)}")

"""`perdure show`: everything of one run."""

from typing import Annotated

from typer import Argument

from .. import options as o
from ..terminal import console


def show(
    run: Annotated[str, Argument(metavar="RUN", help="Its id, or the beginning of it.")],
    home: o.Home = "perdure-runs",
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Tell everything of one run: what it is, how far it came, its accuracy matrix. Example: `perdure show 5f2c`"""
    from ...platform.reports import outcome as compare_outcome
    from ...platform.runs import plugins
    from ..views.run import outcome, outcome_json

    plugins.load(plugin or [])
    known = compare_outcome.outcome(run, home)
    print(outcome_json(known)) if json else outcome(known, console(), tuple(plugin or ()))

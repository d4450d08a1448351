"""`perdure list`: every name that there is."""

from typing import Annotated

from typer import Argument

from .. import options as o
from ..terminal import console


def list_(
    names: Annotated[list[str] | None, Argument(help="Only these.", show_default="all")] = None,
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """List every stream, data set, model, optimizer and strategy, with parameters, defaults and paper."""
    from ...platform.runs import plugins
    from .. import catalogue

    plugins.load(plugin or [])
    print(catalogue.as_json(names)) if json else catalogue.show(names, console())

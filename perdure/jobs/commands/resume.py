"""`perdure resume`: a command that was stopped goes on."""

from typing import Annotated

from typer import Argument, Option

from .. import options as o
from ..run_and_show import conducted
from ..terminal import console


def resume(
    id: Annotated[str | None, Argument(help="Of a command or a run, or its beginning; the newest command.")] = None,
    home: o.Home = "perdure-runs",
    data: o.Data = None,
    here: Annotated[bool | None, Option("--here/--fleet", help="In this process, or on Ray actors.")] = None,
    slots: o.Slots = None,
    address: o.Address = None,
    tracking: Annotated[bool | None, Option("--tracking/--no-tracking", help="Mirror everything in MLflow.")] = None,
    tracking_uri: o.TrackingUri = None,
    experiment: Annotated[str | None, Option(help="Of MLflow; that of the time before by default.")] = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Go on with a command that was stopped, from its checkpoints.

    Settings are those of the time before, but for those given now. Example: `perdure resume`
    """
    given = {"data": data, "here": here, "slots": slots, "address": address}
    given |= {"tracking": tracking, "tracking_uri": tracking_uri, "experiment": experiment}
    changed = {k: v for k, v in given.items() if v is not None}
    from ...platform.api import resume as compare_resume
    from ..live_progress import Trials

    with Trials(console(stderr=True)) as trials:
        conducted(lambda watch: compare_resume.resume(id, home, watch, trials, **changed), json)

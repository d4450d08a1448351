"""`perdure verify`: is everything on disk as it was written?"""

import sys
from typing import Annotated

from typer import Argument

from ...platform.storage.locations import line_for
from .. import options as o
from ..terminal import as_json, console, saying


def verify(
    run: Annotated[str, Argument(metavar="[RUN]", help="Its id, or the beginning of it; all runs by default.")] = "",
    home: o.Home = "perdure-runs",
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Check every file of runs against its digest: journals row by row, checkpoints, pictures, in remote storage too.

    Leaves with code 1 where something is damaged. `perdure resume RUN` repairs a run from its checkpoints, to the same
    figures. Examples:

        perdure verify

        perdure verify 5f2c --home s3://bucket/runs
    """
    from ...platform.runs.verify_home import verified

    known = verified(run, home)
    damaged = {id: problems for id, problems in known.items() if problems}
    if json:
        print(as_json({"checked": len(known), "damaged": damaged}))
    else:
        say = saying(console())
        for id, problems in damaged.items():
            say(f"{id}: {'; '.join(problems)}")
        say(
            f"{len(known)} checked, {len(damaged)} damaged"
            + (f": {line_for('resume RUN')} repairs a run" if damaged else "")
        )
    sys.exit(1 if damaged else 0)

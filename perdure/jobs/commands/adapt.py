"""`perdure adapt`: a finished meta-learner on one new task."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from .. import options as o
from ..terminal import as_json, console, saying

if TYPE_CHECKING:
    from ...platform.evaluation.adaptation import Answers


def adapt(
    run: Annotated[str, Argument(metavar="RUN", help="Id of a finished run of perdure meta, or its beginning.")],
    data: Annotated[str, Option(help="The task: a CSV or .npz file, or a folder of images.")],
    steps: Annotated[int | None, Option(help="On the samples that have an answer.", min=0)] = None,
    home: o.Home = "perdure-runs",
    plugin: o.Plugins = None,
    json: o.Json = False,
    recipe: o.RecipeFile = None,
) -> None:
    """Adapt a finished meta-learner to one new task, and answer what the task asks.

    A task is a CSV file, whose last column holds the answers and is empty where one is asked for; an .npz file with
    arrays x, y and queries; or a folder of images: its folders are classes, its other images are asked for.

    Examples:

        perdure adapt 7a1b --data task.csv

        perdure adapt 7a1b --data task.csv --steps 10 --json
    """
    from ...platform.evaluation import adaptation as adapting
    from ...platform.runs import plugins

    plugins.load(plugin or [])
    made = adapting.adapt(run, data, steps, home)
    print(_json(made)) if json else _shown(made)


def _shown(made: "Answers") -> None:
    """What the queries of a task are taken for, a line each."""
    say = saying(console())
    before, after = made.loss
    name = f"{made.run.learner} on {made.run.episodes}, run {made.run.id}"
    say(f"{name}: {made.steps} steps, loss on what has an answer {before:.3g} -> {after:.3g}")
    width = max(map(len, made.names))
    for query, said, row in zip(made.names, made.said, made.values, strict=True):
        shown = f"{said} ({100 * max(row):.0f} %)" if made.classes else "  ".join(f"{v:.6g}" for v in row)
        say(f"  {query:{width}}  {shown}")


def _json(made: "Answers") -> str:
    told = {"run": made.run.id, "steps": made.steps, "loss": made.loss, "classes": made.classes}
    queries = [
        {"query": name, "answer": said, "values": row}
        for name, said, row in zip(made.names, made.said, made.values, strict=True)
    ]
    return as_json(told | {"answers": queries})

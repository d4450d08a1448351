"""All commands: they read text into arguments, and show what came out."""

import typer

from .boundary import Bounded
from .commands.adapt import adapt
from .commands.attack import attack
from .commands.compare import compare, run
from .commands.fetch import fetch
from .commands.follow import follow
from .commands.generate import generate
from .commands.list import list_
from .commands.meta import meta
from .commands.resume import resume
from .commands.show import show
from .commands.submit import Submitting, job, submit
from .commands.tune import tune
from .commands.ui import ui
from .commands.verify import verify
from .commands.version import version
from .recipe import Command as Recipe

app = typer.Typer(
    cls=Bounded,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Continual learning on Ray: compare strategies against forgetting, on streams of tasks, over several seeds.",
    epilog="Start with `perdure compare`. Then `perdure list` for all names, `perdure COMMAND --help` for examples.",
)
for command in (compare, run, meta, tune, follow, generate, attack, adapt, resume, show, verify):
    app.command(cls=Recipe)(command)
app.command("list", cls=Recipe)(list_)
app.command(cls=Recipe)(ui)
app.command()(version)
app.command(cls=Submitting, no_args_is_help=True)(submit)
app.command(no_args_is_help=True)(fetch)
app.add_typer(job, name="job")

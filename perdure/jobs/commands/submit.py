"""`perdure submit` and `perdure job`: a command line on a cluster, followed from here."""

import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperCommand

from ..progress import counted

ADDRESS = "http://127.0.0.1:8265"
Address = Annotated[
    str, Option(envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's dashboard, as http://head:8265.")
]
Id = Annotated[str, Argument(metavar="JOB", help="Its id, or the beginning of it.")]


class Submitting(TyperCommand):
    """Takes the line behind `--`, and says what to type where that was forgotten."""

    def parse_args(self, ctx, args):
        group: Any = ctx.find_root().command
        typed, known = list(args), group.list_commands(ctx)
        if "--" not in typed:
            _expect_dashes(typed, next((n for n, word in enumerate(typed) if word in known), None))
        rest = super().parse_args(ctx, args)
        if "--" not in typed:
            _expect_dashes(typed, typed.index(ctx.params["command"][0]))
        return rest


def _expect_dashes(typed: list[str], at: int | None) -> None:
    """Raises ValueError where the line to submit begins without `--` before it."""
    if at is not None:
        line = shlex.join(["perdure", "submit", *typed[:at], "--", *typed[at:]])
        raise ValueError(f"expected -- between the options of submit and the line to submit; type: {line}")


job = typer.Typer(no_args_is_help=True, help="Jobs on a Ray cluster: list, status, logs, stop.")


def submit(
    command: Annotated[list[str], Argument(metavar="COMMAND...", help="What to run there, without `perdure`.")],
    address: Address = ADDRESS,
    storage: Annotated[
        str | None,
        Option(envvar="PERDURE_STORAGE", help="Where results go: a folder that all machines see, or s3://bucket/runs."),
    ] = None,
    wait: Annotated[bool, Option("--wait/--no-wait", help="Follow it to its end.")] = True,
    whole: Annotated[
        bool, Option("--with-perdure", help="Send this Perdure along, where the cluster has none.")
    ] = False,
    runtime: Annotated[
        str | None, Option("--runtime-env", metavar="FILE", help="YAML file with more of Ray's runtime environment.")
    ] = None,
    online: Annotated[bool, Option("--online", help="The cluster's machines reach a package index.")] = False,
    send: Annotated[
        list[str] | None,
        Option(metavar="DATA", help="A file or folder that the line names, to go along; again for more."),
    ] = None,
    shared: Annotated[
        list[str] | None, Option(metavar="DIR", help="A folder that the cluster's machines have by the same path.")
    ] = None,
) -> None:
    """Run any command of perdure on a Ray cluster: everything after `--`, as it would be typed here.

    The line is read here first: a mistake in it is told at once, and data that only this machine has. Files behind
    --plugin and --recipe travel with it, data where --send names them. Its output is followed, and its exit code is
    this one's. Ctrl-C stops following and lets it run; typed again, what is running is followed again.

    Examples:

        perdure submit --address http://head:8265 --storage /shared/runs -- compare naive "rehearsal(500)" --seeds 10

        perdure submit --storage s3://bucket/runs -- run "l2(0.1)" --plugin own.py

        perdure submit --storage /shared/runs --send photos -- run naive --on "split(images('photos'), 2)"

        perdure job list
    """
    from ...platform.submission.jobs import Cluster
    from ...platform.submission.parcel import packed, runtime_environment

    def done() -> int:
        more = runtime_environment(runtime) if runtime else None
        along = tuple(send or ())
        parcel = packed(command, address, storage, whole=whole, runtime=more, online=online, send=along)
        code = _looked_at(parcel, along, tuple(shared or ()))
        if code is not None:
            return code
        cluster = Cluster(address)
        made, new = cluster.submit(parcel)
        say(f"{made.id} {'submitted to' if new else 'is running already at'} {cluster.address}: {made.line}")
        return _followed(cluster, made.id) if wait else 0

    sys.exit(plainly(done))


def _looked_at(parcel: Any, send: tuple[str, ...], shared: tuple[str, ...]) -> int | None:
    """Read the line here, and say what is to be said of its data; the code of a line that need not be sent."""
    from ...platform.runs.dry_run import look
    from ...platform.storage.locations import MACHINE, STORAGE, is_url
    from ...platform.submission.local_data import expect_seen

    found = look(parcel.typed)
    if found.code or "--help" in parcel.typed:
        print(found.said, end="")
        print(found.told, end="", file=sys.stderr)
        return found.code or 0
    if found.unread:
        say(f"{found.unread}: what the line says is looked at on the cluster")
    storage = parcel.environment.get(STORAGE)
    places = [*([storage] if storage and not is_url(storage) else []), *shared]
    task = [path for path in found.paths if parcel.typed[0] == "adapt" and Path(path).is_file()]  # which travels
    for said in expect_seen(found, places, MACHINE in parcel.environment, [*send, *task]):
        say(said)
    return None


@job.command("list")
def list_(address: Address = ADDRESS) -> None:
    """All jobs, the newest first, and how far each has come."""

    def told() -> None:
        cluster = _cluster(address)
        for known in cluster.jobs():
            when = datetime.fromtimestamp(known.begun).strftime("%Y-%m-%d %H:%M:%S")
            print(f"{known.id}  {known.status:<9}  {when}  {_reached(cluster, known)}{known.line}")

    plainly(told)


@job.command()
def status(id: Id, address: Address = ADDRESS) -> None:
    """How a job is doing, and how far it has come; leaves with its exit code once it has ended."""

    def told() -> int:
        cluster = _cluster(address)
        known = cluster.job(id)
        print(f"{known.id}  {known.status}  {_reached(cluster, known)}{known.line}")
        if known.message and known.status != "SUCCEEDED":
            print(known.message)
        return known.code or 0

    sys.exit(plainly(told))


@job.command()
def logs(
    id: Id,
    follow: Annotated[bool, Option("--follow", "-f", help="To its end, whose exit code is this one's.")] = False,
    address: Address = ADDRESS,
) -> None:
    """What a job has printed."""

    def told() -> int:
        cluster = _cluster(address)
        if follow:
            return _followed(cluster, cluster.job(id).id)
        print(cluster.logs(id), end="")
        return 0

    sys.exit(plainly(told))


@job.command()
def stop(id: Id, address: Address = ADDRESS) -> None:
    """Interrupt a job as Ctrl-C does: it keeps its checkpoints and writes its report."""

    def told() -> None:
        known = _cluster(address).stop(id)
        print(f"{known.id}  {known.status}  {known.line}")

    plainly(told)


def _reached(cluster: Any, job: Any) -> str:
    """As "7 of 20 runs", before what follows in a line; nothing of a job that has told nothing."""
    known = counted(cluster.logs(job))
    return f"{known}  " if known else ""


def _followed(cluster: Any, id: str) -> int:
    where = "" if cluster.address == ADDRESS else f" --address {cluster.address}"
    try:
        ended = cluster.follow(id, _print, say)
    except KeyboardInterrupt:
        say(f"\n{id} goes on; follow it with: perdure job logs {id} --follow{where}")
        say(f"or stop it with: perdure job stop {id}{where}")
        return 130
    if ended.status != "SUCCEEDED":
        say(f"{id} {ended.status.lower()}" + (f" with code {ended.code}" if ended.status == "FAILED" else ""))
        if ended.status == "FAILED" and "exit code" not in ended.message:
            say(ended.message)  # it never came to run
    return ended.code


def _cluster(address: str) -> Any:
    from ...platform.submission.jobs import Cluster

    cluster = Cluster(address)
    say(f"at {cluster.address}")
    return cluster


def plainly(work: Callable[[], Any]) -> Any:
    """What Ray says of a cluster, it says as RuntimeError."""
    try:
        return work()
    except RuntimeError as e:
        raise ValueError(str(e)) from e


def _print(text: str) -> None:
    print(text, end="", flush=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

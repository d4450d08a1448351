"""`perdure fetch`: what a submitted job has come to, on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from .submit import ADDRESS, Address, Id, plainly, say

if TYPE_CHECKING:
    from ...platform.submission.fetch import Fetched


def fetch(
    id: Id,
    to: Annotated[Path | None, Option(help="Folder; one that is called as the job by default.")] = None,
    address: Address = ADDRESS,
    storage: Annotated[
        str | None, Option(help="Where its results go, if its cluster is gone; with the whole id of the job.")
    ] = None,
) -> None:
    """Bring report, table and runs of a submitted job to this machine.

    The folder is a home like any other: --home FOLDER for perdure show, verify and resume. Of a job that is still
    going comes what is there; typed again, what is lacking.

    Examples:

        perdure fetch perdure-5f2c --address http://head:8265

        perdure fetch perdure-5f2c0d1e2f3a_1 --storage s3://bucket/runs --to results
    """

    def made() -> "tuple[str, Fetched | None]":
        if storage:
            from ...platform.submission.fetch import taken_from

            return id, taken_from(storage, id, (to or Path(id)).absolute())
        from ...platform.submission.jobs import Cluster

        cluster = Cluster(address)
        say(f"at {cluster.address}")
        whole = cluster.job(id).id
        return whole, cluster.fetch(whole, (to or Path(whole)).absolute(), say)

    job, known = plainly(made)
    if known is None:
        raise ValueError(f"{job} has kept nothing yet that could be fetched; see perdure job logs {job}")
    _shown(known)
    sys.exit(1 if known.damaged else 0)


def _shown(known: "Fetched") -> None:
    """What has come, and what to do with it."""
    if known.runs:
        print(f"{known.done} of {known.runs} runs are finished")
    for run in known.kept:
        print(f"run {run} has come further here, and stays as it is")
    for run, problems in known.damaged.items():
        print(f"damaged: run {run}: {'; '.join(problems)}")
    for report in known.reports:
        print(f"report: {report}")
    for table in sorted(known.home.glob("table*.csv"), key=lambda path: len(path.name)):
        print(f"table:  {table}")
    if known.runs:
        print(f"next:   perdure show RUN --home {known.home}")

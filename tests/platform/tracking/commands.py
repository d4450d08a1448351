"""Small commands of tests, and what an MLflow has of them."""

from perdure.platform.execution.executor import InProcess
from perdure.platform.runs.study import Command
from perdure.platform.studies.runner import conduct
from perdure.platform.tracking.mlflow_client import client, experiment
from perdure.platform.tracking.mlflow_tracker import MLflow
from perdure.strategies.training.plan import Plan


def command(*seeds, strategies=("naive",), **common):
    return Command.grid(list(strategies), seeds, plan=Plan(1, 64), **common)


def made(site, uri, asked, executor=InProcess, **tracker):
    return conduct(asked, site, lambda: executor(site), MLflow(site, uri, **tracker))


def known(uri):
    """Parents by their command's id, and children by their run's, each of which there is one of."""
    to = client(uri)
    every = to.search_runs([experiment(to, uri)])
    parents = {r.data.tags["perdure.command"]: r for r in every if "perdure.command" in r.data.tags}
    children = {r.data.tags["perdure.run"]: r for r in every if "perdure.run" in r.data.tags}
    assert len(parents) + len(children) == len(every)
    return to, parents, children


def held(to, run, folder=None):
    return {a.path for a in to.list_artifacts(run.info.run_id, folder)}

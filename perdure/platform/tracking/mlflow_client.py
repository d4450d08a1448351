"""MLflow's client: set up, and asked for what all who send something ask for."""

import logging
import os
import threading
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..storage.secrets import masked
from .addresses import artifacts_beside, database, file_of
from .refusals import ExperimentDeleted, login_wanted

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
KIND = ("mlflow.experimentKind", "custom_model_development")  # what it is for, to versions whose pages go by it
PAGES = "workflowType=machine_learning"  # of an address: pages open among runs, not among traces and judges
_TABLES = threading.Lock()  # what makes them has one state for the whole process


class Server:
    """One MLflow, and the experiment in it that everything goes to: by name, or else as `experiment` has it."""

    def __init__(self, uri: str, name: str = ""):
        self.uri, self.name, self.into, self.store = uri, name, "", ""
        self.client: Any = None
        self.refused, self.refusal = 0, ""  # artifacts in a row, and why the last of them was

    def open(self) -> None:
        """Raises what the client raises, and ExperimentDeleted."""
        if not self.store:
            self.client = self.client or client(self.uri)
            self.into = experiment(self.client, self.uri, self.name)
            made = self.client.get_experiment(self.into).creation_time
            self.store = f"{self.into}/{made}"  # another one once somebody has emptied the database

    def answers(self) -> bool:
        """Whether it is there, so that what has failed has failed alone."""
        try:
            return self.client.get_experiment(self.into) is not None
        except Exception:
            return False

    def check(self, error: Exception) -> None:
        """Raises where what was refused would be refused to all: a login is wanted, or the experiment is deleted."""
        if login_wanted(error):
            raise error
        experiment(self.client, self.uri, self.name)


def quiet() -> None:
    """Settings of MLflow that must be there before it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the writer tries again itself
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def loaded() -> Any:
    """MLflow's client, imported: seconds of this machine's, which no server is to be blamed for."""
    quiet()
    from mlflow import MlflowClient

    return MlflowClient


def client(uri: str) -> Any:
    made = loaded()
    for name in ("alembic", "urllib3.connectionpool"):  # the writer itself tells of an outage, once
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it raises
    file = file_of(uri)
    with _TABLES:
        if file is not None and not file.exists():
            _created(file)
    return made(tracking_uri=uri, registry_uri=uri)


def experiment_name() -> str:
    return os.environ.get(EXPERIMENT) or "perdure"


def experiment(client: Any, uri: str, name: str = "") -> str:
    """The experiment of a name, by default that in $MLFLOW_EXPERIMENT_NAME, or perdure; made where there is none.

    Raises ExperimentDeleted.
    """
    name = name or experiment_name()
    known = client.get_experiment_by_name(name)
    if known is None:
        return _made(client, name, file_of(uri))
    if known.lifecycle_stage != "active":
        raise ExperimentDeleted(name, known.experiment_id)
    if KIND[0] not in known.tags:
        _marked(client, known.experiment_id)
    return known.experiment_id


def _marked(client: Any, id: str) -> None:
    """Say what an experiment is for. Who may write runs there may be refused this, and needs it not."""
    try:
        client.set_experiment_tag(id, *KIND)
    except Exception as e:
        if not login_wanted(e):
            raise


def _made(client: Any, name: str, file: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    place = artifacts_beside(file) if file is not None else None
    try:
        return client.create_experiment(name, artifact_location=place, tags=dict([KIND]))
    except MlflowException as e:
        if e.error_code == "RESOURCE_ALREADY_EXISTS":  # another command was as quick
            return client.get_experiment_by_name(name).experiment_id
        raise


def exists(client: Any, run: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run).info.lifecycle_stage == "active"
    except MlflowException as e:
        if e.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def known_by(folder: Path, uri: str) -> Path:
    """Where it is written down what an MLflow has of what is in a folder; the same after a password has changed."""
    return folder / f"mlflow-{sha256(masked(uri).encode()).hexdigest()[:8]}.json"


def _created(file: Path) -> None:
    """A database with artifacts beside it, there whole or not at all: MLflow makes nothing of half a one.

    Its own client puts the working folder's path into a statement as it is, which a colon or quotes in it break.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{uuid4().hex}.part")
    try:
        SqlAlchemyStore(database(part), artifacts_beside(file)).engine.dispose()
        with suppress(FileExistsError):  # another command was as quick
            os.link(part, file)
    finally:
        part.unlink(missing_ok=True)

"""MLflow's client: set up, and asked for what all who send something ask for."""

import logging
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..secrets import masked
from .addresses import artifacts_beside, file_of


def quiet() -> None:
    """Settings of MLflow that must be there before it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the writer tries again itself
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def client(uri: str) -> Any:
    quiet()
    from mlflow import MlflowClient

    for name in ("alembic", "urllib3.connectionpool"):  # the writer itself tells of an outage, once
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it raises
    file = file_of(uri)
    if file is not None and not file.exists():
        _created(uri, file)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment(client: Any, name: str, uri: str) -> str:
    known = client.get_experiment_by_name(name)
    if known is not None:
        return known.experiment_id
    file = file_of(uri)
    return client.create_experiment(name, artifact_location=artifacts_beside(file) if file is not None else None)


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


def _created(uri: str, file: Path) -> None:
    """A database with artifacts beside it.

    MLflow's own client puts the working folder's path into a statement as it is, which a colon or quotes in it break.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    SqlAlchemyStore(uri, artifacts_beside(file))

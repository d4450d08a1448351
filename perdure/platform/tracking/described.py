"""What MLflow is told of a run beside its curves: parameters, data set, tables, pictures."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...notation import spell
from ...streams.datasets.dataset import Source
from ...streams.names import DATASETS
from ..reports.kinds import reporting
from ..runs.any_run import AnyRun
from ..runs.journal import Journal
from ..runs.workspace import PROFILE, Site
from ..storage.safe_names import LONGEST_DATA_SET, LONGEST_PARAM, file_name, shortened

# of whatever kind something is, its parameters have one name for the same thing
NAMES = {"strategy": "method", "learner": "method", "generator": "method", "stream": "on", "episodes": "on"}
NAMES |= {"batch": "batch_size"}


def params(row: Mapping[str, Any]) -> list:
    """Parameters as MLflow lists them: named alike for strategies, meta-learners and generators."""
    from mlflow.entities import Param

    return [Param(NAMES.get(key, key), shortened(str(value), LONGEST_PARAM)) for key, value in row.items()]


def describe(client: Any, id: str, run: AnyRun, site: Site) -> None:
    client.log_batch(id, params=params(run.row()))
    data = next((n["data"] for n in reversed(Journal(site.folder(run)).notes()) if "data" in n), None)
    source = run.source()
    if data and source is not None:
        client.log_inputs(id, [_input(source, data)])


def artifacts(client: Any, id: str, run: AnyRun, site: Site) -> Iterator[Callable[[], None]]:
    """What sends each of a finished run's."""
    folder = site.folder(run)
    tables = reporting(run).tables(Journal(folder).rows())
    texts = {f"{file_name(name)}.csv": text for name, text in tables.items()}
    long = {key: str(value) for key, value in run.row().items() if len(str(value)) > LONGEST_PARAM}
    texts |= {"parameters.json": json.dumps(long, indent=1)} if long else {}
    files = [(path, "figures") for path in site.pictures(run)]
    files += [(path, PROFILE) for path in sorted((folder / PROFILE).glob("*"))]
    for name, text in texts.items():
        yield lambda name=name, text=text: client.log_text(id, text, name)
    for path, place in files:
        yield sending(client, id, path, place)


def sending(client: Any, id: str, path: Path, place: str) -> Callable[[], None]:
    return lambda: client.log_artifact(id, str(path), place or None)


def _input(source: Source, fingerprint: str) -> Any:
    """The data set as MLflow lists it: its name, and the digest of its content."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = spell(source, DATASETS)
    digest, where = fingerprint[:16], json.dumps({"uri": f"perdure:{name}"})
    known = Dataset(name=shortened(name, LONGEST_DATA_SET), digest=digest, source_type="perdure", source=where)
    return DatasetInput(known, [InputTag("mlflow.data.context", "stream")])

"""The points of a run's curves in MLflow, from the rows of its journal as they come."""

from collections.abc import Mapping
from math import isnan, nan

from ..reports.kinds import reporting
from ..runs.any_run import AnyRun
from ..runs.workspace import Site
from ..storage.safe_names import metric_name
from .tail import Tail

Point = tuple[int, dict[str, float]]  # which row, and the values


class Points:
    def __init__(self, run: AnyRun, site: Site):
        self._run, self._tail = run, Tail(site.folder(run))
        self._begin_anew()

    @property
    def count(self) -> int:
        """Rows that were read."""
        return self._tail.count

    def read(self) -> None:
        rows, anew = self._tail.more()
        if anew:
            self._begin_anew()
        for step, row in enumerate(rows, self._tail.count - len(rows) + 1):
            self._newest = step, self._curves(row)
            self._unsent.append(self._newest)

    def after(self, count: int, created: int) -> list:
        """Those of the rows after so many, and not sent yet."""
        return [m for point in self._unsent if point[0] > count for m in _metrics(point, created)]

    def sent(self) -> None:
        self._unsent.clear()

    def last(self, end: str, created: int) -> list:
        """What is said once a run has ended: MLflow shows the last values as what it has come to, and sorts by them.

        NaN of a run that is not finished, after the values that it had on its way; of one that had been stopped and is
        finished now, the values again.
        """
        if not self.count:
            self.read()
        known = _metrics(self._newest, created, 2 if end == "finished" else 1)
        return known if end == "finished" else [_nan(metric) for metric in known]

    def _begin_anew(self) -> None:
        self._curves = reporting(self._run).curves()
        self._unsent: list[Point] = []
        self._newest: Point = (0, {})


def metrics(step: int, values: Mapping[str, float | None], time: int) -> list:
    """Points of curves as MLflow takes them: what is unknown is none."""
    from mlflow.entities import Metric

    known = {metric_name(k): float(v) for k, v in values.items() if v is not None and not isnan(v)}
    return [Metric(name, value, time, step) for name, value in known.items()]


def _metrics(point: Point, created: int, later: int = 0) -> list:
    """At a time that a replay repeats: milliseconds after the run was created."""
    step, values = point
    return metrics(step, values, created + step + later)


def _nan(metric):
    from mlflow.entities import Metric

    return Metric(metric.key, nan, metric.timestamp, metric.step)

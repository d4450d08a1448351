"""How a run of each kind is made."""

from ..runs.any_run import AnyRun
from ..runs.meta_run import MetaRun
from .continual import CONTINUAL
from .meta_learning import META
from .work import Workload


def workload(run: AnyRun) -> Workload:
    """How runs of this kind are made."""
    return META if isinstance(run, MetaRun) else CONTINUAL

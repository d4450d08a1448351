"""In-process and Ray executors pass one suite; what only a fleet can meet comes after it."""

import pytest

from perdure.platform.execution.executor import InProcess
from perdure.platform.fleet.fleet import Fleet
from perdure.testing.executors import ExecutorSuite


class TestInProcess(ExecutorSuite):
    def executor(self, site):
        return InProcess(site)


@pytest.mark.usefixtures("cluster")
class TestFleet(ExecutorSuite):
    def executor(self, site):
        return Fleet(site, slots=2)

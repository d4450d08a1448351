"""Profiles: `ci` takes a minute in all, `fuzz` (make fuzz) an hour. Deadlines and memory are the same in both."""

import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

from perdure import limits

COMMON = {
    "deadline": timedelta(seconds=5),
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": True,
}
settings.register_profile("ci", max_examples=60, derandomize=True, database=None, **COMMON)
settings.register_profile("fuzz", max_examples=10_000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """A machine of 2 GB, which nothing may ask more of."""
    monkeypatch.setattr(limits, "memory", lambda: 2_000_000_000)

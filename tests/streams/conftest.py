import pytest

from perdure.streams.storage.directories import Places


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Places:
    """Places of which none has anything, and no network."""
    monkeypatch.delenv("PERDURE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Places(download=False, system=(str(tmp_path / "system"),))

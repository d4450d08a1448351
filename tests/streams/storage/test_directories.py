"""Where files are kept for a user: one without a home, one whose home cannot be written to, on a machine of many."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from perdure.platform.storage.locations import local_copy
from perdure.streams.datasets.dataset import DataError
from perdure.streams.datasets.placement import Draft, Holder
from perdure.streams.storage.directories import Places, user_cache

from ..tiny import mnist


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder of temporary files, of a user without settings."""
    for name in ("XDG_CACHE_HOME", "PERDURE_DATA"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(params=["no such user", "a file", "below a file", "nothing"])
def homeless(request, temporary, tmp_path, monkeypatch) -> Path:
    """A user who has no home, or one where nothing can be written (root, too)."""
    (tmp_path / "file").touch()
    if request.param == "no such user":
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    elif request.param == "nothing":
        monkeypatch.setenv("HOME", str(tmp_path / "closed"))
        (tmp_path / "closed").mkdir()
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "closed" and access(path, mode))
    else:
        monkeypatch.setenv("HOME", str(tmp_path / "file" / ("home" if request.param == "below a file" else "")))
    return temporary


def test_it_is_in_the_home_of_who_has_one(temporary, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home" / ".cache" / "perdure"  # which is made as soon as it is needed
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "large disk"))
    assert user_cache() == tmp_path / "large disk" / "perdure" and not list(temporary.iterdir())


def test_without_a_home_it_is_among_temporary_files_for_this_user_alone(homeless):
    own = user_cache()
    assert own == homeless / f"perdure-{os.getuid()}" and own.stat().st_mode & 0o777 == 0o700
    assert Places().cache == own / "datasets" and Places().maps == own / "mapped"
    assert Path(local_copy("s3://bucket/runs")).is_relative_to(own)


def test_without_a_home_data_larger_than_memory_are_kept_and_found_again(homeless, monkeypatch):
    monkeypatch.setenv("PERDURE_ROOM", "1")
    drafts = [Draft((n, 2), np.float32, lambda n=n: iter([np.full((n, 2), n)])) for n in (3, 2)]
    holder = Holder(Places(), "numbers", "a key")
    held = [x[:].tolist() for x in holder.samples(lambda: drafts)]
    assert held == [[[3.0, 3.0]] * 3, [[2.0, 2.0]] * 2] and holder.folder.is_relative_to(homeless)

    def anew():
        raise AssertionError("it was made before")

    assert [x[:].tolist() for x in holder.samples(anew)] == held


def test_a_home_that_cannot_be_written_to_may_hold_data(temporary, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    mnist(tmp_path / "home" / ".cache" / "perdure" / "datasets" / "mnist")
    monkeypatch.setattr("perdure.streams.storage.directories.writable", lambda folder: False)
    found, _ = Places().find(("mnist",), ("train-images-idx3-ubyte",))
    assert found and found["train-images-idx3-ubyte"].is_relative_to(tmp_path / "home")
    assert not list(temporary.iterdir())  # who only reads makes no folder


@pytest.mark.parametrize("planted", ["a link", "a file", "open to others"])
def test_a_folder_that_somebody_else_may_have_made_is_refused(homeless, tmp_path, planted):
    place = homeless / f"perdure-{os.getuid()}"
    if planted == "a link":
        place.symlink_to(tmp_path)
    elif planted == "a file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(ValueError, match="name a folder with XDG_CACHE_HOME"):
        user_cache()
    assert not any(
        name == "per-user cache" and homeless in folder.parents for name, folder in Places().named() if folder
    )


def test_a_cache_that_was_named_and_cannot_be_used_is_refused_by_who_writes(temporary, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("PERDURE_ROOM", "1")
    with pytest.raises(ValueError, match="XDG_CACHE_HOME is .*file, where user .* cannot write; name another"):
        local_copy("s3://bucket/runs")
    draft = Draft((1, 2), np.float32, lambda: iter([np.ones((1, 2))]))
    with pytest.raises(ValueError, match="name another"):
        Holder(Places(), "numbers", "a key").samples(lambda: [draft, draft])
    mnist(tmp_path / "data" / "mnist")
    assert Places(str(tmp_path / "data")).find(("mnist",), ("train-images-idx3-ubyte",))[0]  # what only reads, reads
    assert issubclass(DataError, ValueError)


def test_figures_are_drawn_without_a_word_where_no_home_can_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    code = "from perdure.platform.figures.canvas import new; new(1, 1).savefig('1.png'); "
    code += "import matplotlib; print(matplotlib.get_configdir())"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL"))}
    kept |= {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", code]
    told = [
        subprocess.run(words, env=kept, cwd=tmp_path, capture_output=True, text=True, timeout=240) for _ in range(2)
    ]
    assert [one.stdout for one in told] == [f"{tmp_path}/perdure-{os.getuid()}/matplotlib\n"] * 2
    assert [one.stderr for one in told] == ["", ""]

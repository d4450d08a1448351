"""What a submitted line names on this machine: refused, taken along, or taken as the cluster's own."""

import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure.jobs import main
from perdure.platform.runs.dry_run import Look
from perdure.platform.submission import local_data
from perdure.platform.submission.local_data import expect_seen
from perdure.platform.submission.parcel import packed

NOBODY = ["submit", "--address", "http://127.0.0.1:1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/cats/1.png", "photos/dogs/2.png", "shared/x.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    return tmp_path


def seen(path: str, data: str | None = None, same: bool = False, send=()):
    return expect_seen(Look(None, paths=(path,), data=data), [str(Path("shared").absolute())], same, send)


def test_what_only_this_machine_has_is_refused_with_what_to_do(here):
    for path in ("photos", str(here / "photos"), "photos/cats", "shared/x.csv"):
        with pytest.raises(ValueError, match=f"place it in {here}/shared and name it .* with --send {path} "):
            seen(path)
    with pytest.raises(
        ValueError, match="fotos was not found at .* name it by its full path on the cluster's machines"
    ):
        seen("fotos")
    with pytest.raises(ValueError, match="photos is on this machine"):
        seen("cats", data="photos")


def test_what_the_clusters_machines_see_is_let_through(here):
    Path("shared/out").symlink_to("/etc")
    assert seen(str(here / "shared" / "x.csv")) == []
    assert seen("s3://bucket/photos") == []
    assert seen("x.csv", data=str(here / "shared")) == []
    with pytest.raises(ValueError, match="is on this machine"):
        seen(str(here / "shared" / "out" / "passwd"))  # a link leads out of it


def test_an_absolute_path_that_is_not_here_is_the_clusters():
    said = ["/data/photos is not on this machine, and is taken as a path of the cluster's machines"]
    assert seen("/data/photos") == said
    assert seen("cats", data="/data/photos") == said  # below it


def test_of_a_cluster_that_is_this_machine_full_paths_are_enough(here):
    assert seen(str(here / "photos"), same=True) == []
    with pytest.raises(ValueError, match=f"the line runs in another; name it by its full path, {here}/photos"):
        seen("photos", same=True)


def test_what_is_sent_lies_there_by_how_the_line_names_it(here):
    assert seen("photos/cats", send=["./photos"]) == seen("cats", data="photos", send=["photos"]) == []
    full = str(here / "photos")
    parcel = packed(["run", "naive", "--data", full], send=["photos/cats", full])
    assert parcel.words[:4] == ("run", "naive", "--data", f"sent/_root{full}")
    assert parcel.files["sent/photos/cats/1.png"] == parcel.files[f"sent/_root{full}/cats/1.png"]
    assert parcel.environment["PERDURE_SENT"] == "sent" and len(parcel.files) == 3
    assert parcel.id != packed(["run", "naive", "--data", full]).id
    Path("own.yaml").write_text("data: photos\n")
    assert packed(["run", "--recipe", "own.yaml"], send=["photos"]).files["files/own.yaml"] == b"data: sent/photos\n"


def test_what_cannot_be_sent_is_refused(here, monkeypatch):
    Path("photos/more").symlink_to(here / "shared")
    with pytest.raises(ValueError, match="photos/more is a link to a folder"):
        packed(["run"], send=["photos"])
    with pytest.raises(ValueError, match="fotos was to go along with the line, and is not there"):
        packed(["run"], send=["fotos"])
    monkeypatch.setattr(local_data, "LARGEST", 20)
    with pytest.raises(ValueError, match="34 bytes, and at most 20 bytes go along with a line; place them where"):
        packed(["run"], send=["photos/cats", "photos/dogs"])


def test_files_beside_a_plugin_that_it_imports_travel_with_it(here):
    for folder in ("a", "b"):
        Path(folder, "lib").mkdir(parents=True)
        Path(folder, "own.py").write_text(f"import lib.deep  # {folder}")
        Path(folder, "lib", "deep.py").write_text("1")
    assert sorted(packed(["run", "naive", "--plugin", "a/own.py"]).files) == ["files/lib/deep.py", "files/own.py"]
    both = ["run", "naive", "--plugin", "a/own.py", "--plugin", "b/own.py"]
    assert "files/2/lib/deep.py" in packed(both).files


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--storage", "/shared", "--", "run", "rehersal(5)"], "error: unknown name 'rehersal', did you mean"),
        (["--storage", "/shared", "--", "run", "naive", "--on", "split(images('photos'))"], "with --send photos"),
        (
            ["--storage", "/shared", "run", "naive"],
            "submit --address http://127.0.0.1:1 --storage /shared -- run naive",
        ),
        (["comprae", "naive"], "type: perdure submit --address http://127.0.0.1:1 -- comprae naive"),
    ],
)
def test_before_anything_is_sent(words, said):
    start = time.process_time()
    told = CliRunner().invoke(main.app, [*NOBODY, *words], env={"COLUMNS": "200"})
    assert told.exit_code == 2 and said in told.stderr and "dashboard" not in told.stderr
    assert not re.search("Traceback", told.output) and time.process_time() - start < 3


def test_help_of_a_line_is_told_here():
    told = CliRunner().invoke(main.app, [*NOBODY, "--", "run", "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0 and "--seed" in told.stdout

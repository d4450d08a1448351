"""What travels with a submitted command line: its files, its environment, and what it may not hold."""

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...strategies.numerics.own_code import files as beside
from ...streams.storage.directories import SENT, sent
from ..storage.locations import MACHINE, STORAGE, absolute, within
from ..storage.secrets import masked, secret
from ..storage.yaml_file import read_yaml
from .local_data import SENT_TO, goes_along, parcelled

ADDRESS = "http://127.0.0.1:8265"


INSTALLS = ("pip", "uv", "conda")  # of a runtime environment: what asks for a package index


JOINING = ("compare", "run", "meta", "resume", "attack", "tune")  # commands that may run on a cluster's actors


TRAVELS = ("plugin", "recipe")  # options whose files go along


WHOLE = "whole"  # beside what was sent: whether the package was


@dataclass(frozen=True)
class Parcel:
    """A command line and the files that travel with it, by the names that they get there."""

    words: tuple[str, ...]
    typed: tuple[str, ...]  # before files had other names
    files: Mapping[str, bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False  # the package itself too
    runtime: Mapping[str, Any] = field(default_factory=dict)  # what else a runtime environment says

    @property
    def line(self) -> str:
        """As it was typed."""
        return shlex.join(["perdure", *self.typed])

    @property
    def id(self) -> str:
        """Equal for equal command lines and files."""
        named = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        parts = [self.words, named, dict(self.environment), self.whole, dict(self.runtime)]
        return "perdure-" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def packed(
    words: Sequence[str],
    address: str = ADDRESS,
    storage: str | None = None,
    *,
    whole: bool = False,
    runtime: Mapping[str, Any] | None = None,
    online: bool = False,
    send: Sequence[str] = (),
) -> Parcel:
    """What is sent for a command line without its `perdure`. Raises ValueError for what could not work there.

    storage: a folder that all machines of the cluster see, or an fsspec address; by default what the cluster itself
    says, and of a cluster on this machine perdure-runs in this folder. online: whether its machines reach a package
    index. send: files and folders of data that go along.
    """
    if not words or words[0].startswith("-"):
        raise ValueError('expected a command after --, as: perdure submit -- compare naive "rehearsal(200)"')
    if words[0] in ("submit", "job", "ui"):
        raise ValueError(
            f"perdure {words[0]} is for this machine; submit what makes runs, as: perdure submit -- compare"
        )
    asked = [name for name in INSTALLS if name in (runtime or {})]
    if asked and not online:
        raise ValueError(
            f"the runtime environment asks for {asked[0]}, which hangs for ever where machines reach no package index; "
            "build packages into the cluster's image (deploy/Dockerfile), or say --online where they reach one"
        )
    hidden = next((w for w in words if secret(w)), None)
    if hidden is not None:
        raise ValueError(
            f"{masked(hidden)} holds a password or a key, and the line of a job is shown to all who can list jobs; set "
            "it in the environment of the cluster's machines (as MLFLOW_TRACKING_URI, AWS_SECRET_ACCESS_KEY)"
        )
    environment = _environment(address, storage)
    environment |= {SENT: SENT_TO} if send else {}
    files: dict[str, bytes] = {}
    moved = _moved(list(words), files, environment.get(STORAGE), send)
    return Parcel(tuple(moved), tuple(words), files | parcelled(send), environment, whole, dict(runtime or {}))


def _environment(address: str, storage: str | None) -> dict[str, str]:
    """Of the job: where its results go; to be stopped as by Ctrl-C, with time to write its report."""
    made = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "300"}
    here = address.partition("://")[2].rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")
    storage = storage or os.environ.get(STORAGE)
    if storage and secret(storage):
        raise ValueError(
            f"{masked(storage)} holds a password or a key; set them in the environment of the cluster's machines"
        )
    if storage:
        made[STORAGE] = absolute(storage)
    elif here:  # or a tunnel to somewhere else, which the job finds out
        made |= {STORAGE: absolute("perdure-runs"), MACHINE: os.uname().nodename}
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")) and not secret(uri):
        made["MLFLOW_TRACKING_URI"] = uri
    return made


def _moved(words: list[str], files: dict[str, bytes], storage: str | None, send: Sequence[str]) -> list[str]:
    """The words as they are there: files that travel by their new names, and on the cluster that they run on."""
    made, options = [], iter(words)
    for word in options:
        name, equals, value = word.partition("=")
        if name not in ("--plugin", "--recipe", "--home", "--data") and not (equals and name in (*TRAVELS, "data")):
            made.append(word)
            continue
        value = value if equals else next(options, "")
        kind = name.removeprefix("--")
        if kind == "home" and storage:
            within(value, storage)
        if kind == "recipe":
            value = _recipe(value, files, storage, send)
        elif kind == "data" and goes_along(value, send):
            value = f"{SENT_TO}/{sent(value)}"
        elif kind == "plugin":
            value = _plugin(value, files)
        elif kind == "data" and words[0] == "adapt" and Path(value).is_file():
            value = _taken(value, files)
        made += [f"{name}={value}"] if not name.startswith("--") else [name, value]
    says = {"address", "here"} | ({"workers"} if words[0] == "meta" else set())  # meta's share the job's own process
    chosen = says & {word.partition("=")[0].removeprefix("--") for word in words}
    if words[0] not in JOINING or chosen or any(_says_where(content) for content in files.values()):
        return made
    return [*made, "--address", "auto"]


def _taken(path: str, files: dict[str, bytes]) -> str:
    """Take a file along; its name there."""
    file = Path(path).expanduser()
    try:
        content = file.read_bytes()
    except OSError as e:
        raise ValueError(f"{path} was to travel with the command, and cannot be read ({e.strerror})") from None
    name, count = f"files/{file.name}", 1
    while files.get(name, content) != content:
        count += 1
        name = f"files/{count}/{file.name}"
    files[name] = content
    return name


def _plugin(path: str, files: dict[str, bytes]) -> str:
    """Take a plugin along, with the files beside it that it imports; its name there."""
    name, file = _taken(path, files), Path(path).expanduser().resolve()
    for one in sorted(beside(file) - {file}):
        there = (PurePosixPath(name).parent / one.relative_to(file.parent)).as_posix()
        if files.setdefault(there, content := one.read_bytes()) != content:
            raise ValueError(
                f"{path} imports {one.name} from beside it, and another plugin another of that name; rename one"
            )
    return name


def _recipe(path: str, files: dict[str, bytes], storage: str | None, send: Sequence[str]) -> str:
    """Take a recipe along, with the plugins that it names. Raises ValueError where it leaves the storage."""
    import yaml

    name = _taken(path, files)
    try:
        held = yaml.safe_load(files[name])
    except yaml.YAMLError as e:
        raise ValueError(f"the recipe {path} is not YAML: {e}") from None
    if not isinstance(held, dict):
        return name  # the command itself says what is wrong with it
    home = held.get("home")
    if home is not None and storage:
        within(str(home), storage)
    if any(isinstance(v, str) and secret(v) for v in held.values()):
        raise ValueError(f"the recipe {path} holds a password or a key; set it in the environment of the cluster")
    data, plugins = held.get("data"), held.get("plugin")
    along = data is not None and goes_along(str(data), send)
    if along:
        held["data"] = f"{SENT_TO}/{sent(str(data))}"
    if plugins:
        given = plugins if isinstance(plugins, list) else [plugins]
        held["plugin"] = [_plugin(str(one), files) for one in given]
    if plugins or along:
        files[name] = yaml.safe_dump({"on" if k is True else k: v for k, v in held.items()}, sort_keys=False).encode()
    return name


def _says_where(recipe: bytes) -> bool:
    """Whether a recipe itself says where its runs are made."""
    return re.search(rb"^(address|here)\s*:", recipe, flags=re.M) is not None


def lay(parcel: Parcel, folder: Path) -> None:
    """Write into a folder what travels."""
    (folder / "command.txt").write_text(parcel.line + "\n")
    for name, content in parcel.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if parcel.whole:
        lay_package(folder)


def lay_package(folder: Path) -> None:
    """Write this package into a folder, for a cluster that has none."""
    package = Path(__file__).parents[2]
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))


def sent_variables(parcel: Parcel) -> dict[str, str]:
    """What another job needs to find its files: a dashboard may keep the variables of a runtime environment back."""
    own = {**parcel.runtime.get("env_vars", {}), **parcel.environment}
    known = {k: v for k in (STORAGE, MACHINE) if (v := own.get(k))}
    return known | ({WHOLE: "1"} if parcel.whole else {})


def runtime_environment(path: str) -> dict[str, Any]:
    """A runtime environment of Ray's from a YAML file. Raises ValueError."""
    held = read_yaml(Path(path), f"the runtime environment {path}")
    if not isinstance(held, dict):
        raise ValueError(f"expected {path} to hold lines as 'env_vars: ...', got {type(held).__name__}")
    if "working_dir" in held:
        raise ValueError(f"{path} names a working_dir; what travels is put together from --plugin and --recipe")
    return held

"""Commands that are struck at any moment of their lives, and typed again.

python -m tests.jobs.kills FOLDER CASE...: a case is COMMAND:FIFTH:SIGNAL, as run:3:SIGKILL. Every life is forked
from one warm process, so that it costs no start. Prints a line of JSON for each.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from perdure.jobs import main
from perdure.jobs.app import app
from perdure.platform.live.state import STREAM
from perdure.platform.runs.journal import Journal
from perdure.platform.storage.checkpoints import DIGEST, Store
from perdure.platform.workloads.warmup import warm

PLAIN = ["--no-tracking", "--json", "--home", "home"]
HERE = [*PLAIN, "--here"]
QUICK = ["--epochs", "30", "--save-every", "0.1"]
META = ["maml", "--iterations", "150", "--batch", "4", "--tested", "20", *HERE]
COMMANDS: dict[str, list[str]] = {
    "run": ["run", "rehearsal(20) + ewc(10)", *QUICK, *HERE],
    "compare": ["compare", "naive", "lwf", "--seeds", "2", "--epochs", "15", "--save-every", "0.1", *HERE],
    "meta": ["meta", "--seeds", "2", *META],
    "attack": ["attack", "pgd(eps=0.1)", "cw(steps=20)", "--run", "RUN", "--samples", "100", *PLAIN],
    "generate": ["generate", "vae(4, hidden=(32,), steps=600)", *PLAIN],
    "follow": ["follow", "inbox", "--state", "home", "--classes", "4", "--epochs", "20", "--arrivals", "4",
               "--save-every", "0.1", "--here", "--no-tracking", "--json"],
    "adapt": ["adapt", "META", "--data", "task.csv", "--steps", "200", "--json", "--home", "home"],
    "tune": ["tune", "rehearsal(choice(10, 20))", "--by", "grid", "--trials", "2", "--epochs", "5", "--fresh", "1",
             "--slots", "1", *PLAIN],
}  # fmt: skip
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP")
CODES = {
    "SIGKILL": (-9, 0),
    "SIGTERM": (143, 0),
    "SIGINT": (130, 0),
    "SIGSTOP": (0,),
}  # it may have been done just before


def main_(folder: Path, cases: list[str]) -> None:
    warm()
    _prepared(folder / "base")
    whole: dict[str, tuple[float, Any]] = {}
    for number, case in enumerate(cases):
        command, fifth, strike = case.split(":")
        if command not in whole:
            start = time.monotonic()
            told = _lived(command, folder, f"whole-{command}")
            whole[command] = time.monotonic() - start, told["bits"]
            assert told["code"] == 0, told
        length, bits = whole[command]
        after = length * (int(fifth) + random.Random(case).random()) / 5
        struck = _lived(command, folder, str(number), lambda pid, after=after, by=strike: _strike(pid, after, by))
        again = _lived(command, folder, str(number))
        said = {"case": case, "code": struck["code"], "again": again["code"], "same": again["bits"] == bits}
        print(json.dumps(said | {"traceback": struck["traceback"] or again["traceback"]}), flush=True)


def _prepared(base: Path) -> None:
    """A folder in which every command has what it asks for."""
    base.mkdir()
    (base / "inbox").mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        x, y = rng.random((200, 6), dtype=np.float32), np.arange(200) % 4
        np.savez(base / "inbox" / f"{n}.npz", x=x + y[:, None], y=y)
    (base / "task.csv").write_text("x,y\n0,1\n1,2\n2,\n3,\n")
    for words in (["run", "naive", "--epochs", "3", "--seed", "9", *HERE], ["meta", "--seeds", "9,", *META]):
        pid = _forked(words, base)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, (base / "said").read_text()


def _lived(command: str, folder: Path, name: str, strike: Callable[[int], None] = lambda pid: None) -> dict[str, Any]:
    """One life of a command in a folder of its own; what it left with, said, and came to."""
    own = folder / name
    if not own.exists():
        shutil.copytree(folder / "base", own)
    known = [(p.name, (p / "run.json").read_text()) for p in (folder / "base/home/runs").iterdir()]
    runs = {"META" if "maml" in text else "RUN": id for id, text in known}
    pid = _forked([runs.get(word, word) for word in COMMANDS[command]], own)
    strike(pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = (own / "said").read_text()
    return {"code": code, "traceback": said if "Traceback" in said else "", "bits": _bits(own)}


def _forked(words: list[str], folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        for stream, name in ((1, "out"), (2, "said")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["perdure", *words]
        main.main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _strike(pid: int, after: float, by: str) -> None:
    time.sleep(after)  # this moment of its life is what is tried
    os.kill(pid, getattr(signal, by))
    if by == "SIGSTOP":
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)


def _bits(folder: Path) -> Any:
    """All that a command has come to, without the seconds that it took."""
    home, said = folder / "home", (folder / "out").read_text()
    ended = [p.parent for p in home.glob("runs/*/finished")]
    runs = {p.name: ((p / "journal.jsonl").read_bytes().hex(), _newest(p)) for p in ended}
    made = {p.parent.name: p.read_bytes().hex() for p in home.glob("generated/[!.]*/state.pt")}
    attacked = [_timeless(json.loads(p.read_text())) for p in home.glob("runs/*/attacks/*/attacks.json")]
    followed = [json.dumps(row) for row in Journal(home, start=STREAM).rows()], _newest(home / "learned")
    adapted = _timeless(json.loads(said)) if said.startswith('{\n "run"') else None
    return [runs, made, attacked, followed, adapted]


def _newest(folder: Path) -> str:
    files = Store(folder).files()
    return files[0].read_bytes()[:DIGEST].decode() if files else ""


def _timeless(value: Any) -> Any:
    match value:
        case dict():
            return {k: _timeless(v) for k, v in value.items() if k != "seconds"}
        case list():
            return [_timeless(v) for v in value]
    return value


if __name__ == "__main__":
    assert app
    main_(Path(sys.argv[1]), sys.argv[2:])

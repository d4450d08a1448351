"""Whatever arrives between good arrivals: it is set aside with its reason, and the good ones end with the same bits."""

import os
import re

import numpy as np
import pytest

import perdure
from perdure.platform.figures import live
from perdure.platform.live import queries
from perdure.streams.live.folder import Folder
from perdure.streams.storage.folder_entries import shown
from perdure.testing.equality import same

from ...poisons import CODE, POISONS
from .test_session import outcome

MEMORY = 0.25  # GB


def good(folder, number):
    """A table or an archive of 20 samples; names come before and after those of the poisons of their number."""
    rng = np.random.default_rng(number)
    x, y = rng.random((20, 5), dtype=np.float32), np.arange(20) % 4
    if number % 2:
        np.savez(folder / f"{number:03d}-z.npz", x=x, y=y)
        return
    order = "edcba" if number % 4 else "abcde"  # a column is what it is called, wherever it stands
    rows = [[*(f"{row['abcde'.index(c)]:.9g}" for c in order), str(label)] for row, label in zip(x, y, strict=True)]
    text = "\n".join(",".join(row) for row in [[*order, "label"], *rows])
    (folder / f"{number:03d}-z.csv").write_text(text + "\n")


def follow(folder, state, **how):
    source = Folder(str(folder), settle=0.0, memory=MEMORY, seconds=60.0)
    common = {"classes": 4, "steps": 3, "model": "mlp(8)", "optimizer": "sgd(0.1)", "save_every": 0.0}
    return perdure.follow(source, "rehearsal(40)", state=str(state), idle=0.0, tracking=False, **(common | how))


@pytest.fixture(scope="module")
def inboxes(tmp_path_factory):
    """A folder of good arrivals, with a poison after each but the last; and one without."""
    mixed, clean = (tmp_path_factory.mktemp(name) for name in ("mixed", "clean"))
    for number, (name, (make, _)) in enumerate(POISONS.items()):
        make(mixed / f"{number:03d}-~p-{name}")
    for number in range(len(POISONS) + 1):
        good(mixed, number)
        good(clean, number)
    return mixed, clean


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(queries, "LOOKS", 0.01)
    monkeypatch.setattr(live, "drawn", lambda rows: {})  # pictures after every start are most of the time


def test_poisons_are_set_aside_and_the_others_learned_to_the_bit_though_it_starts_anew_after_each(
    inboxes, tmp_path, capfd
):
    mixed, clean = inboxes
    for count in range(1, len(POISONS) + 2):
        done = follow(mixed, tmp_path / "mixed", here=True, arrivals=count)
        assert len(done.rows) == count
    done = follow(mixed, tmp_path / "mixed", here=True)
    follow(clean, tmp_path / "clean", here=True)
    assert same(outcome(tmp_path / "mixed"), outcome(tmp_path / "clean"))
    reasons = {aside["name"]: aside["reason"] for aside in done.asides}
    assert len(reasons) == len(done.asides)  # each is told once, whoever starts anew
    for number, (name, (_, why)) in enumerate(POISONS.items()):
        reason = reasons.pop(shown(f"{number:03d}-~p-{name}"))
        assert re.search(why, reason), (name, reason)
        assert reason.isprintable()
    assert not reasons
    assert CODE not in capfd.readouterr().out


@pytest.mark.usefixtures("cluster")
def test_actors_learn_the_same(inboxes, tmp_path):
    mixed, clean = inboxes
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(mixed.iterdir()):
        if int(path.name[:3]) < 3 or path.name.endswith(("bomb.npz", "fifo.csv", "circle.csv", "digits.csv")):
            os.link(path, few / path.name, follow_symlinks=False)
    done = follow(few, tmp_path / "with", ahead=1)
    follow(clean, tmp_path / "without", here=True, arrivals=3)
    assert len(done.asides) >= 4 and same(outcome(tmp_path / "with"), outcome(tmp_path / "without"))

"""Names of metrics and files: one for every text, and such as MLflow and file systems take."""

import itertools
import random

import pytest
from mlflow.utils.validation import _validate_length_limit, _validate_metric_name

from perdure.platform.storage.safe_names import LONGEST_FILE, LONGEST_METRIC, file_name, metric_name

SANE = [
    "accuracy",
    "accuracy/experience_01",
    "accuracy/class_3",
    "trigger/success",
    "rank/0",
    "cosine/02/01",
    "dreams/entropy",
    "accuracy/class_ab cd",
    "state_bytes",
]
PAIRS = [
    ("accuracy/class_<=50K", "accuracy/class_>50K"),
    ("pgd(eps=0.1)/success", "pgd(eps=-0.1)/success"),
    ("pgd(0.1)/success", "pgd(0.1, )/success"),
    ("a b", "a  b"),
    ("a", "a "),
    ("a/b", "a//b"),
    ("..", "."),
    ("", "/"),
    ("C++", "C#"),
    ("x" * 250, "x" * 251),
    ("x" * 300 + "1", "x" * 300 + "2"),
    ("café", "cafe\u0301"),
]


def texts() -> list[str]:
    """Every text of up to four signs of a small alphabet, longer ones drawn at random, and all their names."""
    short = ["".join(t) for n in range(5) for t in itertools.product("aA0 _-./<>", repeat=n)]
    chance = random.Random(0)
    signs = "abAB01 _-./()=,+<>'\"%\\\n\té½\u0301汉"
    long = ["".join(chance.choices(signs, k=chance.randint(5, 400))) for _ in range(3000)]
    raw = list(dict.fromkeys([*SANE, *itertools.chain(*PAIRS), *short, *long]))
    return list(dict.fromkeys([*raw, *map(metric_name, raw), *map(file_name, raw)]))  # also what looks made already


def test_distinct_texts_are_distinct_metrics_that_mlflow_takes():
    known = texts()
    names = list(map(metric_name, known))
    assert len(set(names)) == len(known)
    for name in names:
        _validate_metric_name(name)
        _validate_length_limit("metric", LONGEST_METRIC, name)


def test_distinct_texts_are_distinct_files_whatever_the_file_system_makes_of_cases(tmp_path):
    known = texts()
    names = list(map(file_name, known))
    assert len({name.casefold() for name in names}) == len(known)
    assert all(name.isascii() and 0 < len(name) <= LONGEST_FILE and "/" not in name for name in names)
    assert not {".", ".."} & set(names)
    for name in names[::500]:
        (tmp_path / f"{name}.png").touch()


def test_what_is_a_name_already_stays_as_it_is():
    assert list(map(metric_name, SANE)) == SANE
    assert [file_name(t) for t in ("accuracy_matrix", "curves", "robust_pgd", "dreams1_01")] == [
        "accuracy_matrix", "curves", "robust_pgd", "dreams1_01",
    ]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_texts_that_differ_in_signs_alone_are_told_apart(one, other):
    assert metric_name(one) != metric_name(other) and file_name(one) != file_name(other)


def test_a_name_still_says_what_it_is_of():
    assert metric_name("pgd(eps=0.1)/success").startswith("pgd eps 0.1 ")
    assert metric_name("pgd(eps=0.1)/success").endswith("/success")
    assert file_name("robust_pgd(steps=3)").startswith("robust_pgd_steps_3_")

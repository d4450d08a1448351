"""What no machine has room for is refused before anything is allocated."""

import time

import pytest

from perdure import limits
from perdure.limits import TooLarge, expect_machine, expect_room, size
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.run import Run, build
from perdure.platform.runs.study import seeds_of
from perdure.platform.runs.workspace import Site
from perdure.strategies.training.plan import Plan
from perdure.streams.names import stream_recipe


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(limits, "memory", lambda: 24_000_000_000)


def test_both_sizes_are_told():
    expect_room("an array", 24e9)
    with pytest.raises(TooLarge, match="^an array: needs about 90 GB of memory, this machine has 24 GB$"):
        expect_room("an array", 90e9)


def test_a_size_is_told_in_its_unit():
    assert [size(n) for n in (1, 999, 5_800_000, 6.4e9, 1e13)] == ["1 bytes", "999 bytes", "5.8 MB", "6.4 GB", "10 TB"]


@pytest.mark.parametrize(
    "text",
    [
        "permuted(digits, 999999999)",
        "rotated(digits, 999999999)",
        "swiss_roll(tasks=999999999)",
        "swiss_roll(samples=9999999999)",
        "split(strokes(characters=999999999), 2)",
        "split(strokes(size=999999), 2)",
    ],
)
def test_a_stream_that_is_too_large_is_refused_at_once(text):
    begun = time.monotonic()
    with pytest.raises(ValueError, match="needs about|needs more than"):
        stream_recipe(text)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("text", ["repeated(split(digits), 999999999)", "drifting(split(digits), parts=999999999)"])
def test_so_is_one_that_is_too_large_for_its_data(text):
    run, begun = Run(stream=text), time.monotonic()
    dataset = Data(Site("unused")).of(run)
    with pytest.raises(TooLarge, match="experiences, each tested on all others"):
        build(run, dataset)
    assert time.monotonic() - begun < 5


LARGE = [
    "mlp(1000000000)",
    "mlp(1000000000000000000)",
    "convnet(999999999)",
    "conv4(width=999999999)",
    "mixed(999999999)",
]


@pytest.mark.parametrize("text", LARGE)
def test_a_model_that_is_too_large_is_refused_at_once(text):
    run, begun = Run(model=text), time.monotonic()
    dataset = Data(Site("unused")).of(run)
    with pytest.raises(TooLarge, match="needs about|larger than any memory"):
        build(run, dataset)
    assert time.monotonic() - begun < 5


def test_a_model_that_fits_has_the_weights_that_it_had():
    """What is reckoned beforehand draws no random number."""
    run = Run(model="convnet(8)", stream="split(digits, 2)")
    dataset = Data(Site("unused")).of(run)
    first, second = (build(run, dataset)[1].model.state_dict() for _ in range(2))
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_threads_that_no_machine_has_are_refused(threads):
    with pytest.raises(ValueError, match=f"threads must be from 1 to 1024, got {threads}"):
        expect_machine(threads, "cpu")


@pytest.mark.parametrize("device", ["", "gpu", "cuda:x", "foo"])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ValueError, match="device must be cpu or cuda"):
        expect_machine(1, device)


def test_seeds_are_counted_before_they_are_listed():
    assert seeds_of(3, 1) == [0, 1, 2] and seeds_of([3, 5], 2) == [3, 5]
    with pytest.raises(ValueError, match="expected at most 100000 runs in a command, got 1999999998"):
        seeds_of(999_999_999, 2)
    with pytest.raises(ValueError, match="seeds must be a number of seeds"):
        seeds_of("5", 1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="expected a seed at least"):
        seeds_of(-1, 1)


@pytest.mark.parametrize(
    ("cls", "given", "said"),
    [
        (Plan, {"epochs": "x"}, "epochs must be a whole number, got 'x'"),
        (Plan, {"batch_size": 1.5}, "batch_size must be a whole number, got 1.5"),
        (Run, {"seed": 10**30}, r"seed must be a whole number below 2\*\*63"),
        (Run, {"model": 5}, "model must be a text in quotes, got 5"),
    ],
)
def test_a_setting_of_another_type_is_refused(cls, given, said):
    with pytest.raises(ValueError, match=said):
        cls(**given)

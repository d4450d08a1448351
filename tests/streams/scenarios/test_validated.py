"""Samples held out of training, to choose settings by: a share of every class, no test sample, and nothing twice."""

from collections import deque
from dataclasses import replace

import pytest
import torch

from perdure.notation import NotationError
from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.strategies.names import strategy
from perdure.strategies.training.loop import learn
from perdure.strategies.training.plan import Plan
from perdure.streams.datasets.dataset import Dataset, Part
from perdure.streams.datasets.digits import Digits
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places

from ...strategies.learners import learner

DIGITS = Digits().load(Places(None))


def made(text: str, data: Dataset = DIGITS):
    return stream_recipe(text).arrange(data)


def rows(split) -> list[int]:
    """Which samples of the data a split has."""
    return split._rows.tolist()


@pytest.mark.parametrize("protocol", ["class", "task", "domain"])
def test_a_share_of_every_class_is_tested_on_and_not_learned(protocol):
    plain, held = (
        made(text.format(protocol))
        for text in ("split(digits, protocol='{}')", "validated(split(digits, protocol='{}'), 0.2)")
    )
    for before, now in zip(plain, held, strict=True):
        assert sorted(rows(now.train) + rows(now.test)) == sorted(rows(before.train))
        whole, tested = before.train.y.bincount(), now.test.y.bincount()
        assert tested.tolist() == [round(0.2 * n) for n in whole.tolist()]
    assert torch.equal(plain.classes, held.classes) and held.protocol == protocol


STREAMS = [
    "split(digits)",
    "permuted(digits, 2)",
    "rotated(digits, 2)",
    "repeated(split(digits), 2, seed=3)",
    "online(split(digits), 50)",
    "blurry(split(digits), 0.2)",
    "long_tailed(split(digits), 5)",
    "noisy(split(digits), 0.3)",
    "backdoored(split(digits), 4, share=0.3)",
    "matched(split(digits))",
    "repeated(online(split(digits), 50))",
]


@pytest.mark.parametrize("text", STREAMS)
def test_a_sample_that_is_tested_on_is_learned_nowhere(text):
    stream = made(f"validated({text})")
    learned = {row for e in stream for row in rows(e.train)}
    tested = {row for e in stream for row in rows(e.test)}
    copied = [e for e in stream if len(e.train) and e.train._x is not DIGITS.train.x and "permuted" not in text]
    assert tested and (copied or not learned & tested)


@pytest.mark.parametrize("text", STREAMS)
def test_no_test_sample_is_ever_seen(text, tmp_path):
    """Whatever the test samples are, a run on validation samples is the same to the last digit."""
    x, y = DIGITS.test
    other = replace(DIGITS, test=Part((255 - x.float()).to(x.dtype), (y + 1) % 10))
    run = Run("rehearsal(30)", f"validated({text})", "mlp(8)", plan=Plan(steps=2, batch_size=16))
    told = []
    for n, data in enumerate((DIGITS, other)):
        site = Site(str(tmp_path / str(n)))
        deque(execute(run, site, data), maxlen=0)
        told.append(Journal(site.folder(run)).rows())
    assert told[0] and told[0] == told[1]
    plain = replace(run, stream=text)
    for n, data in enumerate((DIGITS, other)):
        deque(execute(plain, Site(str(tmp_path / str(n))), data), maxlen=0)
    first, second = (Journal(Site(str(tmp_path / str(n))).folder(plain)).rows() for n in (0, 1))
    assert first != second  # a test of this test: without the wrapper they do count


@pytest.mark.parametrize(
    "text", ["naive", "joint", "cumulative", "rehearsal(30) + ewc(1)", "lwf", "gem(30)", "icarl(30)"]
)
@pytest.mark.parametrize("protocol", ["class", "task"])
def test_the_first_experiences_alone(text, protocol):
    stream = made(f"validated(split(digits, protocol='{protocol}'), first=2)")
    assert len(stream) == 2 and stream.classes.shape == (5, 10)
    model = learner(stream)
    stones = list(learn(stream, model, strategy(text), Plan(steps=3, batch_size=16)))
    assert len(stones) == 2 and len(stones[-1].accuracy) == 2
    plain = made(f"validated(split(digits, protocol='{protocol}'))")
    assert rows(plain[1].test) == rows(stream[1].test)


def test_the_first_of_an_online_stream_are_those_underneath():
    stream, whole = made("validated(online(split(digits), 50), first=2)"), made("validated(online(split(digits), 50))")
    assert stream.marks == whole.marks[:2] and len(stream) == whole.marks[1] + 1
    assert len(stream[len(stream) - 1].test) > 20  # not the share of the last fifty


def test_the_seed_says_which():
    one, same, other = (rows(made(f"validated(split(digits), seed={seed})")[0].test) for seed in (0, 0, 1))
    assert one == same and set(one) != set(other)


def test_a_lone_sample_is_learned():
    x = torch.rand(7, 3)
    part = Part(x, torch.tensor([0, 0, 0, 0, 1, 1, 1]))
    data = Dataset(part, part, ("a", "b"))
    stream = made("validated(split(digits, 1), 0.5)", data)
    assert stream[0].test.y.bincount().tolist() == [2, 2]
    stream = made("validated(split(digits, 1), 0.9)", data)
    assert stream[0].train.y.bincount().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("validated(split(digits), 0)", "share must be above 0 and below 1"),
        ("validated(split(digits), 1)", "share must be above 0 and below 1"),
        ("validated(split(digits), first=0)", "first must be at least 1"),
        ("validated(digits)", "stream must be a Recipe"),
    ],
)
def test_what_cannot_be_is_refused(text, said):
    with pytest.raises(NotationError, match=said):
        stream_recipe(text)
    with pytest.raises(ValueError, match="first asks for 6 experiences, and the stream has 5 that are tested"):
        made("validated(split(digits), first=6)")


def test_a_run_may_be_made_on_it(tmp_path):
    run = Run("naive", "validated(split(digits), 0.3, first=2)", plan=Plan(steps=2, batch_size=16))
    site = Site(str(tmp_path))
    deque(execute(run, site, Data(site).of(run)), maxlen=0)
    assert len(Journal(site.folder(run)).rows()) == 2
    assert run.normal().stream == "validated(split(digits), share=0.3, first=2)"

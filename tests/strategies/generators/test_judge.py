"""Who judges samples: covered classes, their entropy, and how far features are off."""

from math import log

import pytest
import torch

from perdure.strategies.generators import evaluate
from perdure.strategies.generators.base import Data
from perdure.strategies.numerics.rng import Rng
from perdure.testing.streams import blobs


def classes(n=3):
    split = blobs(tasks=1, classes=n, n=300)[0]
    return split.train.everything(), split.test.everything()


def test_coverage_is_of_the_classes_that_are_there():
    real, other = classes()
    by = evaluate.trained(Data(real.x, real.y), Rng(0), steps=300)
    assert by.agreement(other.x, other.y) > 0.95
    all_of_them = by.coverage(other.x)
    assert all_of_them.classes == 3 and all_of_them.entropy == pytest.approx(log(3), abs=0.01)
    two = by.coverage(other.x[other.y < 2])
    assert two.classes == 2 and two.entropy == pytest.approx(log(2), abs=0.05)
    assert by.coverage(other.x[other.y == 1]).entropy < 0.2


def test_distance_grows_with_what_is_wrong():
    real, other = classes()
    by = evaluate.trained(Data(real.x, real.y), Rng(0), steps=300)
    assert by.distance(other.x, other.x) == pytest.approx(0, abs=1e-6)
    same, noisy = by.distance(real.x, other.x), by.distance((other.x + 0.3 * torch.randn_like(other.x)), other.x)
    assert same < noisy and by.distance(other.x[other.y > 0], other.x) > same


def test_same_seed_same_judge_and_one_class_is_none():
    real, _ = classes()
    one, two = (evaluate.trained(Data(real.x, real.y), Rng(4), steps=20) for _ in range(2))
    assert torch.equal(one.outputs(real.x), two.outputs(real.x))
    with pytest.raises(ValueError, match="at least 2 of them"):
        evaluate.trained(Data(real.x, torch.zeros_like(real.y)), Rng(0))

"""A data set is checked where it is made, divided by seed, and known by its content."""

import pytest
import torch

from perdure.streams.datasets.dataset import DataError, Dataset, Part, stratified
from perdure.streams.datasets.digits import Digits
from perdure.streams.storage.directories import Places


def test_digits():
    data = Digits().load(Places())
    assert data.train.x.shape == (1347, 1, 8, 8) and data.test.x.shape == (450, 1, 8, 8)
    assert data.train.x.dtype == torch.uint8 and data.train.x.max() == 255
    assert data.sha256() == Digits().load(Places()).sha256()
    shares = data.test.y.bincount() / (data.test.y.bincount() + data.train.y.bincount())
    assert (shares - 0.25).abs().max() < 0.01
    pixels = torch.cat([data.train.x, data.test.x]).flatten().unique()
    assert pixels.tolist() == [round(k * 255 / 16) for k in range(17)]


def test_stratified_is_seeded_and_divides():
    groups = torch.tensor([0] * 50 + [1] * 10 + [2] * 2)
    train, test = stratified(groups, 0.2, 3)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(62))
    assert groups[test].bincount().tolist() == [10, 2, 1]
    assert torch.equal(test, stratified(groups, 0.2, 3)[1]) and not torch.equal(test, stratified(groups, 0.2, 4)[1])
    assert groups[stratified(groups, 0.99, 0)[0]].bincount().tolist() == [1, 1, 1]


def test_stratified_needs_two_of_a_kind():
    with pytest.raises(DataError, match="sample 2 is the only one of its kind"):
        stratified(torch.tensor([0, 0, 1]), 0.5, 0)
    with pytest.raises(ValueError, match=r"test_share must be above 0 and below 1, got 1.0"):
        stratified(torch.tensor([0, 0]), 1.0, 0)


def dataset(x=None, y=None, classes=("cat", "dog"), test=None, experience=None) -> Dataset:
    x = torch.rand(4, 3) if x is None else x
    y = torch.tensor([0, 1, 0, 1]) if y is None else y
    return Dataset(Part(x, y), test or Part(torch.rand(2, 3), torch.tensor([0, 1])), classes, experience)


def test_the_fingerprint_is_of_the_content():
    x = torch.rand(4, 3)
    test = Part(torch.rand(2, 3), torch.tensor([0, 1]))
    base = dataset(x, test=test).sha256()
    assert base == dataset(x.clone(), test=test).sha256()
    changed = x.clone()
    changed[3, 2] += 1
    others = [
        dataset(changed, test=test),
        dataset(x, torch.tensor([1, 0, 0, 1]), test=test),
        dataset(x, classes=("cat", "hound"), test=test),
        dataset(x, test=test, experience=(torch.zeros(4).long(), torch.zeros(2).long())),
    ]
    assert len({base, *(other.sha256() for other in others)}) == 5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x": torch.rand(4, 3).double()}, "expected training x as uint8 or float32 .* got torch.float64"),
        ({"x": torch.rand(5, 3)}, r"expected training x \(N, ...\) and y \(N,\), got \(5, 3\) and \(4,\)"),
        ({"y": torch.tensor([0, 1, 2, 1])}, "training sample 2 has label 2; expected 0 to 1"),
        ({"y": torch.tensor([0, 0, 0, 0])}, r"class 1 \(dog\) has no training sample"),
        ({"test": Part(torch.rand(1, 3), torch.tensor([1]))}, r"class 0 \(cat\) has no test sample"),
        ({"x": torch.tensor([[1.0], [float("nan")], [0.0], [2.0]])}, "training sample 1 holds NaN"),
        ({"x": torch.rand(4, 2)}, r"of one shape and type, got \(2,\) torch.float32 and \(3,\) torch.float32"),
        ({"experience": (torch.zeros(3).long(), torch.zeros(2).long())}, "one experience for each of 4 samples, got 3"),
    ],
)
def test_unfit_data_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        dataset(**changes)

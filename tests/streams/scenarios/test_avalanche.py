"""Streams to and from Avalanche."""

import pytest
import torch

from perdure.notation import spell
from perdure.streams.datasets.dataset import DataError
from perdure.streams.names import DATASETS, STREAMS, stream_recipe
from perdure.streams.scenarios.avalanche import benchmark_of, dataset_of, stream_of
from perdure.streams.storage.directories import DataNotFound, Places
from perdure.testing.streams import blobs

from ..tiny import LABELS, mnist

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:avalanche")


@pytest.fixture
def places(tmp_path):
    mnist(tmp_path / "MNIST" / "raw")
    return Places(tmp_path)


def arranged(text, places):
    recipe = stream_recipe(text)
    assert stream_recipe(spell(recipe, DATASETS | STREAMS)) == recipe
    return recipe.arrange(recipe.source().load(places))


def test_split_mnist_of_avalanche_as_a_stream(places, tmp_path):
    stream = arranged(
        "avalanche('SplitMNIST', n_experiences=5, fixed_class_order=(3, 1, 4, 5, 9, 2, 6, 8, 7, 0))", places
    )
    assert len(stream) == 5 and stream.protocol == "class" and stream.shape == (1, 28, 28)
    assert stream.classes[0].nonzero().flatten().tolist() == [1, 3]
    images = torch.from_numpy(mnist(tmp_path / "again")["train"])
    first = stream[0].train.everything()
    wanted = [n for n, label in enumerate(LABELS["train"]) if label in (1, 3)]
    assert sorted(first[1].tolist()) == sorted(LABELS["train"][wanted].tolist())
    assert torch.equal(
        first[0].flatten(1).double().mean(1).sort()[0], images[wanted].flatten(1).double().mean(1).sort()[0]
    )
    assert first[0].dtype == torch.uint8


def test_permuted_mnist_of_avalanche_keeps_its_labels_under_class_and_domain(places):
    stream = arranged("avalanche('PermutedMNIST', protocol='domain', n_experiences=3, seed=1)", places)
    assert len(stream) == 3 and stream.classes.shape == (3, 10) and stream.classes.all()
    x = [stream[t].train.everything()[0].float() for t in range(3)]
    assert torch.equal(x[0].flatten(1).sort()[0], x[1].flatten(1).sort()[0]) and not torch.equal(x[0], x[1])


def test_labels_that_come_again_are_their_tasks_own_under_the_task_protocol(places):
    stream = arranged("avalanche('PermutedMNIST', protocol='task', n_experiences=2, seed=1)", places)
    assert stream.classes.shape == (2, 20) and stream.classes.sum(1).tolist() == [10, 10]


@pytest.mark.parametrize("protocol", ["class", "task", "domain"])
def test_there_and_back_again(protocol):
    stream = blobs(protocol=protocol)
    again = stream_of(benchmark_of(stream), protocol)
    assert torch.equal(again.classes, stream.classes)
    for one, two in zip(stream, again, strict=True):
        for a, b in ((one.train, two.train), (one.test, two.test)):
            assert all(torch.equal(p, q) for p, q in zip(a.everything(), b.everything(), strict=True))


def test_ours_tells_avalanche_of_classes_and_tasks():
    made = benchmark_of(blobs(protocol="task"))
    assert [sorted(e.classes_in_this_experience) for e in made.train_stream] == [[0, 1], [2, 3], [4, 5]]
    assert [e.task_labels for e in made.train_stream] == [[0], [1], [2]]
    assert [e.task_labels for e in benchmark_of(blobs(protocol="class")).train_stream] == [[0]] * 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("avalanche('SplitMINST')", "no benchmark 'SplitMINST'; it has .*SplitMNIST"),
        ("avalanche('SplitMNIST', experiences=5)", "no argument 'experiences'; it takes n_experiences"),
    ],
)
def test_what_avalanche_does_not_know(text, complaint, places):
    with pytest.raises(ValueError, match=complaint):
        arranged(text, places)


def test_absent_data_are_named_with_a_remedy(tmp_path, monkeypatch):
    import torchvision

    def unreachable(self):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", unreachable)
    with pytest.raises(DataNotFound, match=f"SplitMNIST .*Error downloading.*{tmp_path}.*--data"):
        arranged("avalanche('SplitMNIST', n_experiences=5)", Places(tmp_path))


def test_experiences_without_their_tests_are_refused():
    made = benchmark_of(blobs())
    made.test_stream = made.test_stream[:1]
    with pytest.raises(DataError, match="as many test as training experiences, got 1 and 3"):
        dataset_of(made, "class")

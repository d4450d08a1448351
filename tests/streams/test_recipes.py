"""What every stream promises: each sample once, heads that fit, data that nobody can write to, nothing built early."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate as reference

from perdure.notation import NotationError, spell
from perdure.streams.datasets.dataset import DataError, Dataset, Part
from perdure.streams.datasets.digits import Digits
from perdure.streams.experience import PROTOCOLS
from perdure.streams.names import DATASETS, STREAMS, stream_recipe
from perdure.streams.recipe import Recipe
from perdure.streams.scenarios.assigned import Assigned
from perdure.streams.scenarios.permuted import Permuted
from perdure.streams.scenarios.rotated import Rotated, rotate
from perdure.streams.scenarios.split import ClassSplit
from perdure.testing.streams import blobs


def numbered(classes: int = 7, each: int = 12, experiences: int = 3) -> Dataset:
    """Images that carry their own number, so that a sample can be told wherever it turns up."""

    def part(n: int, first: int) -> tuple[Part, Tensor]:
        number = torch.arange(n) + first
        x = torch.stack([number // 256, number % 256], 1).to(torch.uint8).view(n, 1, 1, 2).repeat(1, 3, 4, 2)
        return Part(x, torch.arange(n) % classes), (torch.arange(n) // classes) % experiences

    (train, a), (test, b) = part(classes * each, 0), part(classes * experiences, 5000)
    return Dataset(train, test, tuple("abcdefghijklmnop"[:classes]), (a, b))


DATA = numbered()
CUTS = [
    "split(digits, 3)",
    "split(digits, 7, seed=4)",
    "split(digits, 2, order=(6, 0, 5, 1, 4, 2, 3))",
    "assigned(digits)",
]
REVISITS = ["permuted(digits, 3)", "rotated(digits, 3, degrees=90)"]


def made(text: str, protocol: str) -> Recipe:
    return stream_recipe(text[:-1] + f", protocol={protocol!r})")


def numbers(x: Tensor) -> Tensor:
    return x[:, 0, 0, 0].long() * 256 + x[:, 0, 0, 1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", CUTS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_every_sample_comes_exactly_once(text, protocol, part):
    stream, whole = made(text, protocol).arrange(DATA), getattr(DATA, part)
    met = torch.cat([numbers(getattr(e, part).everything().x) for e in stream])
    assert met.sort().values.tolist() == numbers(whole.x).sort().values.tolist()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", CUTS + REVISITS)
def test_the_table_is_of_the_classes_that_are_met(text, protocol):
    stream = made(text, protocol).arrange(DATA)
    assert stream.protocol == protocol and stream.classes.dtype == torch.bool
    for t, e in enumerate(stream):
        assert e.index == e.task == t
        for split in (e.train, e.test):
            assert split.everything().task.eq(t).all() and split.y.dtype == torch.int64
            assert stream.classes[t][split.y].all()  # every label has an open head
            if not text.startswith("assigned"):
                assert split.y.unique().tolist() == stream.classes[t].nonzero().flatten().tolist()


@pytest.mark.parametrize("text, task, domain", [("split(digits, 3)", 7, 3), *((text, 21, 7) for text in REVISITS)])
def test_heads_under_each_protocol(text, task, domain):
    widths = {p: made(text, p).arrange(DATA).classes.shape[1] for p in PROTOCOLS}
    assert widths == {"task": task, "class": task, "domain": domain}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", CUTS + REVISITS)
def test_the_data_cannot_be_written_to(text, protocol):
    before, stream = DATA.sha256(), made(text, protocol).arrange(DATA)
    for e in stream:
        for split in (e.train, e.test):
            index = torch.arange(len(split))
            handed = [*split.batch(index), *split.samples(index), *split.everything(), split.y]
            handed += [*split.draw(5, torch.Generator()), *next(split.chunks(9))]
            seen = split.everything()
            for tensor in handed:
                tensor.fill_(1)
            assert all(torch.equal(a, b) for a, b in zip(seen, split.everything(), strict=True))
    assert DATA.sha256() == before


@pytest.mark.parametrize("text", CUTS + REVISITS)
def test_experiences_are_built_when_they_are_asked_for(text):
    stream = stream_recipe(text).arrange(DATA)
    assert stream.experiences._made == [None] * len(stream)
    assert stream[1] is stream[1]
    assert [e is not None for e in stream.experiences._made] == [i == 1 for i in range(len(stream))]


@pytest.mark.parametrize("text", [*CUTS, "permuted(digits, 3)"])
def test_data_are_held_once(text):
    for e in stream_recipe(text).arrange(DATA):
        assert e.train._x is DATA.train.x and e.test._x is DATA.test.x


@pytest.mark.parametrize("text", [*CUTS, *REVISITS, "rotated(digits, 3, seed=5)"])
def test_equal_texts_give_equal_streams(text):
    one, two = (stream_recipe(text).arrange(DATA) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a.train.everything(), b.train.everything(), strict=True))


def test_groups_are_as_even_as_they_can_be():
    groups = ClassSplit(Digits(), 3, "task").arrange(DATA).classes
    assert groups.sum(1).tolist() == [3, 2, 2]


def test_a_given_order_is_kept_and_a_seed_shuffles():
    order = (6, 0, 5, 1, 4, 2, 3)
    stream = ClassSplit(Digits(), 7, order=order).arrange(DATA)
    assert [e.train.y.unique().item() for e in stream] == list(order)
    orders = {tuple(e.train.y.unique().item() for e in ClassSplit(Digits(), 7, seed=s).arrange(DATA)) for s in range(5)}
    assert len(orders) == 5


def test_domain_labels_are_places_within_the_group():
    stream = ClassSplit(Digits(), 3, "domain", order=(6, 0, 5, 1, 4, 2, 3)).arrange(DATA)
    samples = stream[0].train.everything()
    original = {int(n): int(y) for n, y in zip(numbers(DATA.train.x), DATA.train.y, strict=True)}
    place = {6: 0, 0: 1, 5: 2}
    assert [place[original[int(n)]] for n in numbers(samples.x)] == samples.y.tolist()


def test_permuted_pixels_move_alike_in_all_samples_and_channels():
    x = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2).repeat(10, 1, 1, 1)
    data = Dataset(Part(x, torch.arange(10) % 2), Part(x, torch.arange(10) % 2), ("a", "b"))
    first, second, third = (e.train.everything().x for e in Permuted(Digits(), 3, seed=1).arrange(data))
    assert torch.equal(first, x)
    for seen in (second, third):
        assert torch.equal(seen[0], seen[9]) and not torch.equal(seen, x)
        assert torch.equal(seen.flatten(2).sort().values, x.flatten(2))
        assert torch.equal(seen[:, 1] - 4, seen[:, 0])
    assert not torch.equal(second, third)
    other = Permuted(Digits(), 2, seed=2).arrange(data)[1].train.everything().x
    assert not torch.equal(second, other)


@pytest.mark.parametrize("shape", [(12,), (4, 3)])
def test_permuted_values_of_a_table_or_a_sequence(shape):
    data = Dataset(*(Part(torch.rand(8, *shape), torch.arange(8) % 2) for _ in range(2)), ("a", "b"))
    seen, stored = Permuted(Digits(), 2).arrange(data)[1].train.everything().x.flatten(1), data.train.x.flatten(1)
    assert torch.equal(seen.sort().values, stored.sort().values)
    assert (seen == stored).sum() < 8 * 6


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (12, 20)])
@pytest.mark.parametrize("degrees", [30.0, 90.0, -45.0, 180.0])
def test_rotation_is_torchvisions(shape, degrees):
    x = torch.randint(0, 256, (5, 3, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    turned, expected = rotate(x, degrees), reference(x, degrees, InterpolationMode.BILINEAR)
    assert turned.dtype == torch.uint8
    assert (turned.int() - expected.int()).abs().max() <= 1
    floats = x.float() / 255
    torch.testing.assert_close(rotate(floats, degrees), reference(floats, degrees, InterpolationMode.BILINEAR))


def test_angles():
    assert Rotated(Digits(), 5).angles == (0, 45, 90, 135, 180)
    assert Rotated(Digits(), 1).angles == (0,)
    drawn = Rotated(Digits(), 50, seed=0).angles
    assert (
        len(set(drawn)) == 50 and 0 <= min(drawn) and max(drawn) < 180 and drawn != Rotated(Digits(), 50, seed=1).angles
    )
    turned = Rotated(Digits(), 2, degrees=90).arrange(DATA)[1].train.everything().x
    assert torch.equal(turned, DATA.train.x.rot90(1, (2, 3)))


def test_assigned_follows_the_data():
    for t, e in enumerate(Assigned(Digits()).arrange(DATA)):
        assert torch.equal(e.train.y, DATA.train.y[DATA.experience[0] == t])
    table = Assigned(Digits(), "class").arrange(DATA).classes
    assert table.shape == (3, 7) and table.all()


def one_class_later(**changes) -> Dataset:
    parts = {
        "train": Part(torch.rand(4, 2), torch.tensor([0, 0, 1, 1])),
        "test": Part(torch.rand(2, 2), torch.tensor([0, 1])),
    }
    when = (torch.tensor([0, 0, 1, 1]), torch.tensor(changes.get("test", [0, 1])))
    return Dataset(**parts, classes=("cat", "dog"), experience=when)


@pytest.mark.parametrize(
    "recipe, data, message",
    [
        (ClassSplit(Digits(), 8), DATA, "experiences must be at most 7, the classes of the data, got 8"),
        (ClassSplit(Digits(), 2, order=(1, 0)), DATA, "each of the 7 classes of the data once, got 2"),
        (Rotated(Digits()), blobs, r"expected images \(N, C, H, W\) to rotate, got samples \(2,\)"),
        (Assigned(Digits()), None, "do not say which experience a sample belongs to; name the column"),
        (Assigned(Digits(), "task"), [1, 1], "experience 0 has no test sample"),
        (Assigned(Digits(), "class"), [1, 0], "test sample 1 of experience 0 is of class dog, which no training"),
        (Assigned(Digits(), "task"), [1, 0], "cannot be answered under the task protocol"),
    ],
)
def test_what_the_data_cannot_give(recipe, data, message):
    if data is None:
        data = Dataset(DATA.train, DATA.test, DATA.classes)
    elif data is blobs:
        data = Dataset(*(Part(torch.rand(8, 2), torch.arange(8) % 2) for _ in range(2)), ("a", "b"))
    elif isinstance(data, list):
        data = one_class_later(test=data)
    with pytest.raises(ValueError, match=message):
        recipe.arrange(data)


def test_a_class_may_be_answered_in_later_experiences_under_the_class_protocol():
    data = one_class_later()
    late = Dataset(
        data.train,
        Part(torch.rand(3, 2), torch.tensor([0, 1, 0])),
        data.classes,
        (data.experience[0], torch.tensor([0, 1, 1])),
    )
    assert len(Assigned(Digits(), "class").arrange(late)[1].test) == 2
    with pytest.raises(DataError, match="test sample 2 of experience 1 is of class cat"):
        Assigned(Digits(), "task").arrange(late)


@pytest.mark.parametrize(
    "text, message",
    [
        ("split(digits, 0)", "experiences must be a whole number, at least 1, got 0"),
        ("split(digits, order=(1, 0), seed=3)", "order and seed both say how the classes come"),
        ("split(digits, 2, order=(0, 2))", "order must name every class once, from 0 to 1, got"),
        ("split(digits, 3, order=(0, 1))", "experiences must be at most 2, the classes, got 3"),
        ("permuted(digits, -1)", "tasks must be a whole number, at least 1, got -1"),
        ("rotated(digits, degrees=1e999)", "degrees must be at most 3.4e.38, got inf"),
        ("split(digits, protocol='order')", "protocol"),
        ("split(split(digits))", "dataset"),
        ("digits", "expected a stream such as split"),
        ("splitt(digits)", "did you mean 'split'"),
    ],
)
def test_a_wrong_text_is_refused(text, message):
    with pytest.raises(NotationError, match=message):
        stream_recipe(text)


def test_a_wrong_call_is_refused():
    with pytest.raises(TypeError, match="expected a data set such as digits first, got 'digits'"):
        ClassSplit("digits")
    with pytest.raises(ValueError, match="protocol must be one of task, class, domain, got 'order'"):
        Permuted(Digits(), protocol="order")


def test_every_name_has_a_line_for_the_list_and_reads_back():
    for name, kind in (STREAMS | DATASETS).items():
        assert kind.__doc__ and not kind.__doc__.startswith(kind.__name__ + "("), name
    for text in ("split(digits)", "split(emnist('letters'), experiences=13)", "assigned(arrays('a b.npz'))"):
        assert spell(stream_recipe(text), STREAMS | DATASETS) == text


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("text", [*CUTS, *REVISITS])
def test_data_that_were_moved_first_are_still_held_once_and_give_the_same(text, device):
    moved = DATA.to(device)
    for there, here in zip(stream_recipe(text).arrange(moved), stream_recipe(text).arrange(DATA), strict=True):
        assert there.train.device.type == device
        assert text.startswith("rotated") or there.train._x is moved.train.x
        for a, b in zip(there.train.everything(), here.train.everything(), strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1)  # a rotation may round differently there


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_blobs(protocol):
    stream = blobs(tasks=3, classes=2, n=40, dim=5, protocol=protocol, seed=1)
    assert stream.shape == (5,) and stream.classes.shape == (3, 2 if protocol == "domain" else 6)
    again = blobs(tasks=3, classes=2, n=40, dim=5, protocol=protocol, seed=1)
    for t, (e, same) in enumerate(zip(stream, again, strict=True)):
        samples = e.train.everything()
        assert 0 <= samples.x.min() and samples.x.max() <= 1 and stream.classes[t][samples.y].all()
        assert torch.equal(samples.x, same.train.everything().x) and not torch.equal(samples.x, e.test.everything().x)

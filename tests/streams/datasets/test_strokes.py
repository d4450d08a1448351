"""The procedural alphabet: the same for everybody, drawn by many hands, and readable."""

import itertools

import pytest
import torch

from perdure.streams.datasets.strokes import LINES, Strokes, _curves, _inked
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places


@pytest.fixture(scope="module")
def alphabet():
    return Strokes(40, 12).load(Places())


def test_every_drawer_has_drawn_every_character_once(alphabet):
    for part, count in ((alphabet.train, 9), (alphabet.test, 3)):
        assert part.x.shape == (40 * count, 1, 28, 28) and part.x.dtype == torch.uint8
        assert torch.bincount(part.y).tolist() == [count] * 40
    every = torch.cat([alphabet.train.x, alphabet.test.x]).flatten(1)
    assert len(every.unique(dim=0)) == len(every)
    ink = (every > 127).double().mean(1)
    assert 0.02 < ink.min() and ink.max() < 0.5


def test_it_is_the_same_again_and_longer_alphabets_begin_with_shorter_ones(alphabet):
    again, longer, other = (Strokes(n, 12, seed=s).load(Places()) for n, s in ((40, 0), (45, 0), (40, 1)))
    assert again.fingerprint == alphabet.fingerprint != other.fingerprint
    assert torch.equal(longer.train.x[: 40 * 9], alphabet.train.x)


def test_hands_differ_less_than_characters(alphabet):
    x, y = alphabet.train.x.flatten(1).double(), alphabet.train.y
    queries, answers = alphabet.test.x.flatten(1).double(), alphabet.test.y
    nearest = torch.cdist(queries, x).argmin(1)
    share = (y[nearest] == answers).double().mean()
    assert 0.6 < share < 1  # readable by pixels, and not by them alone


def test_a_stroke_is_inked_where_it_is_near():
    points = torch.rand((3, 2, 4, 2), generator=torch.Generator().manual_seed(0))
    path, width = _curves(points).double(), torch.tensor([0.03, 0.05, 0.08]).double()
    image = _inked(path, width, 16)
    assert torch.allclose(path[:, :, 0].float(), points[:, :, 0]) and torch.allclose(
        path[:, :, -1].float(), points[:, :, 3]
    )
    for n in range(3):
        for row in range(16):
            for column in range(16):
                pixel, far = torch.tensor([column + 0.5, row + 0.5]).double() / 16, 9.0
                for stroke in path[n]:
                    for a, b in itertools.pairwise(stroke):
                        s = (((pixel - a) @ (b - a)) / (b - a).square().sum()).clamp(0, 1)
                        far = min(far, (pixel - a - s * (b - a)).norm().item())
                ink = min(1.0, max(0.0, 0.5 + (width[n].item() - far) * 16))
                assert abs(image[n, 0, row, column].item() - 255 * ink) <= 0.5 + 1e-6
    assert path.shape == (3, 2, LINES + 1, 2)


def test_streams_are_made_of_it():
    recipe = stream_recipe("split(strokes(20, drawers=8), 4)")
    stream = recipe.arrange(recipe.source().load(Places()))
    assert [len(e) for e in stream] == [30] * 4 and stream.shape == (1, 28, 28)


@pytest.mark.parametrize("text", ["strokes(0)", "strokes(drawers=1)", "strokes(size=4)"])
def test_what_cannot_be_drawn_is_refused(text):
    with pytest.raises(ValueError, match="a character, two drawers and 8 pixels at least"):
        stream_recipe(f"split({text}, 2)")

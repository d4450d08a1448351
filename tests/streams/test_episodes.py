"""Episodes: tasks as published, classes that are never met in two phases, the same draws for the same generator."""

from dataclasses import dataclass, replace
from math import pi

import pytest
import torch
from torchvision import datasets as readers

from perdure.notation import spell
from perdure.streams.datasets.dataset import Dataset, Part, Source
from perdure.streams.datasets.strokes import Strokes
from perdure.streams.episodes import TEST, VALIDATION, FewShot, Sinusoid
from perdure.streams.names import DATASETS, EPISODES, episode_recipe
from perdure.streams.storage.directories import Places

from . import tiny


@dataclass(frozen=True)
class Counted(Source):
    """Class c has samples c * 100 + n, so that a sample tells where it comes from."""

    classes: int = 20
    samples: int = 10

    def load(self, places):
        y = torch.arange(self.classes).repeat_interleave(self.samples)
        x = (100.0 * y + torch.arange(self.samples).repeat(self.classes))[:, None]
        test = torch.arange(len(y)) % self.samples == 0
        return Dataset(Part(x[~test], y[~test]), Part(x[test], y[test]), tuple(map(str, range(self.classes))))


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sinusoids_are_those_that_were_published():
    tasks = Sinusoid(shots=10, queries=40).tasks(Places())
    drawn = tasks.draw(2000, chance())
    assert drawn.support_x.shape == (2000, 10, 1) and drawn.query_y.shape == (2000, 40, 1)
    x, y = torch.cat([drawn.support_x, drawn.query_x], 1), torch.cat([drawn.support_y, drawn.query_y], 1)
    assert -5 <= x.min() < -4.99 and 4.99 < x.max() <= 5 and y.abs().max() <= 5
    basis = torch.cat([x.sin(), x.cos()], 2).double()  # A sin(x - p) = A cos p sin x - A sin p cos x
    solved = torch.linalg.lstsq(basis, y.double()).solution[..., 0]
    assert torch.allclose((basis @ solved[..., None])[..., 0], y[..., 0].double(), atol=1e-5)
    amplitude, phase = solved.norm(dim=1), torch.atan2(-solved[:, 1], solved[:, 0])
    for values, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, pi)):
        assert low - 1e-4 < values.min() and values.max() < high + 1e-4
        assert abs(values.mean() - (low + high) / 2) < 0.05 * (high - low)


def test_omega_spreads_the_frequencies():
    one, spread = (Sinusoid(5, 200, omega).tasks(Places()).draw(50, chance()) for omega in (0.0, 0.2))
    assert torch.equal(one.query_x, spread.query_x) and not torch.allclose(one.query_y, spread.query_y)
    basis = torch.cat([spread.query_x.sin(), spread.query_x.cos()], 2).double()
    solved = torch.linalg.lstsq(basis, spread.query_y.double()).solution
    assert ((basis @ solved - spread.query_y).abs().amax((1, 2)) > 0.01).double().mean() > 0.9


def test_samples_of_a_task_are_of_its_classes_and_no_query_was_a_shot():
    tasks = FewShot(Counted(), ways=4, shots=3, queries=5).tasks(Places())
    drawn = tasks.draw(30, chance())
    assert drawn.support_x.shape == (30, 12, 1) and drawn.query_y.shape == (30, 20)
    for sx, sy, qx, qy in zip(*drawn, strict=True):
        classes = {int(c): (sx[sy == c] // 100).unique().tolist() for c in sy.unique()}
        assert sorted(classes) == [0, 1, 2, 3] and all(len(own) == 1 for own in classes.values())
        assert len({own[0] for own in classes.values()}) == 4
        for c, (own,) in classes.items():
            assert (qx[qy == c] // 100 == own).all() and (sy == c).sum() == 3 and (qy == c).sum() == 5
        assert len(torch.cat([sx, qx]).unique()) == 32


def test_no_class_is_met_in_two_phases_and_every_class_in_one():
    tasks = FewShot(Counted(), ways=3, shots=1, queries=2, shares=(0.6, 0.2, 0.2)).tasks(Places())
    met = {}
    for phase in ("train", "validation", "test"):
        drawn = tasks.draw(100, chance(), phase)
        met[phase] = set((torch.cat([drawn.support_x, drawn.query_x], 1) // 100).long().unique().tolist())
    assert [len(v) for v in met.values()] == [12, 4, 4] and len(set.union(*met.values())) == 20


def test_classes_are_dealt_out_by_name_too():
    recipe = FewShot(Counted(), 2, 1, 2, validation=("3", "19"), test=("7", "0", "11"))
    dealt = recipe.tasks(Places()).dealt
    assert dealt["validation"].tolist() == [3, 19] and dealt["test"].tolist() == [7, 0, 11]
    assert sorted(dealt["train"].tolist()) == [n for n in range(20) if n not in (0, 3, 7, 11, 19)]
    few = replace(recipe, train=("1", "2"), validation=()).tasks(Places())
    assert few.dealt["train"].tolist() == [1, 2] and few.phases == ("train", "test")
    text = "few_shot(digits, 2, 1, train=['1', '2'], test=['3', '4'])"
    assert episode_recipe(spell(episode_recipe(text), EPISODES | DATASETS)) == episode_recipe(text)


def test_cifar_fs_is_dealt_out_as_published(tmp_path, nowhere, monkeypatch):
    monkeypatch.setattr(
        tiny, "CIFAR100_NAMES", names := sorted({*VALIDATION, *TEST, *(f"other {n}" for n in range(64))})
    )
    tiny.cifar(tmp_path, readers.CIFAR100, monkeypatch)
    recipe = episode_recipe("cifar_fs(5, 1, 1)")
    tasks = recipe.tasks(replace(nowhere, folder=str(tmp_path)))
    assert {phase: len(own) for phase, own in tasks.dealt.items()} == {"train": 64, "validation": 16, "test": 20}
    assert {names[c] for c in tasks.dealt["test"]} == set(TEST) and "maple_tree" in VALIDATION
    assert tasks.draw(2, chance(), "test").support_x.shape == (2, 5, 3, 32, 32)


def test_draws_depend_on_the_generator_alone():
    tasks = FewShot(Strokes(20, 8), ways=4, shots=1, queries=3).tasks(Places())
    one, two, other = (tasks.draw(4, chance(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.support_x, other.support_x) and one.support_x.max() <= 1


def test_turned_classes_are_classes_of_their_own():
    source = Strokes(10, 8)
    tasks = FewShot(source, ways=12, shots=1, queries=2, turns=True, shares=(0.5, 0.1, 0.4)).tasks(Places())
    data = source.load(Places())
    whole = torch.cat([data.train.x, data.test.x]).float() / 255
    seen = set()
    for sx, sy, qx, qy in zip(*tasks.draw(10, chance()), strict=True):
        for c in range(12):
            kinds = set()
            for image in torch.cat([sx[sy == c], qx[qy == c]]):
                found = [
                    (int(torch.cat([data.train.y, data.test.y])[n]), k)
                    for k in range(4)
                    for n in (whole.rot90(k, (2, 3)) == image).flatten(1).all(1).nonzero().flatten()
                ]
                kinds |= set(found)
            assert len(kinds) == 1
            seen |= kinds
    assert len({c for c, _ in seen}) == 5 and {k for _, k in seen} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sinusoid(shots=0), "shots and queries must be at least 1"),
        (lambda: Sinusoid(omega=1.0), "omega must be in"),
        (lambda: FewShot(Counted(), ways=1), "ways must be at least 2"),
        (lambda: FewShot(Counted(), shares=(0.5, 0.5, 0.5)), "add up to 1"),
        (lambda: FewShot(Counted(), shots=5, queries=6).tasks(Places()), "class 0 has 10 samples, and 5 shots with 6"),
        (lambda: FewShot(Counted(), ways=9, queries=2).tasks(Places()), "9 ways need as many classes to meta-test on"),
        (lambda: FewShot(Counted(), ways=4, queries=2).tasks(Places()).draw(1, chance(), "validation"), "3 classes"),
        (lambda: FewShot(Counted(), queries=2, turns=True).tasks(Places()), "turns=True is for square images"),
        (lambda: FewShot(Counted(), train=("1", "2")), "name the classes to meta-test on too"),
        (
            lambda: FewShot(Counted(), 2, queries=2, train=("1", "2"), test=("2", "3")).tasks(Places()),
            "class '2' is met in meta-train and in meta-test",
        ),
        (lambda: FewShot(Counted(), 2, queries=2, test=("2", "x")).tasks(Places()), "have no class 'x'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()

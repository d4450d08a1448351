"""The decision surface after every task, where inputs are points of a plane."""

import pytest
import torch
from torch import nn

from perdure.platform.execution.execute import execute
from perdure.platform.figures.decision_surface import SIDE, regions
from perdure.platform.reports.comparison import Comparison
from perdure.platform.reports.comparison_page import html
from perdure.platform.reports.outcome import Outcome
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.run import Run
from perdure.platform.runs.set_aside import set_aside
from perdure.platform.runs.workspace import Site
from perdure.strategies.base import Naive
from perdure.strategies.learner import Learner
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import SGD
from perdure.strategies.training.plan import Plan
from perdure.streams.names import stream_recipe
from perdure.streams.storage.directories import Places


def rolls():
    recipe = stream_recipe("swiss_roll(3, samples=40)")
    return recipe.arrange(recipe.source().load(Places()))


def test_regions_are_what_the_model_answers():
    line = nn.Linear(2, 2)
    with torch.no_grad():  # class 1 right of x = 0.3
        line.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        line.bias.copy_(torch.tensor([0.0, -0.3]))
    answers, (left, right, bottom, top) = regions(Learner(line, SGD(0.1), Rng(0)), Naive(), {}, rolls(), 0)
    assert answers.shape == (SIDE, SIDE) and left < 0.3 < right and bottom < top
    x = torch.linspace(left, right, SIDE)
    assert torch.equal(answers, (x > 0.3).long().expand(SIDE, SIDE))


def test_it_is_what_the_strategy_answers_and_not_the_model_alone():
    class Contrary(Naive):
        def answer(self, learner, batch, outputs, state):
            return -outputs

    learner = Learner(nn.Linear(2, 2), SGD(0.1), Rng(0))
    one, other = (regions(learner, s, {}, rolls(), 0)[0] for s in (Naive(), Contrary()))
    assert torch.equal(one, 1 - other) and learner.model.training


@pytest.mark.parametrize("text", ["icarl(20)", "avalanche('Naive')"])
def test_a_run_draws_one_after_every_task(text, tmp_path):
    run, site = Run(text, "swiss_roll(3, samples=40)", plan=Plan(2, 20)).normal(), Site(str(tmp_path))
    list(execute(run, site, Data(site).of(run)))
    drawn = site.pictures(run)
    assert [p.name for p in drawn] == ["surface_01.png", "surface_02.png", "surface_03.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in drawn)
    assert html(Comparison([Outcome.of(run, site)])).count('<img src="data:image/png;base64,') == 3
    set_aside([run], site)
    assert site.pictures(run) == []


def test_pictures_of_other_streams_are_no_points(tmp_path):
    run, site = Run("naive", "split(digits)", plan=Plan(steps=1)).normal(), Site(str(tmp_path))
    list(execute(run, site, Data(site).of(run)))
    assert site.pictures(run) == [] and "Decision surfaces" not in html(Comparison([Outcome.of(run, site)]))

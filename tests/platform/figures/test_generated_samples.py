"""Dreams of every class after every experience, where there are images to see."""

import torch

from perdure.platform.execution.execute import execute
from perdure.platform.figures.generated_samples import EACH, drawn, pools
from perdure.platform.reports.comparison import Comparison
from perdure.platform.reports.comparison_page import html
from perdure.platform.reports.outcome import Outcome
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.storage.checkpoints import Store
from perdure.strategies.names import strategy
from perdure.strategies.training.plan import Plan

TEXT = "generative_replay(cvae(4, hidden=(16,), steps=20), labels='condition', pool=60) + ewc(1)"


def test_a_run_draws_its_dreams_after_every_experience(tmp_path):
    run, site = Run(TEXT, "split(digits, 2)", plan=Plan(steps=2)).normal(), Site(str(tmp_path))
    list(execute(run, site, Data(site).of(run)))
    assert [p.name for p in site.pictures(run)] == ["dreams_01.png", "dreams_02.png"]
    page = html(Comparison([Outcome.of(run, site)]))
    assert page.count('<img src="data:image/png;base64,') == 2 and "<h2>Dreams</h2>" in page
    (pool,) = pools(strategy(TEXT), Store(site.folder(run)).load()["strategy"])
    assert pool["x"].shape == (60, 1, 8, 8) and pool["y"].unique().tolist() == list(range(10))


def test_rows_are_classes_and_columns_their_dreams():
    x = torch.zeros(30, 1, 4, 4)
    y = torch.arange(30) % 3
    x[y == 1] = 0.5
    (axes,) = drawn({"x": x, "y": y}).axes
    (image,) = axes.images
    sheet = torch.from_numpy(image.get_array().data)
    assert sheet.shape == (3 * 5 - 1, EACH * 5 - 1)
    assert (sheet[5:9, :4] == 0.5).all() and (sheet[:4, :4] == 0).all() and (sheet[4] == 1).all()
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "1", "2"]


def test_vectors_and_hidden_features_are_no_images():
    assert pools(strategy("brain_inspired"), {"pool": {"x": torch.zeros(3, 1, 5, 5)}}) == []
    one = strategy("generative_replay(vae)")
    assert pools(one, {"pool": {"x": torch.zeros(3, 5)}}) == [] and pools(one, {}) == []
    assert pools(strategy("naive"), {}) == [] and pools(strategy("naive + naive"), ({}, {})) == []

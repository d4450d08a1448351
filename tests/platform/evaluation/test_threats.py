"""Every attack under every threat, on every surface: questions are counted, never more than granted, and a black box
gives no gradients."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import perdure
from perdure.jobs import main
from perdure.notation import read, spell
from perdure.platform.evaluation.robustness import COLUMNS, assault
from perdure.platform.execution.execute import execute
from perdure.platform.runs.datasets import Data
from perdure.platform.runs.journal import Journal
from perdure.platform.runs.run import Run
from perdure.platform.runs.workspace import Site
from perdure.platform.workloads import attack_target
from perdure.strategies.attacks import names
from perdure.strategies.training.plan import Plan
from perdure.streams.experience import pixels
from perdure.streams.names import DATASETS
from perdure.streams.storage.directories import Places

from ...strategies.attacks.conftest import trained
from ...strategies.attacks.small import SMALL

GRANTED = 30
THREATS = {
    "white": "white",
    "gray": "gray(5)",
    "black": f"black({GRANTED}, draws=3)",
    "labels": f"black({GRANTED}, sees='labels', draws=2, votes=2)",
    "transfer": "transfer(mlp(8), seeds=(5,))",
}
ATTACKS = [spell(names.attack(text), names.ATTACKS) for text in SMALL.values()]
SILENT = ("trigger",)  # asks nothing


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A home, and a run in it that is finished, with every attack after every experience."""
    site = Site(str(tmp_path_factory.mktemp("home")))
    plan, stream = Plan(epochs=2, batch_size=32), "split(digits, 2)"
    run = Run("rehearsal(50)", stream, "convnet(8)", plan=plan, attacks=tuple(ATTACKS), attack_samples=8).normal()
    *_, last = execute(run, site, Data(site).of(run))
    assert type(last).__name__ == "Finished"
    return site, run


@pytest.fixture
def asked(monkeypatch):
    """Whether gradients were on, at every question that is put to the classifier or to a surrogate of it."""
    seen, whole = [], attack_target.Target.of

    def watched(*args):
        made = whole(*args)

        def answer(x, rows):
            seen.append(torch.is_grad_enabled() or x.requires_grad)
            return made.answer(x, rows)

        learn = made.learn_from and replace(made.learn_from, answer=_never(seen, made.learn_from.answer))
        return replace(made, answer=answer, learn_from=learn)

    monkeypatch.setattr(attack_target.Target, "of", staticmethod(watched))
    return seen


def _never(seen, answer):
    def told(x, rows):
        seen.append(torch.is_grad_enabled() or x.requires_grad)
        return answer(x, rows)

    return told


def held_to(threat, text, queries, gradients):
    """What is promised of the questions about samples, on average or each."""
    if text not in SILENT:
        assert queries > 0, text
    if threat in ("black", "labels"):
        assert queries <= GRANTED and not any(gradients), text


class Watched(torch.nn.Module):
    """A classifier that notes whether gradients were on whenever it was asked."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append(torch.is_grad_enabled() or x.requires_grad)
        return self.inner(x)


@pytest.fixture(scope="module")
def classifier():
    """Two that know the digits, and samples of them."""
    dataset = read("digits", DATASETS).load(Places())
    parts = [(pixels(part.x), part.y) for part in (dataset.train, dataset.test)]
    return [trained(parts[0], seed, "mlp(16)", epochs=5) for seed in (0, 1)], *(part[:12] for part in parts[1])


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("text", SMALL.values())
def test_in_python(text, threat, classifier):
    (inner, other), x, y = classifier
    watched, alone = Watched(inner), threat not in ("gray", "transfer")
    given = {} if alone else {"surrogate": other}
    if text.startswith("perceptual") and threat in ("black", "labels"):
        with pytest.raises(ValueError, match="use white"):
            perdure.attack(watched, x, y, text, THREATS[threat])
        return
    got = perdure.attack(watched, x, y, text, THREATS[threat], **given)
    held_to(threat, text, int(got.queries[got.tried].max()), watched.seen)
    assert alone or not any(watched.seen)  # it only judges what fools the surrogate


@pytest.mark.parametrize("threat", THREATS)
def test_on_a_finished_run(threat, finished, asked):
    site, run = finished
    black = threat in ("black", "labels")
    texts = [text for text in ATTACKS if not (black and text.startswith("perceptual"))]
    words = ["attack", *texts, "--run", run.id, "--home", site.home, "--samples", "16", "--no-tracking", "--json"]
    told = CliRunner().invoke(main.app, [*words, "--threat", THREATS[threat]])
    assert told.exit_code == 0, told.output
    known = json.loads(told.stdout)["attacks"]
    assert [one["attack"] for one in known] == texts
    for one in known:
        held_to(threat, one["attack"], one["measures"]["queries"], asked)
    assert any(asked) is not black
    if black:
        refused = CliRunner().invoke(
            main.app, ["attack", "perceptual", *words[len(texts) + 1 :], "--threat", THREATS[threat]]
        )
        assert refused.exit_code == 2 and "use white" in refused.stderr


def test_within_a_run_as_on_it_when_it_is_finished(finished):
    site, run = finished
    found = assault(run.id, ATTACKS, home=site.home, samples=16, seed=run.seed)
    told = Journal(site.folder(run)).rows()[-1]["attacked"]
    for blow in found.blows:
        assert told[blow.attack]["robust"] == list(blow.robust)


@pytest.mark.parametrize(
    "text", ["universal(0.3, epochs=2)", "worst(universal(0.3, epochs=2), square(0.3, queries=9))"]
)
def test_what_learns_through_a_black_box_is_the_same_from_python_and_on_a_run(text, finished):
    site, run = finished
    threat, held = THREATS["black"], []
    whole = attack_target.Target.attacked

    def kept(self, *args):
        held.append((self, whole(self, *args)))
        return held[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attack_target.Target, "attacked", kept)
        assault(run.id, [text], threat, home=site.home, samples=16)
    ((victim, on_run),) = held
    in_python = perdure.attack(lambda z: victim.answer(z, _rows(z, victim)), victim.x, victim.y, text, threat)
    assert on_run.queries.max() <= GRANTED and on_run.queries[on_run.tried].min() > 0
    assert torch.equal(on_run.x, in_python.x) and torch.equal(on_run.queries, in_python.queries)


def _rows(z, victim):
    """Any rows do: the stream's classes are open to all of them once the run is finished."""
    return torch.zeros(len(z), dtype=torch.int64)


def test_a_model_that_answers_by_its_batch_is_refused_before_anything_is_learned(tmp_path):
    words = ["run", "naive", "--on", "split(strokes(4), 2)", "--model", "conv4(8)", "--attack", "pgd", "--here"]
    told = CliRunner().invoke(main.app, [*words, "--home", str(tmp_path), "--no-tracking"])
    assert told.exit_code == 2 and "answers a sample the same way every time" in told.stderr, told.output
    assert not list((tmp_path / "runs").glob("*/journal*.jsonl"))


def test_terminal_and_report_show_whole_texts_and_explain_the_columns_that_are_there(finished):
    site, run = finished
    texts = ["pgd(eps=0.1)", "pgd(eps=0.3)", "square(queries=9)"]
    words = ["attack", *texts, "--run", run.id, "--home", site.home, "--samples", "16", "--no-tracking"]
    told = CliRunner().invoke(main.app, words)
    assert told.exit_code == 0, told.output
    found = assault(run.id, texts, home=site.home, samples=16)
    page = found.report.read_text()
    for shown in ("pgd(eps=0.1)", "pgd(0.3)", "square(eps=0.1, queries=9)"):
        assert f" {shown} " in told.stdout and f"{shown}, robust %" in told.stdout and f"<code>{shown}</code>" in page
    heads = [part.split("</th>")[0] for part in page.split("What is left")[1].split("</thead>")[0].split("<th>")[1:]]
    terms = [part.split("</dt>")[0] for part in page.split("<dt>")[1:]]
    assert heads == terms == [column.title for column in COLUMNS]
    assert all(f" {title}" in told.stdout for title in heads)

"""A generator by itself: what is made of it is all there, once, and tracked."""

import shlex
import socket
from math import log

import numpy as np
import pytest
import torch
from PIL import Image

from perdure.notation import NotationError
from perdure.platform.evaluation.generation import Generation, generate
from perdure.platform.figures.generators import _arc, _divergence, _pairs
from perdure.platform.tracking import mlflow_client
from perdure.strategies.generators.base import Progress
from perdure.strategies.generators.names import generator
from perdure.strategies.numerics.divergence import Diverged
from perdure.strategies.numerics.rng import Rng

KINDS = {
    "linear_autoencoder(3, steps=20)": "samples reconstructions interpolation latent pca losses",
    "vae(3, hidden=(16,), steps=20)": "samples reconstructions interpolation latent losses",
    "cvae(3, hidden=(16,), steps=20)": "samples reconstructions interpolation latent losses",
    "aae(3, hidden=(16,), critic=(8,), steps=20)": "samples reconstructions interpolation latent losses divergence",
    "dae((1, 0.3), hidden=(16,), steps=20)": "samples reconstructions path losses",
    "gan(4, hidden=(16,), critic=(16,), steps=20)": "samples interpolation losses divergence",
    "diffusion(times=20, sampling_steps=5, width=16, depth=1, steps=20)": "samples interpolation path losses",
    "diffusion(times=20, sampling_steps=5, latent=3, width=16, depth=1, steps=20)": "samples interpolation path losses",
}


@pytest.mark.parametrize("text", KINDS)
def test_everything_is_drawn_told_and_kept(text, tmp_path):
    heard = []
    made = generate(Generation(text), str(tmp_path), hear=heard.append)
    pictures = {p.stem for p in (made.report.parent / "pictures").glob("*.png")}
    assert pictures == set(KINDS[text].split())
    page = made.report.read_text()
    assert page.count("<svg") == len(pictures) and "perdure generate &#39;" in page
    assert heard[-1].step == 20 and made.told == heard
    assert 1 <= made.measures["classes"] <= 10 and made.measures["frechet"] > made.measures["frechet_real"] > 0
    assert ("agreement" in made.measures) == generator(text).conditional
    assert ("elbo" in made.measures) == ("vae" in text)
    state = torch.load(made.report.parent / "state.pt", weights_only=True)
    assert generator(text).sample(state, 3, Rng(0)).shape == (3, 1, 8, 8)


def test_what_was_made_is_told_again_and_again_means_anew(tmp_path):
    heard = []
    one = generate(Generation("vae(3,steps=20)", threads=1), str(tmp_path), hear=heard.append)
    steps = len(heard)
    two = generate(Generation("vae(latent=3, steps=20)"), str(tmp_path), hear=heard.append)
    assert len(heard) == steps and two == one
    three = generate(Generation("vae(3, steps=20)"), str(tmp_path), again=True, hear=heard.append)
    assert len(heard) == 2 * steps
    same = {k: v for k, v in one.measures.items() if k != "seconds"}
    assert {k: v for k, v in three.measures.items() if k != "seconds"} == same  # to the last bit
    assert generate(Generation("vae(3, steps=20)", seed=1), str(tmp_path)).measures["frechet"] != same["frechet"]


def test_mlflow_has_curves_measures_and_artifacts_once(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    asked = Generation("vae(3, hidden=(16,), steps=20)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    away = generate(asked, str(tmp_path), tracking_uri=nobody)
    assert "the same command delivers it later" in away.undelivered
    made = [generate(asked, str(tmp_path), tracking_uri=uri) for _ in range(2)][-1]
    assert not made.undelivered
    client = mlflow_client.client(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("perdure").experiment_id])
    assert run.data.params["method"] == "vae(3, hidden=(16,), steps=20)" and run.info.status == "FINISHED"
    assert run.data.metrics["elbo"] == made.measures["elbo"]
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [
        p.values["loss"] for p in made.told
    ]
    assert {"report.html", "state.pt"} <= {a.path for a in client.list_artifacts(run.info.run_id)}
    assert "figures/samples.png" in {a.path for a in client.list_artifacts(run.info.run_id, "figures")}


def test_vectors_are_points_of_a_plane(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    np.savez(tmp_path / "points.npz", x=(rng.normal(size=(80, 5)) + 3 * y[:, None]).astype("float32"), y=y)
    text = "vae(2, hidden=(8,), likelihood='gaussian', bounds=None, steps=20)"
    made = generate(Generation(text, f"arrays('{tmp_path / 'points.npz'}')"), str(tmp_path))
    assert {p.stem for p in (made.report.parent / "pictures").glob("*.png")} == {"samples", "latent", "losses"}


def test_a_handful_of_coloured_pictures_is_enough(tmp_path):
    for n in range(12):
        (tmp_path / "pictures" / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * n, 0, 90)).save(tmp_path / "pictures" / "ab"[n % 2] / f"{n}.png")
    on = f"images('{tmp_path / 'pictures'}')"
    for text in ("cvae(3, hidden=(16,), steps=20)", "vae(3, hidden=(16,), steps=20)"):
        made = generate(Generation(text, on), str(tmp_path))
        drawn = {p.stem for p in (made.report.parent / "pictures").glob("*.png")}
        assert drawn >= {"samples", "reconstructions", "latent", "losses"}
        assert ("interpolation" in drawn) == (text[0] == "v")  # one of each class is no pair of one class


@pytest.mark.parametrize(
    ("text", "on", "kind", "why"),
    [
        ("vae(3", "digits", NotationError, "was never closed"),
        ("rehearsal(3)", "digits", NotationError, "unknown name"),
        ("vae", "split(digits)", NotationError, "unknown name|expected a data set"),
        ("autoencoder(3, hidden=(8,), lr=1e30, bounds=None, steps=200)", "digits", Diverged, "became nan in epoch"),
    ],
)
def test_refusals(text, on, kind, why, tmp_path):
    with pytest.raises(kind, match=why):
        generate(Generation(text, on), str(tmp_path))
    assert not list(tmp_path.glob("generated/*/generated.json"))


def test_between_noises_lies_noise():
    a, b = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    arc = _arc(a, b, torch.linspace(0, 1, 7)[:, None])
    torch.testing.assert_close(arc[0], a)
    torch.testing.assert_close(arc[-1], b)
    torch.testing.assert_close(arc.norm(dim=1), torch.full((7,), 1000**0.5), rtol=0.05, atol=0)


def test_pairs_are_of_one_class_or_of_two():
    y = torch.tensor([0, 0, 1, 1, 2, 0])
    assert list(_pairs(y, same=True)) == [(0, 1), (2, 3)]
    assert list(_pairs(y, same=False)) == [(0, 2), (1, 3), (4, 5)]


def test_the_line_of_not_telling_is_at_minus_two_log_two():
    axes = _divergence([Progress(n, 3, n, {"jsd": jsd}) for n, jsd in enumerate((0.0, 0.2, log(2)))]).axes[0]
    curve, line = axes.get_lines()
    assert list(line.get_ydata()) == pytest.approx([-2 * log(2)] * 2)
    assert list(curve.get_ydata()) == pytest.approx([-2 * log(2), 0.4 - 2 * log(2), 0])


def test_a_line_makes_the_same_again():
    asked = Generation("vae(3)", "images('my photos')", 3)
    assert shlex.split(asked.line) == ["perdure", "generate", "vae(3)", "--on", "images('my photos')", "--seed", "3"]
    assert Generation("vae").line == "perdure generate vae"

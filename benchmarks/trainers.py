"""Training speed beside pythae's trainers, on the same architecture: seconds of 100 steps of 128, Fashion-MNIST.

Its pins do not go with ours, so it lies in a folder of its own:
`pip install --target /tmp/pythae --no-deps pythae==0.1.2 pydantic==1.10.13 cloudpickle imageio`
`PYTHONPATH=/tmp/pythae python -m benchmarks.trainers`
"""

import logging
import tempfile
from dataclasses import replace

import torch
from pythae.data.datasets import BaseDataset  # pyright: ignore
from pythae.models import (  # pyright: ignore
    VAE,
    WAE_MMD,
    Adversarial_AE,
    Adversarial_AE_Config,
    VAEConfig,
    WAE_MMD_Config,
)
from pythae.models.base.base_utils import ModelOutput  # pyright: ignore
from pythae.models.nn import BaseDecoder, BaseEncoder  # pyright: ignore
from pythae.trainers import (  # pyright: ignore
    AdversarialTrainer,
    AdversarialTrainerConfig,
    BaseTrainer,
    BaseTrainerConfig,
)

from perdure.notation import read
from perdure.strategies.generators.base import Data
from perdure.strategies.generators.names import generator
from perdure.strategies.numerics.rng import Rng
from perdure.streams.experience import pixels
from perdure.streams.names import DATASETS
from perdure.streams.storage.directories import Places

from .generators import mlp
from .table import show, side_by_side

STEPS = 100


class Encoder(BaseEncoder):
    def __init__(self, uncertain: bool):
        super().__init__()
        self.body, self.uncertain = mlp(784, 400, 400, 32 if uncertain else 16), uncertain

    def forward(self, x):
        told = self.body(x.flatten(1))
        if not self.uncertain:
            return ModelOutput(embedding=told)
        return ModelOutput(embedding=told[:, :16], log_covariance=told[:, 16:])


class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.body = mlp(16, 400, 400, 784)

    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z).sigmoid().view(-1, 1, 28, 28))


def theirs(name: str, data: BaseDataset) -> None:
    size = {"input_dim": (1, 28, 28), "latent_dim": 16}
    trainer, settings = BaseTrainer, BaseTrainerConfig
    if name == "vae":
        model = VAE(VAEConfig(reconstruction_loss="bce", **size), Encoder(True), Decoder())
    elif name == "wae":
        model = WAE_MMD(WAE_MMD_Config(**size), Encoder(False), Decoder())
    else:
        model = Adversarial_AE(Adversarial_AE_Config(**size), Encoder(True), Decoder())
        trainer, settings = AdversarialTrainer, AdversarialTrainerConfig
    with tempfile.TemporaryDirectory() as folder:
        asked = settings(output_dir=folder, num_epochs=1, per_device_train_batch_size=128, no_cuda=True)
        made = trainer(model=model, train_dataset=data, training_config=asked)
        made.prepare_training()
        made.train_step(1)


def main() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    train = read("fashion_mnist", DATASETS).load(Places()).train
    x, y = train.x[: 128 * STEPS], train.y[: 128 * STEPS]
    data, peer, rows = Data(x, y), BaseDataset(pixels(x), y), []
    for name in ("vae", "wae", "aae"):
        one = replace(generator(name), steps=STEPS)
        a, b, ratio = side_by_side(
            lambda one=one: one.fit(data, Rng(0)), lambda name=name: theirs(name, peer), rounds=5
        )
        rows.append((name, f"{a:.2f}", f"{b:.2f}", f"{1 / ratio:.2f}", ">= 1.5"))
    show(f"{STEPS} steps of 128", ("generator", "ours s", "pythae s", "times as fast", "reach"), rows)


if __name__ == "__main__":
    main()

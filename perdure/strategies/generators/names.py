"""Every generator that a text can name."""

from ... import notation
from .autoencoder import Autoencoder, LinearAutoencoder
from .base import Generator
from .denoising import DAE
from .diffusion import Diffusion
from .gan import GAN, WGAN
from .priors import AAE, WAE
from .variational import CVAE, VAE, GatedVAE

GENERATORS: dict[str, type] = {
    "linear_autoencoder": LinearAutoencoder,
    "autoencoder": Autoencoder,
    "dae": DAE,
    "aae": AAE,
    "wae": WAE,
    "gan": GAN,
    "wgan": WGAN,
    "vae": VAE,
    "cvae": CVAE,
    "gated_vae": GatedVAE,
    "diffusion": Diffusion,
}


def generator(text: str) -> Generator:
    """The generator that `text` spells, as `vae(32, beta=2)`."""
    return notation.read_as(Generator, "a generator such as vae(32)", text, GENERATORS)

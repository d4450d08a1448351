"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661)."""

from dataclasses import dataclass
from math import prod

import torch.nn.functional as F

from .base import Generator, Nets
from .critics import Lipschitz, critic, flatness, gradient_penalty
from .divergences import adversarial_jsd
from .networks import Decoder, adam, batches, descend, normal
from .priors import BETAS, PENALTY


@dataclass(frozen=True)
class Adversarial(Generator):
    """What GAN and WGAN share: samples are decoded draws of N(0, I); no likelihood, no encoder."""

    latent: int = 32
    hidden: tuple[int, ...] = (256, 256)
    critic: tuple[int, ...] = (256, 256)  # hidden widths of the other side

    def networks(self, shape, conditions):
        decoder = Decoder(self.latent, self.hidden, prod(shape), self.bounds)
        return Nets({"decoder": decoder, "critic": critic(prod(shape), self.critic, self.slope())})

    def slope(self) -> Lipschitz | None:
        return None

    def made(self, nets: Nets, n: int, rng):
        return nets["decoder"](normal((n, self.latent), next(nets.parameters()), rng))

    def drawn(self, nets, n, y, rng, state):
        return self.made(nets, n, rng).unflatten(1, state["shape"])


@dataclass(frozen=True)
class GAN(Adversarial):
    """Generative adversarial network, with the non-saturating loss of the generator.

    The discriminator climbs E_real[log η] + E_fake[log(1 - η)], the generator E_fake[log η]; told is the JSD in nats
    that the discriminator sees. Modes get lost: look at how many classes are covered. A discriminator that
    is flat at real samples loses fewer: `penalty` times ½ E_real|∇η|² is added to its loss (Mescheder et al. 2018).
    """

    penalty: float = 1.0  # in the data's unit squared; 0 for the original

    def updates(self, nets, data, rng, start):
        maker, judge = (adam(nets[name], self.lr, BETAS) for name in ("decoder", "critic"))
        for x, _, _ in batches(data, self.batch_size, rng):
            fake = self.made(nets, len(x), rng)
            told = nets["critic"](x), nets["critic"](fake.detach())
            loss = F.softplus(-told[0]).mean() + F.softplus(told[1]).mean()
            if self.penalty:
                loss = loss + self.penalty * flatness(nets["critic"], x)
            descend(judge, loss)
            loss = F.softplus(-nets["critic"](fake)).mean()
            descend(maker, loss)
            yield {"loss": loss.detach(), "jsd": adversarial_jsd(*told).detach()}


@dataclass(frozen=True)
class WGAN(Adversarial):
    """Wasserstein GAN: a critic of slope 1 instead of a discriminator (Arjovsky et al. 2017, arXiv:1701.07875).

    W1 = sup E_real[η] - E_fake[η], with no logarithms; the slope is held by a gradient penalty (WGAN-GP: Gulrajani
    et al. 2017, arXiv:1704.00028) or by spectral normalisation.
    """

    lipschitz: Lipschitz = "gradient"
    critic_steps: int = 3  # for each of the generator

    def slope(self):
        return self.lipschitz

    def updates(self, nets, data, rng, start):
        maker, judge = (adam(nets[name], self.lr, BETAS) for name in ("decoder", "critic"))
        for step, (x, _, _) in enumerate(batches(data, self.batch_size, rng)):
            fake = self.made(nets, len(x), rng)
            apart = nets["critic"](x).mean() - nets["critic"](fake.detach()).mean()
            loss = -apart
            if self.lipschitz == "gradient":
                loss = loss + PENALTY * gradient_penalty(nets["critic"], x, fake.detach(), rng)
            descend(judge, loss)
            if step % self.critic_steps == 0:
                descend(maker, -nets["critic"](fake).mean())
            yield {"loss": apart.detach()}

"""Autoencoders whose codes are held to the prior N(0, I): adversarial and Wasserstein ones."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F

from .autoencoder import DeepLatentModel, square_error
from .base import Nets
from .critics import Lipschitz, critic, flatness, gradient_penalty
from .divergences import adversarial_jsd, mmd, sliced_wasserstein
from .networks import adam, batches, descend, normal

BETAS = (0.5, 0.9)  # Adam's, of both sides of a game (Gulrajani et al. 2017)
PENALTY = 10.0  # weight of the gradient penalty (the same)


@dataclass(frozen=True)
class AAE(DeepLatentModel):
    """Adversarial autoencoder: a discriminator tells codes from draws of the prior, until it cannot
    (Makhzani et al. 2015, arXiv:1511.05644).

    min_{φ,ψ} max_η E|x - ψ(φ(x))|² + λ (E_z[log η(z)] + E_x[log(1 - η(φ(x)))]); the encoder climbs log η(φ(x)), which
    has the same end and better gradients. What the discriminator tells is read as JSD, in nats, of codes
    and prior: a lower bound, 0 where it cannot tell (V = -2 log 2).
    """

    weight: float = 1.0  # λ, beside errors of about the data's variance
    critic: tuple[int, ...] = (128, 128)  # hidden widths of the discriminator
    penalty: float = 1.0  # on its slope at the prior (Mescheder et al. 2018)

    def networks(self, shape, conditions):
        return Nets({**super().networks(shape, conditions), "critic": critic(self.latent, self.critic)})

    def updates(self, nets, data, rng, start):
        coder = adam(Nets({"encoder": nets["encoder"], "decoder": nets["decoder"]}), self.lr)
        judge = adam(nets["critic"], self.lr, BETAS)
        for x, _, _ in batches(data, self.batch_size, rng):
            z = nets["encoder"](x)
            prior = normal(z.shape, z, rng)
            real, fake = nets["critic"](prior), nets["critic"](z.detach())
            flat = self.penalty * flatness(nets["critic"], prior) if self.penalty else 0.0
            descend(judge, F.softplus(-real).mean() + F.softplus(fake).mean() + flat)
            error = square_error(nets["decoder"](z), x)
            descend(coder, error + self.weight * F.softplus(-nets["critic"](z)).mean())
            jsd = adversarial_jsd(real, fake)
            yield {"loss": error.detach(), "jsd": jsd.detach()}


@dataclass(frozen=True)
class WAE(DeepLatentModel):
    """Wasserstein autoencoder: codes are held near the prior by a distance (Tolstikhin et al. 2018, arXiv:1711.01558).

    min E|x - ψ(φ(x))|² + λ d(φ(x), N(0, I)): d the squared maximum mean discrepancy (`mmd`), the sliced squared W2
    (`sliced`: Kolouri et al. 2018, arXiv:1804.01947), or W1 by its dual, sup over critics η of slope 1 of
    E_z[η(z)] - E_x[η(φ(x))] (`critic`), held by a gradient penalty or by spectral normalisation.
    """

    distance: Literal["mmd", "sliced", "critic"] = "mmd"
    weight: float = 10.0  # λ
    lipschitz: Lipschitz = "gradient"
    critic: tuple[int, ...] = (128, 128)  # hidden widths
    critic_steps: int = 3  # for each of the encoder

    def networks(self, shape, conditions):
        nets = super().networks(shape, conditions)
        if self.distance == "critic":
            nets["critic"] = critic(self.latent, self.critic, self.lipschitz)
        return nets

    def updates(self, nets, data, rng, start):
        coder = adam(Nets({"encoder": nets["encoder"], "decoder": nets["decoder"]}), self.lr)
        judge = adam(nets["critic"], self.lr, BETAS) if "critic" in nets else None
        for x, _, _ in batches(data, self.batch_size, rng):
            z = nets["encoder"](x)
            if judge is not None:
                self._judged(nets["critic"], judge, z.detach(), rng)
            apart = self._apart(nets, z, rng)
            error = square_error(nets["decoder"](z), x)
            descend(coder, error + self.weight * apart)
            yield {"loss": error.detach(), self.distance: apart.detach()}

    def _judged(self, net, judge, z, rng):
        for _ in range(self.critic_steps):
            prior = normal(z.shape, z, rng)
            loss = net(z).mean() - net(prior).mean()
            if self.lipschitz == "gradient":
                loss = loss + PENALTY * gradient_penalty(net, prior, z, rng)
            descend(judge, loss)

    def _apart(self, nets, z, rng):
        prior = normal(z.shape, z, rng)
        if self.distance == "mmd":
            return mmd(z, prior)
        if self.distance == "sliced":
            return sliced_wasserstein(z, prior, generator=rng["directions"])
        return nets["critic"](prior).mean() - nets["critic"](z).mean()

"""The game without an adversary: a plain or denoising autoencoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ebgan_detect.losses import energy_map, reconstruction_energy
from ebgan_detect.networks import AutoEncoder
from ebgan_detect.objectives.objective import Objective, make_adam

__all__ = ["AutoEncoderObjective"]


class AutoEncoderObjective(Objective):
    """Minimise the reconstruction energy of real rows; the honest control of every adversary.

    Parameters
    ----------
    networks : AutoEncoder
        The encoder and decoder that play.
    noise : float
        Denoising: standard deviation of the Gaussian noise added to the encoder's input
        [scaled input unit], drawn for each row uniformly in [0, noise]; 0 for a plain
        autoencoder. The target is the clean row, and scoring adds no noise.
    betas : tuple of float
        Adam's decay rates.
    """

    metric_names: ClassVar[tuple[str, ...]] = ("loss_discriminator", "energy_real")

    def __init__(
        self, networks: AutoEncoder, *, noise: float = 0.0, betas: tuple[float, float] = (0.5, 0.99)
    ) -> None:
        super().__init__()
        self.encoder = networks.encoder
        self.decoder = networks.decoder
        self.noise = noise
        self.betas = betas

    @override
    def configure_optimizers(self, learning_rate: float) -> None:
        self.optimizers = {
            "discriminator": make_adam([self.encoder, self.decoder], learning_rate, self.betas)
        }

    @override
    def update(self, real: Tensor, rng: torch.Generator) -> Tensor:
        loss = reconstruction_energy(real, self.reconstruct(self.corrupt(real, rng))).mean()
        self.descend("discriminator", loss)
        metric = loss.detach()
        return torch.stack([metric, metric])

    def corrupt(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Add denoising noise to scaled rows.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Scaled rows.
        rng : Generator
            Source of randomness, on the same device.

        Returns
        -------
        Tensor of shape (n, ...)
            Noisy rows, or `x` itself when `noise` is 0.
        """
        if not self.noise:
            return x
        level = torch.rand((len(x), *[1] * (x.ndim - 1)), generator=rng, device=x.device)
        return torch.randn(x.shape, generator=rng, device=x.device).mul_(level * self.noise).add_(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the autoencoder makes of scaled rows.

        Parameters
        ----------
        x : Tensor of shape (n, ...), float32
            Scaled rows.

        Returns
        -------
        Tensor of shape (n, ...), float32
            Reconstructions.
        """
        reconstruction: Tensor = self.decoder(self.encoder(x))
        return reconstruction

    def energy_map(self, x: Tensor) -> Tensor:
        """Energy of scaled rows, split over features.

        Parameters
        ----------
        x : Tensor of shape (n, ...), float32
            Scaled rows.

        Returns
        -------
        Tensor of shape (n, ...), float32
            Squared errors; the mean of a row is its energy.
        """
        return energy_map(x, self.reconstruct(x))

    @override
    def energy(self, x: Tensor) -> Tensor:
        return self.energy_map(x).flatten(1).mean(dim=1, dtype=torch.float64)

"""The game without an adversary: a plain or denoising autoencoder."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ebgan_detect.losses import energy_map, reconstruction_energy
from ebgan_detect.networks import AutoEncoder
from ebgan_detect.objectives.objective import Objective, make_adam

__all__ = ["AutoEncoderObjective"]

SNAPSHOTS_FROM = 0.5
"""Share of the training done at which the earliest snapshot is taken."""


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
    n_snapshots : int
        States of the autoencoder whose energies are averaged: the final one, and others
        taken at equal intervals over the second half of training [1]_.
    coarse_weight : float
        Of the energies of images that are scored, as in `energy_map`; training minimises the
        squared error.

    References
    ----------
    .. [1] Huang et al., "Snapshot Ensembles: Train 1, Get M for Free", ICLR 2017.
    """

    def __init__(
        self,
        networks: AutoEncoder,
        *,
        noise: float = 0.0,
        betas: tuple[float, float] = (0.5, 0.99),
        n_snapshots: int = 1,
        coarse_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = networks.encoder
        self.decoder = networks.decoder
        self.noise = noise
        self.betas = betas
        self.n_snapshots = n_snapshots
        self.coarse_weight = coarse_weight
        self.earlier = nn.ModuleList()
        self._taken = 0

    @override
    def configure_optimizers(self, learning_rate: float) -> None:
        self.optimizers = {
            "discriminator": make_adam([self.encoder, self.decoder], learning_rate, self.betas)
        }

    @override
    def begin_step(self, progress: float) -> None:
        if progress == 0:
            self._taken = 0
        intervals = self.n_snapshots - 1
        due = int((progress - SNAPSHOTS_FROM) / (1 - SNAPSHOTS_FROM) * intervals + 1)
        if min(due, intervals) > self._taken:
            self._taken = due
            self._keep_state()

    @override
    def go_on(self) -> None:
        if self.n_snapshots > 1:  # else trainings too short to reach any state keep stale ones
            self._keep_state()

    def _keep_state(self) -> None:
        """Copy the autoencoder as it is; the oldest of too many copies goes."""
        state = nn.Sequential(self.encoder, self.decoder)
        self.earlier.append(copy.deepcopy(state).requires_grad_(requires_grad=False))
        if len(self.earlier) >= self.n_snapshots:
            del self.earlier[0]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Make room for as many earlier states as are to be loaded."""
        start = f"{prefix}earlier."
        found = {n.removeprefix(start).split(".")[0] for n in state_dict if n.startswith(start)}
        del self.earlier[len(found) :]
        while len(self.earlier) < len(found):
            self.earlier.append(copy.deepcopy(nn.Sequential(self.encoder, self.decoder)))
        self.earlier.requires_grad_(requires_grad=False)
        self._taken = len(self.earlier)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @override
    def update(self, real: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        loss = reconstruction_energy(real, self.reconstruct(self.corrupt(real, rng))).mean()
        self.descend("discriminator", loss)
        return {"loss_discriminator": loss.detach(), "energy_real": loss.detach()}

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
        shape, device = x.shape[1:], x.device

        def levels(n: int) -> Tensor:
            return torch.rand((n, *[1] * len(shape)), generator=rng, device=device)

        def noises(n: int) -> Tensor:
            return torch.randn((n, *shape), generator=rng, device=device)

        level, noise = self.group.own(len(x), levels), self.group.own(len(x), noises)
        return noise.mul_(level * self.noise).add_(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the autoencoder in its present state makes of scaled rows.

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
            Its energy's split, averaged over the snapshots; the mean of a row is its energy.
        """
        split = partial(energy_map, x, coarse_weight=self.coarse_weight)
        total = split(self.reconstruct(x))
        for state in self.earlier:
            total = total + split(state(x))
        return total / (1 + len(self.earlier)) if self.earlier else total

    @override
    def energy(self, x: Tensor) -> Tensor:
        return self.energy_map(x).flatten(1).mean(dim=1, dtype=torch.float64)

"""The energy-based game: an autoencoder discriminator against a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ebgan_detect.losses import (
    discriminator_loss,
    generator_loss,
    pulling_away,
    reconstruction_energy,
)
from ebgan_detect.networks import Networks
from ebgan_detect.objectives.autoencoder import AutoEncoderObjective
from ebgan_detect.objectives.objective import make_adam
from ebgan_detect.objectives.replay import ReplayBuffer

__all__ = ["EBGANObjective"]


class EBGANObjective(AutoEncoderObjective):
    """Alternate one step of the discriminator with one of the generator.

    Parameters
    ----------
    networks : Networks
        The players.
    input_shape : tuple of int
        Shape of one row.
    latent_dim : int
        Number of features in the generator's input, drawn from a standard normal.
    margin : callable or float
        Energy to lift generated rows to [scaled input unit ** 2], or a function from the
        share of training done, in [0, 1), to it.
    pull_away_weight : float
        Weight of the pulling-away term in the generator's loss, >= 0.
    hinge_weight : float
        Weight of the hinge in the discriminator's loss, > 0; 1 in the paper.
    replay_size : int
        Number of earlier generated rows to keep; 0 for none, as in the paper.
    negatives_ratio : int
        Negatives for each real row where earlier ones are kept. Up to 2, half of them are new.
    generator_rate : float
        Generator's step size as a multiple of the discriminator's, > 0 [2]_.
    noise : float
        As in `AutoEncoderObjective`, on generated rows as on real ones: else it would be noise
        that tells one from the other.
    betas : tuple of float
        Adam's decay rates.
    n_snapshots : int
        As in `AutoEncoderObjective`.
    coarse_weight : float
        As in `AutoEncoderObjective`; the game is played for squared errors.

    References
    ----------
    .. [1] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network", ICLR 2017.
    .. [2] Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
       Equilibrium", NeurIPS 2017.
    """

    margin: Tensor
    hinge_weight: Tensor

    def __init__(
        self,
        networks: Networks,
        *,
        input_shape: tuple[int, ...],
        latent_dim: int,
        margin: Callable[[float], float] | float,
        pull_away_weight: float = 0.1,
        hinge_weight: float = 1.0,
        replay_size: int = 0,
        negatives_ratio: int = 1,
        generator_rate: float = 1.0,
        noise: float = 0.0,
        betas: tuple[float, float] = (0.5, 0.99),
        n_snapshots: int = 1,
        coarse_weight: float = 0.0,
    ) -> None:
        super().__init__(
            networks,
            noise=noise,
            betas=betas,
            n_snapshots=n_snapshots,
            coarse_weight=coarse_weight,
        )
        self.generator = networks.generator
        self.latent_dim = latent_dim
        self.margin_schedule = margin if callable(margin) else None
        start = margin(0.0) if callable(margin) else margin
        self.register_buffer("margin", torch.tensor(float(start)))
        self.pull_away_weight = pull_away_weight
        self.register_buffer("hinge_weight", torch.tensor(float(hinge_weight)))
        self.rate_factors = {"generator": generator_rate}
        self.replay = ReplayBuffer(replay_size, input_shape) if replay_size else None
        self.negatives_ratio = negatives_ratio

    @override
    def configure_optimizers(self, learning_rate: float) -> None:
        super().configure_optimizers(learning_rate)
        self.optimizers["generator"] = make_adam([self.generator], learning_rate, self.betas)

    @override
    def go_on(self) -> None:
        super().go_on()
        if self.margin_schedule is not None:
            self.margin.fill_(self.margin_schedule(1.0))
            self.margin_schedule = None

    @override
    def begin_step(self, progress: float) -> None:
        super().begin_step(progress)
        if self.margin_schedule is not None:
            self.margin.fill_(self.margin_schedule(progress))

    @override
    def update(self, real: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        latents = self.draw_latents(max(len(real), 2), rng, real.device)
        generated = self.generator(latents).float()
        measured = self._update_discriminator(real, generated.detach(), rng)
        return measured | self._update_generator(generated)

    def _update_discriminator(
        self, real: Tensor, generated: Tensor, rng: torch.Generator
    ) -> dict[str, Tensor]:
        """Lower the energy of real rows, lift that of generated ones."""
        parts = [real, *self._mixed_with_replay(generated, rng)]
        targets = torch.cat(parts)
        inputs = torch.cat([self.corrupt(part, rng) for part in parts]) if self.noise else targets
        energies = reconstruction_energy(targets, self.reconstruct(inputs))
        energy_real, energy_negative = energies[: len(real)], energies[len(real) :]
        loss = discriminator_loss(
            energy_real, energy_negative, margin=self.margin, hinge_weight=self.hinge_weight
        )
        self.descend("discriminator", loss)
        energy_negative = energy_negative.detach()
        return {
            "loss_discriminator": loss.detach(),
            "energy_real": energy_real.detach(),
            "energy_generated": energy_negative[: len(parts[1])],
            "hinge_active": energy_negative < self.margin,
            "margin": self.margin.clone(),
        }

    def _update_generator(self, generated: Tensor) -> dict[str, Tensor]:
        """Lower the energy of generated rows and pull their codes apart."""
        code = self.encoder(generated)
        # The sample is the autoencoder's input and its target: gradient flows through both.
        energy = reconstruction_energy(generated, self.decoder(code))
        codes = code if self.pull_away_weight else code.detach()
        pull_away = pulling_away(self.group.gather(codes))
        loss = generator_loss(energy, pull_away, pull_away_weight=self.pull_away_weight)
        self.descend("generator", loss)
        return {"loss_generator": loss.detach(), "pull_away": pull_away.detach()}

    def _mixed_with_replay(self, generated: Tensor, rng: torch.Generator) -> list[Tensor]:
        """New samples, and about as many earlier ones where some are kept."""
        replay = self.replay
        if replay is None:
            return [generated]
        of_all = self.group.gather(generated)
        replay.extend(of_all)
        n = self.negatives_ratio * len(generated)
        n_new = min((n + 1) // 2, len(generated))
        new = self.group.own(n_new, lambda count: of_all[:count])
        earlier = self.group.own(n - n_new, lambda count: replay.draw(count, rng))
        return [new, earlier]

    @override
    def generate(self, latents: Tensor) -> Tensor:
        rows: Tensor = self.generator(latents)
        return rows

    @override
    def training_tensors(self) -> dict[str, Tensor]:
        if self.replay is None:
            return {}
        return {"replay.rows": self.replay.rows, "replay.n_stored": self.replay.n_stored}

    @override
    def negatives(self, n: int, rng: torch.Generator) -> Tensor | None:
        if self.replay is not None:
            return self.replay.draw(n, rng)
        return self.sample(n, rng)

    @override
    def diagnose(self, history: Mapping[str, Sequence[float]]) -> str | None:
        real, generated = history["energy_real"][-1], history["energy_generated"][-1]
        margin = history["margin"][-1]
        if max(history["hinge_active"]) < 0.01:
            return (
                "the game never started: generated energy stayed above the margin "
                f"({margin:.3g}) and taught the discriminator nothing; raise margin"
            )
        # With denoising, real energy counts the noise too and may well exceed the margin.
        if real >= 0.9 * margin and not self.noise:
            return (
                f"the discriminator gave up: real energy {real:.3g} reached the margin "
                f"{margin:.3g}, so that nothing separates real from generated rows; lower "
                "learning_rate or raise margin"
            )
        if history["pull_away"][-1] > 0.95:
            return (
                "the generator collapsed to one direction of the code (pulling-away term "
                f"{history['pull_away'][-1]:.2f}); raise pull_away_weight"
            )
        if generated < real and not self.noise:
            return (
                f"generated energy {generated:.3g} fell below real energy {real:.3g}: the "
                "discriminator no longer tells them apart; lower learning_rate"
            )
        return None

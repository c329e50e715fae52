"""The logistic game: a discriminator that gives log-odds against a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ebgan_detect.losses import logistic_discriminator_loss, logistic_generator_loss
from ebgan_detect.objectives.objective import Objective, make_adam

__all__ = ["GANObjective"]


class GANObjective(Objective):
    """Alternate one step of the discriminator with one of the generator.

    Parameters
    ----------
    discriminator : Module
        ``(n, *input_shape) -> (n,)`` or ``(n, 1)``: log-odds that rows are real.
    generator : Module
        ``(n, latent_dim) -> (n, *input_shape)``.
    input_shape : tuple of int
        Shape of one row.
    latent_dim : int
        Number of features in the generator's input, drawn from a standard normal.
    symmetric : bool
        Whether both networks play on [-1, 1], as a generator that ends in tanh does, while
        scaled rows lie in [0, 1]. The game then maps between the two.
    betas : tuple of float
        Adam's decay rates; beta1 = 0.5 as in [2]_.

    Notes
    -----
    The energy of a row is minus its logit. With enough capacity the game ends where the
    logit is 0 everywhere on the data [1]_: what scores is a discriminator that is still ahead.

    References
    ----------
    .. [1] Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014.
    .. [2] Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep
       Convolutional Generative Adversarial Networks", ICLR 2016.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        generator: nn.Module,
        *,
        input_shape: tuple[int, ...],
        latent_dim: int,
        symmetric: bool = False,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.input_shape = input_shape
        self.latent_dim = latent_dim
        self.symmetric = symmetric
        self.betas = betas

    @override
    def configure_optimizers(self, learning_rate: float) -> None:
        self.optimizers = {
            "discriminator": make_adam([self.discriminator], learning_rate, self.betas),
            "generator": make_adam([self.generator], learning_rate, self.betas),
        }

    @override
    def update(self, real: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        # Batch normalisation needs two rows.
        latents = self.draw_latents(max(len(real), 2), rng, real.device)
        generated = self.generate(latents)
        measured = self._update_discriminator(real, generated.detach())
        return measured | self._update_generator(generated)

    def _update_discriminator(self, real: Tensor, generated: Tensor) -> dict[str, Tensor]:
        """Tell real rows from generated ones, each in a batch of their own as in the paper."""
        logit_real, logit_generated = self.logits(real), self.logits(generated)
        loss = logistic_discriminator_loss(logit_real, logit_generated)
        self.descend("discriminator", loss)
        return {
            "loss_discriminator": loss.detach(),
            "probability_real": logit_real.detach().sigmoid(),
            "probability_generated": logit_generated.detach().sigmoid(),
        }

    def _update_generator(self, generated: Tensor) -> dict[str, Tensor]:
        """Have generated rows called real."""
        loss = logistic_generator_loss(self.logits(generated))
        self.descend("generator", loss)
        return {"loss_generator": loss.detach()}

    def logits(self, x: Tensor) -> Tensor:
        """Log-odds that scaled rows are real.

        Parameters
        ----------
        x : Tensor of shape (n, *input_shape), float32
            Scaled rows.

        Returns
        -------
        Tensor of shape (n,), float32
            Logits; high = real.
        """
        logits: Tensor = self.discriminator(2 * x - 1 if self.symmetric else x)
        return logits.float().flatten()

    @override
    def energy(self, x: Tensor) -> Tensor:
        return -self.logits(x).double()

    @override
    def generate(self, latents: Tensor) -> Tensor:
        rows: Tensor = self.generator(latents).float()
        return (rows + 1) / 2 if self.symmetric else rows

    @override
    def negatives(self, n: int, rng: torch.Generator) -> Tensor | None:
        return self.sample(n, rng)

    @override
    def diagnose(self, history: Mapping[str, Sequence[float]]) -> str | None:
        real, generated = history["probability_real"][-1], history["probability_generated"][-1]
        found = f"real rows are called real with probability {real:.3f}, generated ones with "
        found += f"{generated:.3f}"
        if real > 0.99 and generated < 0.01:
            return (
                f"the discriminator won: {found}, and the generator has nothing left to learn "
                "from; lower learning_rate or train fewer epochs"
            )
        if real - generated < 0.01:
            return (
                f"the discriminator no longer tells them apart: {found}; the game's equilibrium, "
                "where the logit says nothing of a row; train fewer epochs"
            )
        return None

"""The formulas of every game, as pure functions."""

from ebgan_detect.losses.energy import (
    discriminator_loss,
    energy_map,
    generator_loss,
    hinge,
    pulling_away,
    reconstruction_energy,
)
from ebgan_detect.losses.logistic import logistic_discriminator_loss, logistic_generator_loss
from ebgan_detect.losses.variational import (
    bernoulli_map,
    gaussian_divergence,
    gaussian_map,
    importance_weighted_bound,
)

__all__ = [
    "bernoulli_map",
    "discriminator_loss",
    "energy_map",
    "gaussian_divergence",
    "gaussian_map",
    "generator_loss",
    "hinge",
    "importance_weighted_bound",
    "logistic_discriminator_loss",
    "logistic_generator_loss",
    "pulling_away",
    "reconstruction_energy",
]

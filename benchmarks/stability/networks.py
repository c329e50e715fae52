"""The paper's fully connected players (its appendix on the grid search)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from typing_extensions import override

from benchmarks.stability.grid import Configuration
from ebgan_detect.networks import Networks

__all__ = ["LATENT_DIM", "autoencoder_and_generator", "discriminator_and_generator"]

LATENT_DIM = 100
DISCRIMINATOR_STD, GENERATOR_STD = 0.002, 0.02
"""Standard deviations of the initial weights; biases start at 0."""
DROPOUT = 0.5


class PartwiseBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that never mixes real and generated rows.

    The engine gives a discriminator both in one batch; here each part of `part_rows` rows is
    normalised by itself, as if the parts had come one after the other.
    """

    def __init__(self, n_features: int, part_rows: int) -> None:
        super().__init__(n_features)
        self.part_rows = part_rows

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        normalise = super().forward
        return torch.cat([normalise(part) for part in input.split(self.part_rows)])


def autoencoder_and_generator(
    configuration: Configuration, n_features: int, *, batch_size: int, seed: int
) -> Networks:
    """The players of an EBGAN; the decoder is one layer, and the encoder has the others.

    Differs from the paper: rows lie in [0, 1], so that generator and decoder end in a
    sigmoid instead of a hyperbolic tangent on [-1, 1].
    """
    rng = torch.Generator().manual_seed(seed)
    width = configuration.discriminator_width
    encoder = _hidden_discriminator(configuration, n_features, batch_size, rng)
    decoder = nn.Sequential(_linear(width, n_features, DISCRIMINATOR_STD, rng), nn.Sigmoid())
    return Networks(encoder, decoder, _generator(configuration, n_features, rng))


def discriminator_and_generator(
    configuration: Configuration, n_features: int, *, batch_size: int, seed: int
) -> tuple[nn.Module, nn.Module]:
    """The players of a GAN; the discriminator's last layer gives one logit."""
    rng = torch.Generator().manual_seed(seed)
    hidden = _hidden_discriminator(configuration, n_features, batch_size, rng)
    last = _linear(configuration.discriminator_width, 1, DISCRIMINATOR_STD, rng)
    return nn.Sequential(*hidden, last), _generator(configuration, n_features, rng)


def _hidden_discriminator(
    configuration: Configuration, n_features: int, batch_size: int, rng: torch.Generator
) -> nn.Sequential:
    """All layers but the last; the first has no batch normalisation."""
    widths = [n_features] + [configuration.discriminator_width] * (
        configuration.discriminator_layers - 1
    )
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers.append(_linear(n_in, n_out, DISCRIMINATOR_STD, rng))
        if len(layers) > 1:
            layers.append(PartwiseBatchNorm(n_out, batch_size))
        layers.append(nn.ReLU())
        if configuration.dropout:
            layers.append(nn.Dropout(DROPOUT))
    return nn.Sequential(*layers)


def _generator(
    configuration: Configuration, n_features: int, rng: torch.Generator
) -> nn.Sequential:
    """Batch normalisation and ReLU after every layer but the last."""
    widths = [LATENT_DIM] + [configuration.generator_width] * (configuration.generator_layers - 1)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [_linear(n_in, n_out, GENERATOR_STD, rng), nn.BatchNorm1d(n_out), nn.ReLU()]
    last = _linear(configuration.generator_width, n_features, GENERATOR_STD, rng)
    return nn.Sequential(*layers, last, nn.Sigmoid())


def _linear(n_in: int, n_out: int, std: float, rng: torch.Generator) -> nn.Module:
    """A linear layer as the paper initialises it, blind to the global random state."""
    layer: nn.Linear = skip_init(nn.Linear, n_in, n_out)
    nn.init.normal_(layer.weight, std=std, generator=rng)
    nn.init.zeros_(layer.bias)
    return layer

"""Fully connected networks for rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ebgan_detect.networks.architecture import Adversaries, AutoEncoder, Networks

__all__ = ["mlp_adversaries", "mlp_autoencoder", "mlp_networks"]

NEGATIVE_SLOPE = 0.2


def mlp_networks(
    input_shape: tuple[int, ...],
    *,
    hidden_sizes: Sequence[int],
    code_dim: int,
    latent_dim: int,
    bounded: bool,
) -> Networks:
    """Build a fully connected autoencoder and generator.

    The encoder has one layer of each hidden size, then the code; decoder and generator
    mirror it. No layer of the autoencoder mixes rows.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row, ``(d,)``; longer shapes are flattened and restored.
    hidden_sizes : sequence of int
        Widths of the encoder's hidden layers, from the input inwards.
    code_dim : int
        Number of features in the encoder's code.
    latent_dim : int
        Number of features in the generator's input.
    bounded : bool
        Whether scaled input lies in [0, 1], so that outputs end in a sigmoid.

    Returns
    -------
    Networks
        Encoder ``(n, *input_shape) -> (n, code_dim)``, decoder
        ``(n, code_dim) -> (n, *input_shape)``, generator
        ``(n, latent_dim) -> (n, *input_shape)``.

    Examples
    --------
    >>> networks = mlp_networks((5,), hidden_sizes=(8,), code_dim=2, latent_dim=3, bounded=False)
    >>> networks.decoder(networks.encoder(torch.zeros(4, 5))).shape
    torch.Size([4, 5])
    """
    autoencoder = mlp_autoencoder(
        input_shape, hidden_sizes=hidden_sizes, code_dim=code_dim, bounded=bounded
    )
    generator = _outwards(input_shape, hidden_sizes, latent_dim, bounded)
    return Networks(autoencoder.encoder, autoencoder.decoder, generator)


def mlp_autoencoder(
    input_shape: tuple[int, ...],
    *,
    hidden_sizes: Sequence[int],
    code_dim: int,
    bounded: bool,
    n_statistics: int = 1,
) -> AutoEncoder:
    """Build the autoencoder of `mlp_networks` alone.

    Parameters
    ----------
    input_shape, hidden_sizes, code_dim, bounded : tuple, sequence, int, bool
        As there.
    n_statistics : int
        Numbers that the encoder gives for each feature of the code: 2 for a mean and a
        log-variance.

    Returns
    -------
    AutoEncoder
        Encoder ``(n, *input_shape) -> (n, n_statistics * code_dim)``, decoder
        ``(n, code_dim) -> (n, *input_shape)``.
    """
    encoder = _inwards(input_shape, hidden_sizes, n_statistics * code_dim)
    return AutoEncoder(encoder, _outwards(input_shape, hidden_sizes, code_dim, bounded))


def mlp_adversaries(
    input_shape: tuple[int, ...],
    *,
    hidden_sizes: Sequence[int],
    latent_dim: int,
    bounded: bool,
) -> Adversaries:
    """Build a fully connected discriminator and generator.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row, ``(d,)``; longer shapes are flattened and restored.
    hidden_sizes : sequence of int
        Widths of the discriminator's hidden layers; the generator mirrors them.
    latent_dim : int
        Number of features in the generator's input.
    bounded : bool
        Whether scaled input lies in [0, 1], so that the generator ends in a sigmoid.

    Returns
    -------
    Adversaries
        Discriminator ``(n, *input_shape) -> (n, 1)``, generator
        ``(n, latent_dim) -> (n, *input_shape)``. Neither mixes rows.

    Examples
    --------
    >>> players = mlp_adversaries((5,), hidden_sizes=(8,), latent_dim=3, bounded=False)
    >>> players.discriminator(players.generator(torch.zeros(4, 3))).shape
    torch.Size([4, 1])
    """
    discriminator = _inwards(input_shape, hidden_sizes, 1)
    return Adversaries(discriminator, _outwards(input_shape, hidden_sizes, latent_dim, bounded))


def _inwards(
    input_shape: tuple[int, ...], hidden_sizes: Sequence[int], n_outputs: int
) -> nn.Sequential:
    """From a row to a vector."""
    flatten = [] if len(input_shape) == 1 else [nn.Flatten()]
    return nn.Sequential(*flatten, *_layers([math.prod(input_shape), *hidden_sizes, n_outputs]))


def _outwards(
    input_shape: tuple[int, ...], hidden_sizes: Sequence[int], n_inputs: int, bounded: bool
) -> nn.Sequential:
    """From a vector to a row."""
    return nn.Sequential(
        *_layers([n_inputs, *reversed(hidden_sizes), math.prod(input_shape)]),
        *([nn.Sigmoid()] if bounded else []),
        *([] if len(input_shape) == 1 else [nn.Unflatten(1, input_shape)]),
    )


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers between consecutive widths, with an activation between any two."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(NEGATIVE_SLOPE)]
    return layers[:-1]

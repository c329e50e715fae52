"""Fully connected networks for rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ebgan_detect.networks.architecture import Networks

__all__ = ["mlp_networks"]

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
    n_features = math.prod(input_shape)
    flat = len(input_shape) == 1
    encoder = nn.Sequential(
        *([] if flat else [nn.Flatten()]), *_layers([n_features, *hidden_sizes, code_dim])
    )
    decoder, generator = (
        nn.Sequential(
            *_layers([width, *reversed(hidden_sizes), n_features]),
            *([nn.Sigmoid()] if bounded else []),
            *([] if flat else [nn.Unflatten(1, input_shape)]),
        )
        for width in (code_dim, latent_dim)
    )
    return Networks(encoder, decoder, generator)


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers between consecutive widths, with an activation between any two."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(NEGATIVE_SLOPE)]
    return layers[:-1]

"""The networks of DCGAN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.networks.architecture import Adversaries
from ebgan_detect.networks.conv import NEGATIVE_SLOPE, check_sides

__all__ = ["dcgan_adversaries"]

WEIGHT_SPREAD = 0.02
KERNEL, PADDING = 5, 2


def dcgan_adversaries(
    input_shape: tuple[int, int, int],
    *,
    hidden_sizes: Sequence[int],
    latent_dim: int,
    bounded: bool,
) -> Adversaries:
    """Build the discriminator and the generator of DCGAN, with the layers of the paper.

    Strided convolutions in place of pooling, 5x5 as in its figure 1; batch normalisation
    everywhere but at the generator's output and the discriminator's input; ReLU and a final
    tanh in the generator, LeakyReLU of slope 0.2 in the discriminator; no hidden layer is
    fully connected; weights from N(0, 0.02).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one image ``(c, h, w)``, any c >= 1, 8 <= h, w <= 256, odd sizes included.
    hidden_sizes : sequence of int
        Channels of each of the discriminator's levels, from the image inwards; the generator
        has the same in reverse. ``(128, 256, 512, 1024)`` for 64 pixels in the paper.
    latent_dim : int
        Number of features in the generator's input; 100 in the paper.
    bounded : bool
        Whether scaled input lies in [0, 1]: the generator then ends in tanh, and both
        networks play on [-1, 1].

    Returns
    -------
    Adversaries
        Discriminator ``(n, c, h, w) -> (n, 1)``, generator ``(n, latent_dim) -> (n, c, h, w)``.

    Raises
    ------
    InvalidParameterError
        If a side is outside 8...256 pixels, or there is no level, or so many that less than
        2 pixels a side are left.

    Notes
    -----
    Differs from the paper: latents are standard normal as everywhere in this library, not
    uniform; images of any size are halved, rounding up, until `hidden_sizes` ends; images
    that are not scaled to a bounded range get no tanh, which could not reach them.

    References
    ----------
    .. [1] Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep
       Convolutional Generative Adversarial Networks", ICLR 2016, sections 3 and 4.

    Examples
    --------
    >>> players = dcgan_adversaries((3, 17, 30), hidden_sizes=(4, 8), latent_dim=5, bounded=True)
    >>> players.discriminator(players.generator(torch.zeros(2, 5))).shape
    torch.Size([2, 1])
    """
    check_sides(input_shape)
    channels, height, width = input_shape
    sizes = [(-(-height >> level), -(-width >> level)) for level in range(len(hidden_sizes) + 1)]
    if not hidden_sizes or min(sizes[-1]) < 2:
        raise InvalidParameterError(
            "hidden_sizes must have at least one level and leave 2 pixels a side or more of "
            f"images of {height}x{width}, got {tuple(hidden_sizes)}"
        )
    widths = [channels, *hidden_sizes]
    innermost = (widths[-1], *sizes[-1])
    discriminator: list[nn.Module] = []
    for level, (n_in, n_out) in enumerate(pairwise(widths)):
        first = level == 0
        discriminator += [
            nn.Conv2d(n_in, n_out, KERNEL, 2, PADDING, bias=first),
            *([] if first else [nn.BatchNorm2d(n_out)]),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        ]
    discriminator += [nn.Flatten(), nn.Linear(math.prod(innermost), 1)]
    generator: list[nn.Module] = [
        nn.Linear(latent_dim, math.prod(innermost), bias=False),
        nn.Unflatten(1, innermost),
    ]
    for level in range(len(hidden_sizes), 0, -1):
        # A side of 2 n - 1 pixels was halved to n, and so was one of 2 n.
        rows, columns = sizes[level - 1]
        even = (1 - rows % 2, 1 - columns % 2)
        generator += [
            nn.BatchNorm2d(widths[level]),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(
                widths[level], widths[level - 1], KERNEL, 2, PADDING, even, bias=level == 1
            ),
        ]
    players = Adversaries(
        nn.Sequential(*discriminator), nn.Sequential(*generator, *([nn.Tanh()] if bounded else []))
    )
    for network in (players.discriminator, players.generator):
        network.apply(_initialise)
    return players


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), gains from N(1, 0.02) as in the authors' code, no biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
        nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), WEIGHT_SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

"""DCGAN-style convolutional networks for images from 8 to 256 pixels a side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.networks.architecture import AutoEncoder, Networks

__all__ = ["conv_autoencoder", "conv_networks", "default_channels"]

NEGATIVE_SLOPE = 0.2
SMALLEST_SIDE, LARGEST_SIDE = 8, 256


def default_channels(input_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Channels of each encoder level: 32, doubled at each halving of the image, at most 256.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one image ``(c, h, w)``, pixels.

    Returns
    -------
    tuple of int
        One entry for each level; levels are added until the shorter side is below 8 pixels.

    Examples
    --------
    >>> default_channels((1, 28, 28)), default_channels((3, 64, 64))
    ((32, 64), (32, 64, 128, 256))
    """
    levels = (min(input_shape[1:]) // 4).bit_length() - 1
    return tuple(min(32 << level, 256) for level in range(max(levels, 1)))


def conv_networks(
    input_shape: tuple[int, int, int],
    *,
    hidden_sizes: Sequence[int],
    code_dim: int,
    latent_dim: int,
    bounded: bool,
    generator_width: int = 2,
) -> Networks:
    """Build a strided convolutional autoencoder and a DCGAN-style generator.

    Each encoder level is a 4x4 convolution of stride 2 that halves the image, rounding
    down; the decoder undoes it level by level to exactly the input's shape. The generator is
    `generator_width` times as wide. Only it has batch normalisation: the autoencoder's output
    for a row must not depend on its batch, nor real rows on generated ones.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one image ``(c, h, w)``, any c >= 1, 8 <= h, w <= 256, odd sizes included.
    hidden_sizes : sequence of int
        Channels of each encoder level, from the image inwards; none makes dense layers alone.
    code_dim : int
        Number of features in the encoder's code.
    latent_dim : int
        Number of features in the generator's input.
    bounded : bool
        Whether scaled input lies in [0, 1], so that outputs end in a sigmoid.
    generator_width : int
        Channels of the generator, as a multiple of the decoder's, >= 1.

    Returns
    -------
    Networks
        Encoder ``(n, c, h, w) -> (n, code_dim)``, decoder ``(n, code_dim) -> (n, c, h, w)``,
        generator ``(n, latent_dim) -> (n, c, h, w)``.

    Raises
    ------
    InvalidParameterError
        If a side is outside 8...256 pixels, or there are more levels than the image can be
        halved.

    Notes
    -----
    The discriminators of [2]_ are ``hidden_sizes=(64, 128, 256)`` for 64 pixels, in its
    notation 64c4s2-128c4s2-256c4s2, and ``hidden_sizes=(64, 128, 256, 512)`` for 128 and 256
    pixels, each with a mirrored decoder.

    Differs from the paper: its code is the innermost feature map, which holds more values than
    a 64-pixel image; here a dense layer narrows it to `code_dim`. Its autoencoder normalises
    batches too. Its generators start from 4x4 pixels whatever the discriminator's depth.

    References
    ----------
    .. [1] Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep
       Convolutional Generative Adversarial Networks", ICLR 2016.
    .. [2] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network", ICLR 2017,
       section 4.3 and appendix D.

    Examples
    --------
    >>> networks = conv_networks(
    ...     (3, 17, 30), hidden_sizes=(4, 8), code_dim=6, latent_dim=5, bounded=True
    ... )
    >>> networks.generator(torch.zeros(2, 5)).shape
    torch.Size([2, 3, 17, 30])
    """
    autoencoder = conv_autoencoder(
        input_shape, hidden_sizes=hidden_sizes, code_dim=code_dim, bounded=bounded
    )
    # A generator as narrow as the decoder falls behind it, and teaches little;
    # `python -m benchmarks.images heldout-digit --development --methods narrow-generator` tries.
    wider = [input_shape[0], *(generator_width * width for width in hidden_sizes)]
    shapes = _halved(input_shape, len(hidden_sizes))
    generator = _upsampling(latent_dim, wider, shapes, bounded, normalise=True)
    return Networks(autoencoder.encoder, autoencoder.decoder, generator)


def conv_autoencoder(
    input_shape: tuple[int, int, int],
    *,
    hidden_sizes: Sequence[int],
    code_dim: int,
    bounded: bool,
    n_statistics: int = 1,
) -> AutoEncoder:
    """Build the autoencoder of `conv_networks` alone.

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
        Encoder ``(n, c, h, w) -> (n, n_statistics * code_dim)``, decoder
        ``(n, code_dim) -> (n, c, h, w)``.

    Raises
    ------
    InvalidParameterError
        As there.
    """
    check_sides(input_shape)
    sides = input_shape[1:]
    if min(sides) >> len(hidden_sizes) < 1:
        raise InvalidParameterError(
            f"hidden_sizes must have at most {min(sides).bit_length() - 1} levels for images of "
            f"{sides[0]}x{sides[1]} pixels, got {tuple(hidden_sizes)}"
        )
    widths = [input_shape[0], *hidden_sizes]
    shapes = _halved(input_shape, len(hidden_sizes))
    encoder = nn.Sequential(
        *(
            layer
            for n_in, n_out in pairwise(widths)
            for layer in (
                nn.Conv2d(n_in, n_out, 4, 2, 1),
                nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
            )
        ),
        _ImageToVector((widths[-1], *shapes[-1]), n_statistics * code_dim),
    )
    return AutoEncoder(encoder, _upsampling(code_dim, widths, shapes, bounded, normalise=False))


def check_sides(input_shape: tuple[int, ...]) -> None:
    """Refuse images that are too small or too large to halve and double.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one image ``(c, h, w)``.

    Raises
    ------
    InvalidParameterError
        If a side is outside 8...256 pixels.
    """
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in input_shape[1:]):
        raise InvalidParameterError(
            f"architecture 'conv' needs images of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels a side, "
            f"got (c, h, w) = {input_shape}; resize them, use architecture='mlp' or a factory, "
            "and put channels first"
        )


class _ImageToVector(nn.Module):
    """A dense layer over an image, read pixel by pixel.

    Convolutions train fastest on images with channels last; read in that order, an image
    is a vector already, and its gradient an image in the same layout.
    """

    def __init__(self, image_shape: tuple[int, int, int], n_outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(math.prod(image_shape), n_outputs)

    @override
    def forward(self, image: Tensor) -> Tensor:
        vector: Tensor = self.dense(image.permute(0, 2, 3, 1).flatten(1))
        return vector


class _VectorToImage(nn.Module):
    """A dense layer that writes an image pixel by pixel, the mirror of `_ImageToVector`."""

    def __init__(self, n_inputs: int, image_shape: tuple[int, int, int], *, bias: bool) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.dense = nn.Linear(n_inputs, math.prod(image_shape), bias=bias)
        self.channels_last = (height, width, channels)

    @override
    def forward(self, vector: Tensor) -> Tensor:
        image: Tensor = self.dense(vector).unflatten(1, self.channels_last)
        return image.permute(0, 3, 1, 2)


class _ToGrey(nn.ConvTranspose2d):
    """The transposed convolution to one channel, while scoring on a CPU a matrix product.

    Every pixel times the kernel is a patch; patches are summed where they overlap. PyTorch's own
    kernel takes several times as long for one channel.
    """

    @override
    def forward(self, image: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or image.device.type != "cpu":
            return super().forward(image, output_size)
        patches = self.weight.flatten(1).t() @ image.flatten(2)
        sides = tuple(
            2 * n + odd for n, odd in zip(image.shape[2:], self.output_padding, strict=True)
        )
        grey = nn.functional.fold(patches, sides, self.kernel_size, padding=1, stride=2)
        return grey if self.bias is None else grey + self.bias


def _halved(input_shape: tuple[int, int, int], levels: int) -> list[tuple[int, int]]:
    """Height and width of an image, and after each halving."""
    _, height, width = input_shape
    return [(height >> level, width >> level) for level in range(levels + 1)]


def _upsampling(
    n_inputs: int,
    widths: list[int],
    shapes: list[tuple[int, int]],
    bounded: bool,
    *,
    normalise: bool,
) -> nn.Sequential:
    """A vector, spread over the smallest image, doubled level by level to the input's shape."""
    innermost = (widths[-1], *shapes[-1])

    def between(width: int, *, of_view: bool = False) -> list[nn.Module]:
        if normalise:
            return [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        # In place on a view, a gradient is copied, and into the slower layout.
        return [nn.LeakyReLU(NEGATIVE_SLOPE, inplace=not of_view)]

    is_last = len(widths) == 1  # no level: one dense layer makes the image
    layers: list[nn.Module] = [
        _VectorToImage(n_inputs, innermost, bias=is_last or not normalise),
        *([] if is_last else between(widths[-1], of_view=True)),
    ]
    for level in range(len(widths) - 1, 0, -1):
        odd = (shapes[level - 1][0] % 2, shapes[level - 1][1] % 2)
        last = level == 1
        layer = _ToGrey if widths[level - 1] == 1 else nn.ConvTranspose2d
        layers.append(
            layer(widths[level], widths[level - 1], 4, 2, 1, odd, bias=last or not normalise)
        )
        layers += [] if last else between(widths[level - 1])
    return nn.Sequential(*layers, *([nn.Sigmoid()] if bounded else []))

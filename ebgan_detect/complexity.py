"""How much detail an image has, and what that does to its energy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Complexity", "fit_complexity", "total_variation"]

FLOOR = 1e-3
"""Share of the usual complexity that even an image without any detail is credited with."""
PLAIN = 0.05
"""Share of training images with less than the usual complexity."""


def total_variation(images: Tensor) -> Tensor:
    """Sum of the absolute differences of neighbouring pixels, for each value of an image.

    ``TV(x) = 1/(c h w) * (sum |x[k, i+1, j] - x[k, i, j]| + sum |x[k, i, j+1] - x[k, i, j]|)``,
    the anisotropic form of [1]_.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
        Scaled images.

    Returns
    -------
    Tensor of shape (n,), the images' dtype
        Total variations [scaled input unit], >= 0; 0 for an image of one level.

    References
    ----------
    .. [1] Rudin, Osher, Fatemi, "Nonlinear Total Variation Based Noise Removal Algorithms",
       Physica D 60, 1992.

    Examples
    --------
    >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]]))
    tensor([1.5000])
    """
    sums = [
        images.diff(dim=dim).abs().flatten(1).sum(dim=1)
        for dim in (-2, -1)
        if images.shape[dim] > 1  # an exporter cannot sum nothing
    ]
    if not sums:
        return images.new_zeros(len(images))
    return sum(sums[1:], sums[0]) / images[0].numel()


class Complexity(nn.Module):
    """Divides the energies of unusually plain images by a power of their complexity.

    An autoencoder fails on an image that it does not know in proportion to the detail there is
    to fail on, so that plain and smooth images hide among detailed ones whose errors are no
    cause for alarm; [1]_ find the same of likelihoods. Relative to its complexity, the energy of
    a plain image says what share of it is not understood. Images with as much detail as nearly
    all training images keep their energies.

    Parameters
    ----------
    exponent : float
        Power of the complexity, > 0.
    usual : float
        Total variation from which on an image is not plain [scaled input unit], > 0.

    References
    ----------
    .. [1] Serrà et al., "Input Complexity and Out-of-distribution Detection with
       Likelihood-based Generative Models", ICLR 2020.

    Examples
    --------
    >>> plain, busy = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 4.0], [4.0, 0.0]]]])
    >>> images = torch.cat([plain, busy, busy / 8])
    >>> Complexity(exponent=1.0, usual=1.0)(images)
    tensor([1000.,    1.,    2.], dtype=torch.float64)
    """

    exponent: Tensor
    usual: Tensor

    def __init__(self, exponent: float, usual: float) -> None:
        super().__init__()
        self.register_buffer("exponent", torch.tensor(exponent, dtype=torch.float64))
        self.register_buffer("usual", torch.tensor(usual, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        """What to multiply the energies of images by.

        Parameters
        ----------
        images : Tensor of shape (n, c, h, w), float32
            Scaled images.

        Returns
        -------
        Tensor of shape (n,), float64
            ``min(max(TV(x) / usual, FLOOR), 1) ** -exponent``: 1 for an image with the usual
            detail, more for a plainer one.
        """
        relative = total_variation(images).double() / self.usual
        return relative.clamp(FLOOR, 1.0).pow(-self.exponent)


def fit_complexity(chunks: Iterable[Tensor], exponent: float) -> Complexity | None:
    """Learn what complexity is usual.

    Parameters
    ----------
    chunks : iterable of Tensor of shape (n_chunk, c, h, w)
        Scaled training images; read once.
    exponent : float
        Power of the complexity, > 0.

    Returns
    -------
    Complexity or None
        Usual is what all but a twentieth of the images have; None where it is no detail at all.
    """
    found = np.concatenate([total_variation(chunk).double().cpu() for chunk in chunks])
    usual = float(np.quantile(found, PLAIN))
    return Complexity(exponent, usual) if usual else None

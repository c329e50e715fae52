"""How much detail an image has, and what that does to its energy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Complexity", "fit_complexity", "total_variation"]

FLOOR = 1e-3
"""Complexity that even an image without any detail is credited with."""
BUSY = 0.95
"""Share of training images that no image is credited with more complexity than."""


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
    down = images.diff(dim=-2).abs().flatten(1).sum(dim=1)
    across = images.diff(dim=-1).abs().flatten(1).sum(dim=1)
    return (down + across) / images[0].numel()


class Complexity(nn.Module):
    """Divides energies by a power of the image's complexity.

    An autoencoder fails on an image that it does not know in proportion to the detail there is
    to fail on, so that plain and smooth images hide among detailed ones whose errors are no
    cause for alarm; [1]_ find the same of likelihoods. Relative to its complexity, an image's
    energy says what share of it is not understood. Detail beyond that of training images excuses
    nothing: noise has more of it than anything else.

    Parameters
    ----------
    exponent : float
        Power of the complexity, > 0.
    typical : float
        Mean total variation of training images [scaled input unit], > 0.
    greatest : float
        Total variation that more does not count beyond [scaled input unit], > 0.

    References
    ----------
    .. [1] Serrà et al., "Input Complexity and Out-of-distribution Detection with
       Likelihood-based Generative Models", ICLR 2020.

    Examples
    --------
    >>> plain, busy = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 4.0], [4.0, 0.0]]]])
    >>> Complexity(exponent=0.5, typical=1.0, greatest=2.0)(torch.cat([plain, busy]))
    tensor([31.6228,  0.7069], dtype=torch.float64)
    """

    exponent: Tensor
    typical: Tensor
    greatest: Tensor

    def __init__(self, exponent: float, typical: float, greatest: float) -> None:
        super().__init__()
        self.register_buffer("exponent", torch.tensor(exponent, dtype=torch.float64))
        self.register_buffer("typical", torch.tensor(typical, dtype=torch.float64))
        self.register_buffer("greatest", torch.tensor(greatest, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        """What to multiply the energies of images by.

        Parameters
        ----------
        images : Tensor of shape (n, c, h, w), float32
            Scaled images.

        Returns
        -------
        Tensor of shape (n,), float64
            ``(min(TV(x), greatest) / typical + FLOOR) ** -exponent``: about 1 for a typical
            training image, more for a plainer one.
        """
        counted = torch.minimum(total_variation(images).double(), self.greatest)
        relative = counted / self.typical
        return (relative + FLOOR).pow(-self.exponent)


def fit_complexity(chunks: Iterable[Tensor], exponent: float) -> Complexity:
    """Learn what complexity is typical.

    Parameters
    ----------
    chunks : iterable of Tensor of shape (n_chunk, c, h, w)
        Scaled training images; read once.
    exponent : float
        Power of the complexity, > 0.

    Returns
    -------
    Complexity
        With the mean total variation of the images, and the one that a twentieth of them exceed;
        with 1 where they have no detail at all.
    """
    found = np.concatenate([total_variation(chunk).double().cpu() for chunk in chunks])
    typical = float(found.mean()) or 1.0
    return Complexity(exponent, typical, float(np.quantile(found, BUSY)) or typical)

"""The formulas of the energy-based GAN.

Energies are mean squared reconstruction errors over scaled features, so a margin keeps its
meaning whatever the size of the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, mse_loss, pad

from ebgan_detect.errors import InvalidInputError
from ebgan_detect.losses._checks import check_same_shape, check_vector

__all__ = [
    "discriminator_loss",
    "energy_map",
    "generator_loss",
    "hinge",
    "pulling_away",
    "reconstruction_energy",
]

SIDES = (1, 2, 4)
"""Sides of the blocks [pixels] of an energy that counts coarse errors, each twice the last."""


def energy_map(x: Tensor, reconstruction: Tensor, *, coarse_weight: float = 0.0) -> Tensor:
    """Split the energy of each row over its features.

    With ``r = x - reconstruction`` and its mean ``r_k`` over each block of k x k pixels,

    ``E = (1 - w) mean r^2 + w (mean r^2 + 4 mean r_2^2 + 16 mean r_4^2) / 3``

    where `w` is the coarse weight. Errors that are independent from pixel to pixel count alike
    at every scale; those that agree over a block count more, up to k^2 times as much.

    Parameters
    ----------
    x : Tensor of shape (n, ...)
        Scaled input.
    reconstruction : Tensor of shape (n, ...)
        What the autoencoder makes of `x`.
    coarse_weight : float, default=0.0
        Weight of the mean over three scales, in [0, 1]; 0 for the mean squared error. Above 0
        rows must be images, of shape (n, c, h, w); where a block reaches over the edge, there
        is no error beyond.

    Returns
    -------
    Tensor of shape (n, ...)
        Share of every feature [scaled input unit ** 2], >= 0: its squared error, and the squared
        means of its blocks. The mean over the features of a row is that row's energy.

    Raises
    ------
    InvalidInputError
        If the shapes differ: a silent broadcast would give a wrong energy.

    Examples
    --------
    >>> energy_map(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([[0., 4.]])
    >>> even, odd = torch.ones(1, 1, 4, 4), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).tile(2, 2)
    >>> images = torch.cat([even, odd.reshape(even.shape)])
    >>> energy_map(images, torch.zeros_like(images), coarse_weight=1.0).mean(dim=(1, 2, 3))
    tensor([7.0000, 0.3333])
    """
    check_same_shape(x, reconstruction)
    if not coarse_weight:
        return mse_loss(reconstruction, x, reduction="none")
    residual = reconstruction - x
    return torch.lerp(residual.square(), _mean_over_scales(residual), coarse_weight)


def _mean_over_scales(residual: Tensor) -> Tensor:
    """Squared means over blocks of all sides, each times its pixels, spread over these."""
    height, width = residual.shape[-2:]
    means = [pad(residual, (0, -width % SIDES[-1], 0, -height % SIDES[-1]))]
    while len(means) < len(SIDES):
        means.append(avg_pool2d(means[-1], 2))
    total = torch.zeros_like(means[-1])
    for side, mean in zip(reversed(SIDES), reversed(means), strict=True):
        total = (total if side == SIDES[-1] else _doubled(total)) + side**2 * mean.square()
    return total[..., :height, :width] / len(SIDES)


def _doubled(images: Tensor) -> Tensor:
    """Images of twice the height and width: every pixel becomes a block."""
    n, channels, height, width = images.shape
    blocks = images[..., :, None, :, None].expand(n, channels, height, 2, width, 2)
    return blocks.reshape(n, channels, 2 * height, 2 * width)


def reconstruction_energy(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Energy of each row: the mean squared reconstruction error over its features.

    Parameters
    ----------
    x : Tensor of shape (n, ...)
        Scaled input.
    reconstruction : Tensor of shape (n, ...)
        What the autoencoder makes of `x`.

    Returns
    -------
    Tensor of shape (n,)
        Energies [scaled input unit ** 2], >= 0; low on the data manifold.

    Raises
    ------
    InvalidInputError
        If the shapes differ.

    Notes
    -----
    Differs from the paper: the paper sums the squared errors. The mean makes a margin
    independent of the input's size; with a margin divided by the number of features and
    the same step sizes under Adam the two games are the same.

    References
    ----------
    .. [1] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network",
       ICLR 2017, section 2.3, equation 4.

    Examples
    --------
    >>> reconstruction_energy(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([2.])
    """
    return energy_map(x, reconstruction).flatten(1).mean(dim=1)


def hinge(energy: Tensor, *, margin: float | Tensor) -> Tensor:
    """How far each energy still lies below the margin, ``[margin - energy]^+``.

    Parameters
    ----------
    energy : Tensor of shape (n,)
        Energies [scaled input unit ** 2], >= 0.
    margin : float or Tensor of shape ()
        Energy from which on a sample is left alone, same unit, > 0.

    Returns
    -------
    Tensor of shape (n,)
        Values in [0, margin], same unit.

    Examples
    --------
    >>> hinge(torch.tensor([0.2, 3.0]), margin=1.0)
    tensor([0.8000, 0.0000])
    """
    return (margin - energy).clamp_min(0)


def discriminator_loss(
    energy_real: Tensor,
    energy_generated: Tensor,
    *,
    margin: float | Tensor,
    hinge_weight: float | Tensor = 1.0,
) -> Tensor:
    """Lower real energies and lift generated ones up to the margin.

    ``L_D = mean_i D(x_i) + hinge_weight * mean_j [margin - D(G(z_j))]^+``. Each generated
    sample meets the hinge before the mean is taken, so that one far sample cannot hide
    another that still lies inside the margin.

    Parameters
    ----------
    energy_real : Tensor of shape (n_real,)
        Energies of real samples [scaled input unit ** 2], >= 0.
    energy_generated : Tensor of shape (n_generated,)
        Energies of generated samples, same unit.
    margin : float or Tensor of shape ()
        Energy from which on a generated sample is left alone, same unit, > 0.
        Not checked here: a tensor would have to leave the device.
    hinge_weight : float or Tensor of shape ()
        Share of real to generated rows in the mixture that the energy tells apart, > 0.
        Differs from the paper, whose weight is 1: in few dimensions the generator covers
        the data, and a full hinge lifts real energies too.

    Returns
    -------
    Tensor of shape ()
        Differentiable loss, same unit.

    Raises
    ------
    InvalidInputError
        If an input is empty or not 1-d.

    References
    ----------
    .. [1] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network",
       ICLR 2017, section 2.1, equation 1.

    Examples
    --------
    >>> discriminator_loss(torch.tensor([0.5]), torch.tensor([0.2, 3.0]), margin=1.0)
    tensor(0.9000)
    """
    check_vector("energy_real", energy_real)
    check_vector("energy_generated", energy_generated)
    return energy_real.mean() + hinge_weight * hinge(energy_generated, margin=margin).mean()


def pulling_away(code: Tensor) -> Tensor:
    """Mean squared cosine between the codes of different samples in a batch.

    ``PT(S) = 1 / (N (N - 1)) * sum_{i != j} (s_i . s_j / (|s_i| |s_j|))^2``

    Parameters
    ----------
    code : Tensor of shape (n, ...)
        Encoder codes of generated samples; trailing axes are flattened. A zero code has
        no direction: its cosines, and their gradient, count as 0.

    Returns
    -------
    Tensor of shape ()
        Value in [0, 1], no unit: 1 when all codes are parallel, 0 when all are orthogonal,
        and 0 for fewer than two rows.

    Raises
    ------
    InvalidInputError
        If `code` is empty or has no feature axis.

    References
    ----------
    .. [1] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network",
       ICLR 2017, section 2.4, equation 5.

    Examples
    --------
    >>> pulling_away(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))
    tensor(0.3333)
    """
    if code.ndim < 2 or code.numel() == 0:
        raise InvalidInputError(
            f"code must have shape (n, ...) with n >= 1, got {tuple(code.shape)}"
        )
    if len(code) == 1:
        return code.sum() * 0
    pull_away: Tensor = _PullingAway.apply(code.flatten(1))  # type: ignore[no-untyped-call]
    return pull_away


class _PullingAway(torch.autograd.Function):
    """The term for codes of shape (n, k), and its gradient in closed form.

    With ``u_i = s_i / |s_i|``: ``d PT / d s_i = 4 / (N (N - 1)) * (v_i - (u_i . v_i) u_i) / |s_i|``
    where ``v_i = sum_j (u_i . u_j) u_j``. Left to autograd, this small term took a sixth of the
    time of a fully connected game's update.
    """

    @staticmethod
    def forward(ctx: Any, code: Tensor) -> Tensor:
        n, k = code.shape
        # Scaling by the largest entry first keeps the squares of tiny or huge codes in range.
        peak = code.abs().amax(dim=1, keepdim=True)
        with_itself = peak.count_nonzero()
        unit = code / peak.clamp_min_(torch.finfo(code.dtype).tiny)
        norm = torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_min_(1)
        unit = unit / norm
        # Products of rows and products of features have the same sum of squares; take the fewer.
        products = unit.T @ unit if k < n else unit @ unit.T
        ctx.save_for_backward(unit, products, norm.mul_(peak))
        off_diagonal: Tensor = (products * products).sum() - with_itself
        return off_diagonal.clamp_min_(0).div_(n * (n - 1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        unit, products, length = ctx.saved_tensors
        n, k = unit.shape
        towards: Tensor = unit @ products if k < n else products @ unit
        across = towards.sub_(unit * (unit * towards).sum(dim=1, keepdim=True))
        return across.mul_(gradients[0] * (4 / (n * (n - 1)))).div_(length)


def generator_loss(
    energy_generated: Tensor, pull_away: Tensor, *, pull_away_weight: float
) -> Tensor:
    """Draw generated samples to low energy, and their codes apart.

    ``L_G = mean_j D(G(z_j)) + pull_away_weight * PT(Enc(G(z)))``

    Parameters
    ----------
    energy_generated : Tensor of shape (n,)
        Energies of generated samples [scaled input unit ** 2], >= 0, with gradient through
        both uses of the sample in the discriminator: as its input and as its target.
    pull_away : Tensor of shape ()
        `pulling_away` of the codes of the same samples, in [0, 1].
    pull_away_weight : float
        Weight of the pulling-away term [scaled input unit ** 2], >= 0; 0 leaves it out.

    Returns
    -------
    Tensor of shape ()
        Differentiable loss, same unit as the energies.

    Raises
    ------
    InvalidInputError
        If the energies are empty or not 1-d.

    References
    ----------
    .. [1] Zhao, Mathieu, LeCun, "Energy-based Generative Adversarial Network",
       ICLR 2017, equation 2 and section 2.4.

    Examples
    --------
    >>> term = pulling_away(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    >>> generator_loss(torch.tensor([0.5, 1.5]), term, pull_away_weight=0.1)
    tensor(1.1000)
    """
    check_vector("energy_generated", energy_generated)
    loss = energy_generated.mean()
    return loss + pull_away_weight * pull_away if pull_away_weight else loss

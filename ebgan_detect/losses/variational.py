"""The formulas of the variational autoencoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ebgan_detect.losses._checks import check_same_shape
from ebgan_detect.losses.energy import energy_map

__all__ = [
    "bernoulli_map",
    "gaussian_divergence",
    "gaussian_map",
    "importance_weighted_bound",
]


def bernoulli_map(x: Tensor, logits: Tensor) -> Tensor:
    """Negative log-likelihood of every feature under a Bernoulli distribution.

    ``-x log s - (1 - x) log(1 - s)`` with ``s = sigmoid(logits)``.

    Parameters
    ----------
    x : Tensor of shape (n, ...)
        Values in [0, 1].
    logits : Tensor of shape (n, ...)
        Log-odds from the decoder.

    Returns
    -------
    Tensor of shape (n, ...)
        Values >= 0 [nats].

    Raises
    ------
    InvalidInputError
        If the shapes differ.

    Notes
    -----
    Differs from the paper: values beyond [0, 1] have no such likelihood, and the formula
    would fall without bound there. They count as the nearest end, plus their squared
    distance from it.

    References
    ----------
    .. [1] Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.1.

    Examples
    --------
    >>> bernoulli_map(torch.tensor([[0.0, 1.0, 3.0]]), torch.zeros(1, 3))
    tensor([[0.6931, 0.6931, 4.6931]])
    """
    check_same_shape(x, logits)
    # Not x.clamp(0, 1), since ONNX export loses the ends of the second one in a graph.
    inside = torch.where(x < 0, 0.0, torch.where(x > 1, 1.0, x))
    likelihood = inside * softplus(-logits) + (1 - inside) * softplus(logits)
    return likelihood + energy_map(x, inside)


def gaussian_map(x: Tensor, mean: Tensor, *, variance: float | Tensor) -> Tensor:
    """Negative log-likelihood of every feature under a Gaussian distribution.

    ``((x - mean)^2 / variance + log(2 pi variance)) / 2``

    Parameters
    ----------
    x : Tensor of shape (n, ...)
        Scaled input.
    mean : Tensor of shape (n, ...)
        What the decoder makes of it.
    variance : float or Tensor of shape ()
        Variance of every feature [scaled input unit ** 2], > 0.

    Returns
    -------
    Tensor of shape (n, ...)
        Values of any sign [nats].

    Raises
    ------
    InvalidInputError
        If the shapes differ.

    References
    ----------
    .. [1] Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.2.

    Examples
    --------
    >>> gaussian_map(torch.tensor([[3.0]]), torch.tensor([[1.0]]), variance=1.0)
    tensor([[2.9189]])
    """
    log_variance = torch.as_tensor(variance, dtype=x.dtype, device=x.device).log()
    return (energy_map(x, mean) / variance + log_variance + math.log(2 * math.pi)) / 2


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of Gaussian codes from the standard normal distribution.

    ``KL = sum_j (mean_j^2 + variance_j - log variance_j - 1) / 2``

    Parameters
    ----------
    mean, log_variance : Tensor of shape (n, code_dim)
        Means and log-variances of the codes.

    Returns
    -------
    Tensor of shape (n,)
        Divergences >= 0 [nats]; 0 for a code that says nothing of its row.

    References
    ----------
    .. [1] Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.

    Examples
    --------
    >>> gaussian_divergence(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2))
    tensor([2.])
    """
    # expm1 keeps the small divergences of almost unused codes.
    return (mean.square() + log_variance.expm1() - log_variance).sum(dim=1) / 2


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Lower bound on the log-likelihood from several draws of the code.

    ``log (1/K) sum_k w_k``, with ``w_k = p(x, z_k) / q(z_k | x)``. One draw gives the
    evidence lower bound; more draws tighten it.

    Parameters
    ----------
    log_weights : Tensor of shape (K, n)
        Logarithms of the weights, one row for each draw.

    Returns
    -------
    Tensor of shape (n,)
        Bounds [nats], at least the mean of the logarithms and at most their maximum.

    References
    ----------
    .. [1] Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016,
       equation 8.

    Examples
    --------
    >>> importance_weighted_bound(torch.tensor([[0.0], [math.log(3.0)]]))  # log 2
    tensor([0.6931])
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))

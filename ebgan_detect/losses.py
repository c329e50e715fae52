"""The formulas of the energy-based GAN, the logistic GAN and the VAE as pure functions.

Energies of the energy-based GAN are mean squared reconstruction errors over scaled features,
so a margin keeps its meaning whatever the size of the input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, softplus

from ebgan_detect.errors import InvalidInputError

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


def energy_map(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Split the energy of each row over its features.

    Parameters
    ----------
    x : Tensor of shape (n, ...)
        Scaled input.
    reconstruction : Tensor of shape (n, ...)
        What the autoencoder makes of `x`.

    Returns
    -------
    Tensor of shape (n, ...)
        Squared error of every feature [scaled input unit ** 2], >= 0. Its mean over
        the features of a row is that row's energy.

    Raises
    ------
    InvalidInputError
        If the shapes differ: a silent broadcast would give a wrong energy.

    Examples
    --------
    >>> energy_map(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([[0., 4.]])
    """
    _check_same_shape(x, reconstruction)
    return mse_loss(reconstruction, x, reduction="none")


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
    hinge_weight: float = 1.0,
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
    hinge_weight : float
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
    _check_vector("energy_real", energy_real)
    _check_vector("energy_generated", energy_generated)
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
    n = code.shape[0]
    if n == 1:
        return code.sum() * 0
    flat = code.flatten(1)
    # Scaling by the largest entry first keeps the squares of tiny or huge codes in range.
    peak = flat.detach().abs().amax(dim=1, keepdim=True)
    flat = flat / peak.clamp_min(torch.finfo(flat.dtype).tiny)
    unit = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_min(1)
    # Products of rows and products of features have the same sum of squares; take the fewer.
    products = unit.T @ unit if unit.shape[1] < n else unit @ unit.T
    with_itself = (peak > 0).sum()
    off_diagonal: Tensor = (products * products).sum() - with_itself
    return off_diagonal.clamp_min(0) / (n * (n - 1))


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
    _check_vector("energy_generated", energy_generated)
    loss = energy_generated.mean()
    return loss + pull_away_weight * pull_away if pull_away_weight else loss


def logistic_discriminator_loss(logit_real: Tensor, logit_generated: Tensor) -> Tensor:
    """Tell real rows from generated ones by the logistic loss of the original GAN.

    ``L_D = mean_i softplus(-l(x_i)) + mean_j softplus(l(G(z_j)))``, which is
    ``-mean log D(x) - mean log(1 - D(G(z)))`` with ``D = sigmoid(l)``.

    Parameters
    ----------
    logit_real : Tensor of shape (n_real,)
        Log-odds that real samples are real.
    logit_generated : Tensor of shape (n_generated,)
        The same for generated samples.

    Returns
    -------
    Tensor of shape ()
        Differentiable loss [nats], >= 0; 2 log 2 where nothing is told apart.

    Raises
    ------
    InvalidInputError
        If an input is empty or not 1-d.

    References
    ----------
    .. [1] Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, equation 1.

    Examples
    --------
    >>> logistic_discriminator_loss(torch.zeros(2), torch.zeros(3))
    tensor(1.3863)
    """
    _check_vector("logit_real", logit_real)
    _check_vector("logit_generated", logit_generated)
    return softplus(-logit_real).mean() + softplus(logit_generated).mean()


def logistic_generator_loss(logit_generated: Tensor) -> Tensor:
    """Have generated rows called real, by the non-saturating loss.

    ``L_G = mean_j softplus(-l(G(z_j))) = -mean log D(G(z))``. Unlike ``mean log(1 - D(G(z)))``
    it keeps its gradient where the discriminator is sure.

    Parameters
    ----------
    logit_generated : Tensor of shape (n,)
        Log-odds that generated samples are real.

    Returns
    -------
    Tensor of shape ()
        Differentiable loss [nats], >= 0.

    Raises
    ------
    InvalidInputError
        If the input is empty or not 1-d.

    References
    ----------
    .. [1] Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, section 3.

    Examples
    --------
    >>> logistic_generator_loss(torch.zeros(3))
    tensor(0.6931)
    """
    _check_vector("logit_generated", logit_generated)
    return softplus(-logit_generated).mean()


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
    _check_same_shape(x, logits)
    inside = x.clamp(0, 1)
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


def _check_same_shape(x: Tensor, reconstruction: Tensor) -> None:
    """Refuse what would be broadcast silently, to a wrong energy."""
    if x.shape != reconstruction.shape:
        raise InvalidInputError(
            f"reconstruction must have the input's shape {tuple(x.shape)}, "
            f"got {tuple(reconstruction.shape)}"
        )


def _check_vector(name: str, values: Tensor) -> None:
    """Refuse what is not a non-empty vector, one value for each row."""
    if values.ndim != 1 or values.numel() == 0:
        raise InvalidInputError(f"{name} must have shape (n,), n >= 1, got {tuple(values.shape)}")

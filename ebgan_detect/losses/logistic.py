"""The formulas of the GAN with a logistic discriminator."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from ebgan_detect.losses._checks import check_vector

__all__ = ["logistic_discriminator_loss", "logistic_generator_loss"]


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
    check_vector("logit_real", logit_real)
    check_vector("logit_generated", logit_generated)
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
    check_vector("logit_generated", logit_generated)
    return softplus(-logit_generated).mean()

"""The formulas of Zhao, Mathieu, LeCun (arXiv 1609.03126) as float64 loops.

Written from the paper alone; nothing of the library is imported. The energy is the mean
instead of the paper's sum over features, as the library documents.
"""

from __future__ import annotations

import math

import numpy as np


def energy(x, reconstruction):
    """Equation 4, averaged over features: one squared error per row."""
    energies = []
    for row, rebuilt in zip(np.asarray(x), np.asarray(reconstruction), strict=True):
        errors = [
            (float(a) - float(b)) ** 2 for a, b in zip(row.ravel(), rebuilt.ravel(), strict=True)
        ]
        energies.append(math.fsum(errors) / len(errors))
    return np.array(energies, dtype=np.float64)


def hinge(energies, margin):
    """``[m - D]^+`` of every energy."""
    return np.array([max(0.0, margin - float(value)) for value in energies], dtype=np.float64)


def discriminator_loss(energies_real, energies_generated, margin, hinge_weight=1.0):
    """Equation 1 over a batch: each generated sample meets the hinge before the mean."""
    real = math.fsum(float(value) for value in energies_real) / len(energies_real)
    lifted = math.fsum(hinge(energies_generated, margin)) / len(energies_generated)
    return real + hinge_weight * lifted


def pulling_away(codes):
    """Equation 5: mean squared cosine over ordered pairs of different samples."""
    rows = [np.asarray(code, dtype=np.float64).ravel() for code in codes]
    n = len(rows)
    if n < 2:
        return 0.0
    total = 0.0
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            norms = math.hypot(*rows[i]) * math.hypot(*rows[j])
            if norms > 0:
                product = math.fsum(
                    float(a) * float(b) for a, b in zip(rows[i], rows[j], strict=True)
                )
                total += (product / norms) ** 2
    return total / (n * (n - 1))


def generator_loss(energies_generated, codes, pull_away_weight):
    """Equation 2 with the repelling regulariser of section 2.4."""
    mean = math.fsum(float(value) for value in energies_generated) / len(energies_generated)
    return mean + pull_away_weight * pulling_away(codes)


# --- Goodfellow et al. 2014; Kingma, Welling 2014; Burda, Grosse, Salakhutdinov 2016 ---------


def _log_sigmoid(logit):
    """``log(1 / (1 + exp(-l)))``, without overflow."""
    return -math.log1p(math.exp(-logit)) if logit > 0 else logit - math.log1p(math.exp(logit))


def logistic_discriminator_loss(logits_real, logits_generated):
    """Equation 1, as a loss: ``-mean log D(x) - mean log(1 - D(G(z)))``."""
    real = math.fsum(-_log_sigmoid(float(v)) for v in logits_real) / len(logits_real)
    made = math.fsum(-_log_sigmoid(-float(v)) for v in logits_generated) / len(logits_generated)
    return real + made


def logistic_generator_loss(logits_generated):
    """Section 3, the non-saturating loss: ``-mean log D(G(z))``."""
    return math.fsum(-_log_sigmoid(float(v)) for v in logits_generated) / len(logits_generated)


def bernoulli_nll(x, logits):
    """Appendix C.1: one negative log-likelihood per row, summed over its features."""
    rows = []
    for row, row_logits in zip(np.asarray(x), np.asarray(logits), strict=True):
        terms = [
            -float(a) * _log_sigmoid(float(v)) - (1 - float(a)) * _log_sigmoid(-float(v))
            for a, v in zip(row.ravel(), row_logits.ravel(), strict=True)
        ]
        rows.append(math.fsum(terms))
    return np.array(rows, dtype=np.float64)


def gaussian_nll(x, mean, variance):
    """Appendix C.2 with one variance: one negative log-likelihood per row."""
    rows = []
    for row, row_mean in zip(np.asarray(x), np.asarray(mean), strict=True):
        terms = []
        for a, m in zip(row.ravel(), row_mean.ravel(), strict=True):
            density = math.exp(-((float(a) - float(m)) ** 2) / (2 * variance))
            terms.append(-math.log(density / math.sqrt(2 * math.pi * variance)))
        rows.append(math.fsum(terms))
    return np.array(rows, dtype=np.float64)


def gaussian_divergence(means, log_variances):
    """Appendix B: KL from the standard normal, one value per row."""
    rows = []
    for row_mean, row_log in zip(np.asarray(means), np.asarray(log_variances), strict=True):
        terms = [
            -0.5 * (1 + float(v) - float(m) ** 2 - math.exp(float(v)))
            for m, v in zip(row_mean, row_log, strict=True)
        ]
        rows.append(math.fsum(terms))
    return np.array(rows, dtype=np.float64)


def importance_weighted_bound(log_weights):
    """Equation 8 for each column: logarithm of the mean weight."""
    columns = np.asarray(log_weights, dtype=np.float64).T
    return np.array([math.log(math.fsum(map(math.exp, c)) / len(c)) for c in columns])


def total_variation(image):
    """Absolute differences of neighbours below and to the right, for each value of an image."""
    channels, height, width = np.shape(image)
    differences = []
    for channel in np.asarray(image, dtype=np.float64):
        for i in range(height):
            for j in range(width):
                if i + 1 < height:
                    differences.append(abs(channel[i + 1, j] - channel[i, j]))
                if j + 1 < width:
                    differences.append(abs(channel[i, j + 1] - channel[i, j]))
    return math.fsum(differences) / (channels * height * width)


def coarse_energy(error, weight):
    """Energy of one image's errors of shape (c, h, w) that counts means over blocks."""
    _, height, width = error.shape
    scales = []
    for side in (1, 2, 4):
        padded = np.pad(error, ((0, 0), (0, -height % side), (0, -width % side)))
        square = np.zeros_like(padded)
        for top in range(0, padded.shape[1], side):
            for left in range(0, padded.shape[2], side):
                block = slice(None), slice(top, top + side), slice(left, left + side)
                square[block] = (padded[block].mean(axis=(1, 2), keepdims=True)) ** 2
        scales.append(side**2 * square[:, :height, :width].mean())
    return (1 - weight) * scales[0] + weight * np.mean(scales)

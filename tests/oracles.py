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

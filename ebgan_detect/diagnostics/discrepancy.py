"""Distance between the distributions of two samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.utils import gen_batches

from ebgan_detect.errors import InvalidInputError
from ebgan_detect.parameters import check_parameters, none_or, real

__all__ = ["maximum_mean_discrepancy", "median_distance"]

Array = NDArray[np.float64]

KERNEL_ENTRIES = 2**21
"""Entries of a kernel matrix held at a time."""
MEDIAN_ROWS = 1000
"""Rows whose distances choose a bandwidth."""


def maximum_mean_discrepancy(
    x: ArrayLike, y: ArrayLike, *, bandwidth: float | None = None
) -> float:
    """Squared maximum mean discrepancy of two samples, estimated without bias.

    With ``k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2))`` it is the mean of k over pairs of
    different rows of `x`, plus that of `y`, minus twice the mean over all pairs of one of each.

    Parameters
    ----------
    x : array-like of shape (n, ...)
        Rows of one sample [any unit], n >= 2; trailing axes are flattened.
    y : array-like of shape (m, ...)
        Rows of the other, same unit, m >= 2.
    bandwidth : float, default=None
        Width of the kernel, same unit, > 0. None takes `median_distance` of both samples
        together. Give one, such as that of the data, to compare several discrepancies.

    Returns
    -------
    float
        Estimate, without unit, at most 2. It scatters around 0, also below, when both samples
        have one distribution; far apart, distinct samples come near the sum of the two means
        within.

    Raises
    ------
    InvalidInputError
        If a sample has fewer than two rows or a value that is not finite, or shapes differ.
    InvalidParameterError
        If `bandwidth` is not above 0.

    References
    ----------
    .. [1] Gretton, Borgwardt, Rasch, Schoelkopf, Smola, "A Kernel Two-Sample Test",
       JMLR 13, 2012, lemma 6.

    Examples
    --------
    >>> maximum_mean_discrepancy([[0.0], [0.0]], [[0.0], [0.0]])
    0.0
    >>> x, y = [[0.0], [0.0]], [[1.0], [1.0]]
    >>> value = maximum_mean_discrepancy(x, y, bandwidth=0.5**0.5)  # 1 + 1 - 2 exp(-1)
    >>> round(value, 4)
    1.2642
    """
    check_parameters({"bandwidth": bandwidth}, {"bandwidth": none_or(real(0, closed="()"))})
    first, second = _flat_rows("x", x), _flat_rows("y", y)
    if first.shape[1] != second.shape[1]:
        raise InvalidInputError(
            f"y must have as many values in a row as x, {first.shape[1]}, got {second.shape[1]}"
        )
    # Rows far from the origin would lose digits in the kernel's |a|^2 - 2 ab + |b|^2.
    centre = first.mean(axis=0)
    first, second = first - centre, second - centre
    if bandwidth is None:
        bandwidth = median_distance(np.concatenate([first, second]))
    gamma = 0.5 / bandwidth**2
    n, m = len(first), len(second)
    within_first = (_kernel_sum(first, first, gamma) - n) / (n * (n - 1))
    within_second = (_kernel_sum(second, second, gamma) - m) / (m * (m - 1))
    across = _kernel_sum(first, second, gamma) / (n * m)
    return within_first + within_second - 2 * across


def median_distance(x: ArrayLike) -> float:
    """Median distance between different rows: the usual bandwidth of a Gaussian kernel.

    Parameters
    ----------
    x : array-like of shape (n, ...)
        Rows [any unit], n >= 2; of more than 1000, as many evenly spaced ones are taken.

    Returns
    -------
    float
        Median over all pairs that differ, same unit, > 0; 1 when all rows are equal.

    Raises
    ------
    InvalidInputError
        If there are fewer than two rows, or a value is not finite.

    Examples
    --------
    >>> round(median_distance([[0.0], [1.0], [4.0]]), 6)
    3.0
    """
    rows = _flat_rows("x", x)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MEDIAN_ROWS)).astype(np.intp)]
    rows = rows - rows.mean(axis=0)
    distances = euclidean_distances(rows)[np.triu_indices(len(rows), 1)]
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 1.0


def _flat_rows(name: str, values: ArrayLike) -> Array:
    """Rows as a float64 matrix, refused unless there are two of finite numbers."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim < 2 or len(rows) < 2:
        raise InvalidInputError(f"{name} must have shape (n, ...) with n >= 2, got {rows.shape}")
    if not np.isfinite(rows).all():
        raise InvalidInputError(f"{name} must hold finite numbers, got nan or infinity")
    return rows.reshape(len(rows), -1)


def _kernel_sum(x: Array, y: Array, gamma: float) -> float:
    """Sum of a kernel matrix, never held as a whole."""
    parts = gen_batches(len(x), max(1, KERNEL_ENTRIES // len(y)))
    return float(sum(rbf_kernel(x[part], y, gamma=gamma).sum() for part in parts))

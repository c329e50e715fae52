"""From energies to decisions: quantile offsets, conformal thresholds and p-values.

Calibration energies come from normal rows that training never saw. If they and a new
normal row are exchangeable, the new energy is equally likely to take any rank among them,
whatever the model: both functions below rest on that alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebgan_detect.errors import InvalidInputError, InvalidParameterError

__all__ = [
    "conformal_p_values",
    "conformal_threshold",
    "contamination_offset",
    "p_value_table",
    "rows_needed",
]


def rows_needed(false_alarm_rate: float) -> int:
    """Fewest calibration rows for which a finite conformal threshold exists.

    Parameters
    ----------
    false_alarm_rate : float
        Share of normal rows that may be called outliers, in (0, 1).

    Returns
    -------
    int
        Smallest n with ``ceil((n + 1) * (1 - false_alarm_rate)) <= n``.

    Raises
    ------
    InvalidParameterError
        If the rate is not in (0, 1).

    Examples
    --------
    >>> rows_needed(0.05), rows_needed(0.5)
    (19, 1)
    """
    _check_rate(false_alarm_rate)
    n = max(math.floor(min(1 / false_alarm_rate, 2.0**53)) - 2, 1)
    while _rank(n, false_alarm_rate) > n:
        n += 1
    return n


def conformal_threshold(energies: ArrayLike, false_alarm_rate: float) -> float:
    """Energy above which a new normal row falls with at most the given probability.

    The threshold is the k-th smallest calibration energy,
    ``k = ceil((n + 1) * (1 - false_alarm_rate))``. With too few rows for the rate it is the
    largest energy, never infinity; `rows_needed` tells which case holds.

    Parameters
    ----------
    energies : array-like of shape (n,)
        Calibration energies, n >= 1.
    false_alarm_rate : float
        Share of normal rows that may be called outliers, in (0, 1).

    Returns
    -------
    float
        Threshold, one of `energies`.

    Raises
    ------
    InvalidInputError
        If there is no energy, or one is nan.
    InvalidParameterError
        If the rate is not in (0, 1).

    References
    ----------
    .. [1] Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, chapter 2.

    Examples
    --------
    >>> conformal_threshold([4.0, 1.0, 3.0, 2.0], false_alarm_rate=0.4)
    3.0
    """
    _check_rate(false_alarm_rate)
    ordered = _ordered(energies)
    rank = min(_rank(len(ordered), false_alarm_rate), len(ordered))
    return float(ordered[rank - 1])


def conformal_p_values(calibration_energies: ArrayLike, energies: ArrayLike) -> NDArray[np.float64]:
    """Rank of each new energy among the calibration energies, as a p-value.

    ``p = (1 + #{i : calibration_i >= energy}) / (n + 1)``; for a normal row
    ``P(p <= a) <= a`` at every a.

    Parameters
    ----------
    calibration_energies : array-like of shape (n_calibration,)
        Energies of held-out normal rows, n_calibration >= 1, in any order.
    energies : array-like of shape (n,)
        New energies.

    Returns
    -------
    ndarray of shape (n,), float64
        p-values in [1 / (n_calibration + 1), 1]; small = abnormal.

    Raises
    ------
    InvalidInputError
        If there is no calibration energy, or one is nan.

    References
    ----------
    .. [1] Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, chapter 2.

    Examples
    --------
    >>> conformal_p_values([1.0, 2.0, 3.0], [0.5, 2.0, 9.0]).tolist()
    [1.0, 0.75, 0.25]
    """
    ordered = _ordered(calibration_energies)
    new = np.nan_to_num(np.asarray(energies, dtype=np.float64), nan=np.inf)
    below = np.searchsorted(ordered, new, side="left")
    return (1 + len(ordered) - below) / (len(ordered) + 1)


def p_value_table(
    calibration_energies: ArrayLike, size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tabulate `conformal_p_values` in a bounded number of calibration energies.

    The p-value of an energy is ``p_values[#{i : energies_i < energy}]``. It is exact when
    the table holds the whole calibration set. Otherwise the table keeps every one of the
    largest energies, and of the others so many that neighbouring p-values have a constant
    ratio; in between, the larger one holds. A tabulated p-value is therefore never smaller
    than the exact one, so that ``P(p <= a) <= a`` still holds at every a.

    Parameters
    ----------
    calibration_energies : array-like of shape (n_calibration,)
        Energies of held-out normal rows, n_calibration >= 1, in any order.
    size : int
        Most energies that the table may hold, >= 1.

    Returns
    -------
    energies : ndarray of shape (n_table,)
        Calibration energies, ascending, n_table <= size.
    p_values : ndarray of shape (n_table + 1,)
        p-values, descending, from 1 to 1 / (n_calibration + 1).

    Raises
    ------
    InvalidInputError
        If there is no calibration energy, or one is nan.
    InvalidParameterError
        If `size` is below 1.

    Examples
    --------
    >>> energies, p_values = p_value_table([1.0, 2.0, 3.0], size=2)
    >>> energies.tolist(), p_values.tolist()
    ([1.0, 3.0], [1.0, 0.75, 0.25])
    """
    if size < 1:
        raise InvalidParameterError(f"size must be an int >= 1, got {size!r}")
    ordered = _ordered(calibration_energies)
    n = len(ordered)
    ranks = _table_ranks(n, size)
    return ordered[n - ranks], np.append(1.0, ranks / (n + 1))


def contamination_offset(scores: ArrayLike, contamination: float) -> float:
    """Score below which the given share of the fitted rows falls.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of all fitted rows, lower = more abnormal, n >= 1.
    contamination : float
        Share of outliers among them, in (0, 0.5].

    Returns
    -------
    float
        The linearly interpolated quantile, as `sklearn.ensemble.IsolationForest` takes it.

    Raises
    ------
    InvalidInputError
        If there is no score, or one is nan.
    InvalidParameterError
        If `contamination` is not in (0, 0.5].

    Examples
    --------
    >>> contamination_offset([-4.0, -3.0, -2.0, -1.0, 0.0], contamination=0.25)
    -3.0
    """
    if not 0 < contamination <= 0.5:
        raise InvalidParameterError(
            f"contamination must be 'auto' or a float in (0, 0.5], got {contamination!r}"
        )
    return float(np.percentile(_ordered(scores), 100.0 * contamination))


def _rank(n: int, false_alarm_rate: float) -> int:
    """Rank of the conformal threshold among n energies, guarded against rounding upwards."""
    rounding = 4 * float(np.finfo(np.float64).eps) * (n + 1)
    return max(1, math.ceil((n + 1) * (1 - false_alarm_rate) - rounding))


def _table_ranks(n: int, size: int) -> NDArray[np.intp]:
    """Ranks to tabulate, counted from the largest energy: descending, 1 among them."""
    if n <= size:
        return np.arange(n, 0, -1)
    # After `exact` single steps the ratio of two neighbours is that of the last step.
    steps = np.arange(1, size + 1)
    exact = max(1, int(np.count_nonzero(steps * (1 + np.log(n / steps)) <= size)))
    apart = np.rint(np.geomspace(exact, n, size - exact + 1)).astype(np.intp)
    return np.union1d(np.arange(1, exact), apart)[::-1]


def _check_rate(false_alarm_rate: float) -> None:
    """Refuse a rate outside (0, 1)."""
    if not 0 < false_alarm_rate < 1:
        raise InvalidParameterError(
            f"false_alarm_rate must be a float in (0, 1), got {false_alarm_rate!r}"
        )


def _ordered(values: ArrayLike) -> NDArray[np.float64]:
    """Sort values, refusing none and nan; infinite ones become the largest finite number."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    if ordered.size == 0 or np.isnan(ordered[-1]):
        raise InvalidInputError("energies or scores must hold at least one value and no nan")
    largest = np.finfo(np.float64).max
    return ordered.clip(-largest, largest)

"""The three disjoint parts of the fitted rows: training, validation, calibration.

A row's part follows from its content: its values, the number of equal rows before it, and
a seed give a uniform number, and two cutoffs divide the unit interval. Distinct rows are
therefore divided at random, yet the same row lands in the same part again when training
goes on: after a resume, in a warm start, in a later `partial_fit`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Partition", "Parts", "part_sizes", "row_positions"]


class Parts(NamedTuple):
    """Numbers of the rows of each part, ascending.

    Attributes
    ----------
    training, validation, calibration : ndarray of int
        Row numbers.
    """

    training: NDArray[np.intp]
    validation: NDArray[np.intp]
    calibration: NDArray[np.intp]

    @property
    def apart(self) -> bool:
        """Whether no calibration row trains.

        Returns
        -------
        bool
            False where rows serve for both.
        """
        return not np.isin(self.calibration, self.training).any()

    def filled(self, *, training: bool, calibration: bool) -> Parts:
        """Let rows of another part serve where a part would be empty.

        Parameters
        ----------
        training, calibration : bool
            Whether that part must hold rows.

        Returns
        -------
        Parts
            Empty training becomes all rows, and then empty calibration the training rows.

        Examples
        --------
        >>> none, one = np.array([], int), np.array([0])
        >>> parts = Parts(one, none, none).filled(training=True, calibration=True)
        >>> parts.calibration, parts.apart
        (array([0]), False)
        """
        parts = self
        if training and not len(parts.training):
            parts = parts._replace(training=np.sort(np.concatenate(parts)), validation=parts[0])
        if calibration and not len(parts.calibration):
            parts = parts._replace(calibration=parts.training)
        return parts


@dataclass(frozen=True)
class Partition:
    """Cutoffs of the unit interval, and the seed that places rows on it.

    Attributes
    ----------
    seed : int
        Seed of the rows' positions.
    calibration_below, validation_below : float
        Positions in ``[0, calibration_below)`` calibrate, those in
        ``[calibration_below, validation_below)`` validate, the rest train.
    """

    seed: int
    calibration_below: float
    validation_below: float

    @classmethod
    def choose(
        cls, positions: NDArray[np.float64], *, n_calibration: int, n_validation: int, seed: int
    ) -> Partition:
        """Place the cutoffs so that the parts have exactly the sizes asked for.

        Parameters
        ----------
        positions : ndarray of shape (n,)
            From `row_positions`.
        n_calibration, n_validation : int
            Sizes; together less than n.
        seed : int
            Seed that `positions` were made with.

        Returns
        -------
        Partition
            The cutoffs.

        Examples
        --------
        >>> positions = np.array([0.9, 0.1, 0.5, 0.3])
        >>> part = Partition.choose(positions, n_calibration=1, n_validation=1, seed=0)
        >>> [rows.tolist() for rows in part.divide(positions)]
        [[0, 2], [3], [1]]
        """
        ordered = np.sort(positions)
        # The lowest position itself would leave later rows below it in a part that is to be empty.
        cutoffs = (
            float(ordered[n]) if n else 0.0 for n in (n_calibration, n_calibration + n_validation)
        )
        return cls(seed, *cutoffs)

    def divide(self, positions: NDArray[np.float64]) -> Parts:
        """Sort rows into the three parts.

        Parameters
        ----------
        positions : ndarray of shape (n,)
            From `row_positions` with this partition's seed.

        Returns
        -------
        Parts
            Disjoint row numbers that together are ``0 ... n - 1``.
        """
        training = np.flatnonzero(positions >= self.validation_below)
        validation = np.flatnonzero(
            (positions >= self.calibration_below) & (positions < self.validation_below)
        )
        return Parts(training, validation, np.flatnonzero(positions < self.calibration_below))


def part_sizes(
    n: int, *, calibration_fraction: float, validation_fraction: float, rows_needed: int
) -> tuple[int, int]:
    """Sizes of the calibration and validation parts.

    Calibration is raised to the rows that its threshold needs, up to a third of all rows.
    Tiny inputs give up validation first, then calibration: at least half of the rows train.

    Parameters
    ----------
    n : int
        Number of rows, >= 1.
    calibration_fraction, validation_fraction : float
        Shares asked for, in [0, 1).
    rows_needed : int
        Fewest calibration rows for the threshold.

    Returns
    -------
    n_calibration, n_validation : int
        Sizes; together at most ``n // 2``.

    Examples
    --------
    >>> part_sizes(1000, calibration_fraction=0.1, validation_fraction=0.1, rows_needed=19)
    (100, 100)
    >>> part_sizes(60, calibration_fraction=0.1, validation_fraction=0.4, rows_needed=19)
    (19, 11)
    >>> part_sizes(1, calibration_fraction=0.1, validation_fraction=0.1, rows_needed=19)
    (0, 0)
    """
    n_calibration = round(calibration_fraction * n)
    if calibration_fraction:
        n_calibration = max(n_calibration, min(rows_needed, n // 3))
    n_calibration = min(n_calibration, n // 2)
    return n_calibration, min(round(validation_fraction * n), n // 2 - n_calibration)


def row_positions(chunks: Iterable[np.ndarray], seed: int) -> NDArray[np.float64]:
    """Place every row on [0, 1) by its content.

    Parameters
    ----------
    chunks : iterable of ndarray of shape (n_chunk, ...)
        Rows in order. Equal values of different numeric types count as equal.
    seed : int
        Another seed gives unrelated positions.

    Returns
    -------
    ndarray of shape (n,), float64
        Positions. Equal rows get different ones, by their order among themselves.
    """
    rng = np.random.default_rng(seed)
    multipliers: NDArray[np.uint64] | None = None
    digests = []
    for chunk in chunks:
        # Adding 0.0 turns -0.0 into 0.0, which compares equal and must be placed alike.
        words = (chunk.reshape(len(chunk), -1).astype(np.float64) + 0.0).view(np.uint64)
        if multipliers is None:
            odd = np.ones(words.shape[1], dtype=np.uint64)
            multipliers = rng.integers(2**64, size=words.shape[1], dtype=np.uint64) | odd
        # Small numbers leave the low half of a float64 empty; products would keep it so.
        digests.append((words ^ (words >> np.uint64(32))) @ multipliers)
    digest = np.concatenate(digests)
    order = np.argsort(digest, kind="stable")
    ordered = digest[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    index = np.arange(len(digest))
    occurrence = np.empty(len(digest), dtype=np.uint64)
    occurrence[order] = index - np.maximum.accumulate(np.where(first, index, 0))
    scattered = _mix(digest + occurrence * np.uint64(0x9E3779B97F4A7C15))
    return np.ldexp((scattered >> np.uint64(11)).astype(np.float64), -53)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter the bits of each word: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))

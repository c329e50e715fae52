"""The rows that threshold and p-values come from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base.resuming import ResumableDetector
from ebgan_detect.data import Rows
from ebgan_detect.errors import CalibrationWarning, warn_caller
from ebgan_detect.partition import Partition, Parts
from ebgan_detect.thresholds import conformal_threshold, contamination_offset, rows_needed

__all__ = ["CalibratedDetector", "CalibrationRows"]

KEPT_ROWS, KEPT_BYTES = 2**15, 2**26
"""Bounds on the calibration rows kept for later calls of `partial_fit`, which score them anew."""


class CalibratedDetector(ResumableDetector):
    """Adds a threshold and p-values that come from rows which did not train."""

    contamination: Any
    false_alarm_rate: float
    _calibration_rows: CalibrationRows
    _partition: Partition

    def calibrate(self, X: Any, y: Any = None) -> Self:
        """Take threshold and p-values from other rows; nothing is trained.

        For what a random tenth of the fitted rows cannot stand for: rows that come in groups,
        such as frames of a video or readings of a machine, where new rows are of new groups; a
        new camera or site; another `false_alarm_rate`, set before. The rows take the place of
        all that calibrated so far. Later calls of `partial_fit` should be given other rows, of
        which they add their share; a later `fit` calibrates anew.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Normal rows of the fitted shape that did not train.
        y : None
            Ignored.

        Returns
        -------
        self
            The detector. A float `contamination` is taken among these rows.

        Raises
        ------
        InvalidInputError
            If `X` holds nan or infinity, or does not have the fitted shape.
        InvalidParameterError
            If parameters are outside their ranges, or differ from what the fit has settled.
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.

        Examples
        --------
        >>> from ebgan_detect import EBGANDetector
        >>> rng = np.random.default_rng(0)
        >>> detector = EBGANDetector(max_epochs=5, random_state=0).fit(rng.normal(size=(900, 3)))
        >>> elsewhere = rng.normal(scale=1.5, size=(4000, 3))
        >>> bool(np.mean(detector.predict(elsewhere) < 0) > 0.2)
        True
        >>> detector = detector.calibrate(elsewhere[:2000])
        >>> bool(np.mean(detector.predict(elsewhere[2000:]) < 0) < 0.07)
        True
        """
        check_is_fitted(self, "model_")
        with self._begun(X, continued=True, trains=False) as (rows, positions):
            every = np.arange(len(rows))
            none = every[:0]
            # Positions of a further call turn within the calibration part of the interval.
            within = self._partition.calibration_below or 1.0
            parts = Parts(training=none, validation=none, calibration=every)
            self._calibration_rows = CalibrationRows.read(rows, parts, positions * within)
            self._calibrate(self._energies(rows))
        return self

    def _calibrate(
        self, energies: NDArray[np.float64], of_all: NDArray[np.float64] | None = None
    ) -> None:
        """Threshold from calibration energies; by a contamination from those of all rows, if given.

        All fitted rows are not at hand wherever a detector is calibrated.
        """
        self.calibration_energies_ = np.sort(energies)
        self.offset_ = -conformal_threshold(energies, self.false_alarm_rate)
        needed = rows_needed(self.false_alarm_rate)
        conformal = self.contamination == "auto"
        if not conformal:
            scores = -(energies if of_all is None else of_all)
            self.offset_ = contamination_offset(scores, self.contamination)
        if conformal and np.isinf(energies).any() and self.offset_ < -1e300:
            warn_caller(
                "the threshold is beyond all numbers: calibration rows are so far from the rows "
                "that were trained on that their energies overflow; drop such rows",
                CalibrationWarning,
            )
        if not self._calibration_rows.apart:
            warn_caller(
                "threshold and p-values come from rows that were trained on, which fit better "
                f"than new ones: false_alarm_rate={self.false_alarm_rate:g} will be exceeded; "
                "give more rows, or calibration_fraction > 0",
                CalibrationWarning,
            )
        elif conformal and len(energies) < needed:
            warn_caller(
                f"false_alarm_rate={self.false_alarm_rate:g} needs {needed} calibration rows, got "
                f"{len(energies)}; the threshold is the largest calibration energy",
                CalibrationWarning,
            )


@dataclass(frozen=True)
class CalibrationRows:
    """Raw calibration rows, kept because later training changes their energies.

    Attributes
    ----------
    positions : ndarray of shape (n,)
        Positions on the unit interval (see `row_positions`), ascending.
    values : ndarray of shape (n, ...)
        The rows.
    apart : bool
        Whether none of them has trained.
    calls : int
        How many calls there were until then.
    """

    positions: NDArray[np.float64]
    values: NDArray[Any]
    apart: bool = True
    calls: int = 1

    @classmethod
    def read(
        cls,
        rows: Rows,
        parts: Parts,
        positions: NDArray[np.float64],
        *,
        call: int = 1,
        within: float = 1.0,
    ) -> CalibrationRows:
        """Keep as many of the given rows as memory allows, chosen by position.

        Equal rows have equal positions in every call. Turned by the golden section, a row's
        positions spread evenly over the calls, and those that are kept are a random sample.

        Parameters
        ----------
        rows : Rows
            The whole input.
        parts : Parts
            Which of them calibrate, and which have trained.
        positions : ndarray of shape (len(rows),)
            Positions of all rows.
        call : int
            Number of the call that they are from, from 1.
        within : float
            Where the interval of calibrating positions ends.

        Returns
        -------
        CalibrationRows
            A random sample of the rows: positions are random.
        """
        limit = _most_kept(rows.shape)
        numbers = parts.calibration
        if call > 1:
            positions = (positions + within * call * (math.sqrt(5) - 1) / 2) % within
        chosen = numbers[np.argsort(positions[numbers])[:limit]]
        chunks = list(rows.arrays(max(1, limit), chosen))
        empty = np.empty((0, *rows.shape[1:]))
        values = np.concatenate([np.asarray(c) for c in chunks] or [empty])
        return cls(positions[chosen], values, parts.apart, call)

    def merge(self, other: CalibrationRows) -> CalibrationRows:
        """Add the rows of a further call. Rows that have trained yield to others.

        Parameters
        ----------
        other : CalibrationRows
            Rows to add.

        Returns
        -------
        CalibrationRows
            Rows of either, within the same bound on memory.
        """
        if not other.values.size or self.apart > other.apart:
            return self
        if other.apart > self.apart:
            return other
        positions = np.r_[self.positions, other.positions]
        kept = np.argsort(positions, kind="stable")[: _most_kept(self.values.shape)]
        values = np.concatenate([self.values, other.values])[kept]
        return CalibrationRows(positions[kept], values, self.apart, other.calls)


def _most_kept(shape: tuple[int, ...]) -> int:
    """Rows to keep of an input of that shape."""
    return max(1, min(KEPT_ROWS, KEPT_BYTES // (8 * max(1, math.prod(shape[1:])))))

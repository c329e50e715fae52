"""Answers in the order of the rows, and which of them are there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.errors import ServerError
from ebgan_detect.interchange import OUTPUTS
from ebgan_detect.serving.transport import Answer

__all__ = ["Results", "Values"]

Values = dict[str, NDArray[np.float64] | NDArray[np.int64]]


class Results:
    """Arrays that fill up in any order.

    Parameters
    ----------
    n : int
        Number of rows.
    outputs : sequence of str
        Kinds of answers.
    n_calibration : int or None
        Number of the model's calibration rows, where it is known.

    Attributes
    ----------
    values : dict of str to ndarray of shape (n,)
        float64, and int64 for labels; nan, and 0 for labels, where no answer is yet.
    done : ndarray of shape (n,), bool
        Which rows have been answered.
    """

    def __init__(self, n: int, outputs: Sequence[str], n_calibration: int | None) -> None:
        self._n_calibration = n_calibration
        self.values: Values = {
            name: np.zeros(n, np.int64) if OUTPUTS[name] is np.int64 else np.full(n, np.nan)
            for name in outputs
        }
        self.done: NDArray[np.bool_] = np.zeros(n, bool)

    def put(self, part: slice, answer: Answer) -> None:
        """Note the answer to some rows.

        Parameters
        ----------
        part : slice
            Which rows.
        answer : Answer
            One value of each kind for each of them.
        """
        for name, values in answer.values.items():
            self.values[name][part] = values
            if name == "p_value" and self._n_calibration is not None:
                self.values[name][part] = _unrounded(values, self._n_calibration)
        self.done[part] = True

    def clear(self) -> None:
        """Forget every answer, since not all came from one model."""
        for values in self.values.values():
            values.fill(0 if values.dtype == np.int64 else np.nan)
        self.done.fill(False)

    def failure(self, reason: str) -> ServerError:
        """An error that carries what there is.

        Parameters
        ----------
        reason : str
            What happened.

        Returns
        -------
        ServerError
            To be raised.
        """
        n, n_done = len(self.done), int(self.done.sum())
        error = ServerError(
            f"{reason}; {n_done} of {n} rows were done"
            + (", see rows_done and partial_result of this error" if n_done else "")
        )
        error.rows_done = self.done
        error.partial_result = self.values
        return error


def _unrounded(p_values: NDArray[np.float32], n_calibration: int) -> NDArray[np.float64]:
    """The shares of calibration rows that the server has rounded to float32.

    Otherwise a p-value of 0.05 would come out above 0.05. What is no such share, as from a
    version that has just replaced the one described, stays as it is.
    """
    n = n_calibration + 1
    shares = np.rint(p_values.astype(np.float64) * n) / n
    return np.where(shares.astype(np.float32) == p_values, shares, p_values)

"""What a fitted detector answers: energies, scores, decisions, p-values."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_is_fitted
from torch import Tensor

from ebgan_detect.data import Rows, as_rows, largest_magnitude
from ebgan_detect.errors import (
    InputRangeWarning,
    InvalidInputError,
    InvalidParameterError,
    warn_caller,
)
from ebgan_detect.model import EnergyModel
from ebgan_detect.thresholds import conformal_p_values
from ebgan_detect.training import resolve_device

LARGEST = float(np.finfo(np.float32).max)
"""Size of values that can be fitted: networks compute in float32."""

__all__ = ["ANSWERS", "ScoringDetector", "rows_of_shape"]

Answer = Callable[["ScoringDetector", NDArray[np.float64]], NDArray[Any]]

ANSWERS: Mapping[str, Answer] = {
    "energy": lambda detector, energies: energies,
    "score": lambda detector, energies: -energies,
    "decision": lambda detector, energies: -energies - detector.offset_,
    "label": lambda detector, energies: np.where(-energies - detector.offset_ >= 0, 1, -1),
    "p_value": lambda detector, energies: conformal_p_values(
        detector.calibration_energies_, energies
    ),
}
"""What follows from energies, by the names that served models have too."""


def rows_of_shape(known: Any, X: Any, shape: tuple[int, ...], owner: str) -> Rows:
    """Wrap rows, refusing other columns or another shape than the fitted ones.

    Parameters
    ----------
    known : object
        Has `n_features_in_` and, where columns had names, `feature_names_in_`.
    X : array-like, Tensor, DataFrame, memmap or Dataset
        Rows.
    shape : tuple of int
        Shape of one fitted row.
    owner : str
        Name of the estimator's class, for messages.

    Returns
    -------
    Rows
        The rows; their values are not looked at.

    Raises
    ------
    InvalidInputError
        If names, number or shape differ, in scikit-learn's words where it has some.
    """
    try:
        _check_feature_names(known, X, reset=False)
        rows = as_rows(X)
        if len(rows.shape) == 2 and len(shape) == 1:
            _check_n_features(known, np.broadcast_to(0.0, rows.shape), reset=False)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    if rows.shape[1:] != shape:
        raise InvalidInputError(
            f"X has rows of shape {rows.shape[1:]}, but {owner} is expecting rows of shape {shape}"
        )
    return rows


class ScoringDetector(OutlierMixin, BaseEstimator, ABC):
    """Validation of input, and batched scoring with a fitted model."""

    _energy_unit: ClassVar[str] = "scaled unit²"
    device: Any
    model_: EnergyModel
    input_shape_: tuple[int, ...]
    n_features_in_: int
    offset_: float
    calibration_energies_: NDArray[np.float64]

    def energy(self, X: Any) -> NDArray[np.float64]:
        """Energy of each row: low on the data manifold, high off it.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape [fitted unit]. Read in chunks, never copied whole.

        Returns
        -------
        ndarray of shape (n,), float64
            Energies: mean squared reconstruction errors [scaled input unit ** 2], >= 0, of plain
            images relative to their complexity, of images at several scales on request; or what
            the detector has in their place, of any sign. A row's value depends on neither the other
            rows nor their order (for images of odd sizes, up to float32 rounding). +inf where a
            finite row overflows float32.

        Raises
        ------
        InvalidInputError
            If `X` holds nan or infinity, or does not have the fitted shape.
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.
        """
        check_is_fitted(self, "model_")
        return self._energies(self._validate(X, reset=False, streamed=True))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Score of each row, the negative energy: lower is more abnormal.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), float64
            Scores, in the unit of `energy`.

        Raises
        ------
        InvalidInputError
            As in `energy`.
        """
        return self.outputs(X, "score")["score"]

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Score of each row relative to the threshold.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), float64
            ``score_samples(X) - offset_``: >= 0 is an inlier.

        Raises
        ------
        InvalidInputError
            As in `energy`.
        """
        return self.outputs(X, "decision")["decision"]

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Call each row an inlier or an outlier.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), int64
            +1 for inliers, -1 for outliers.

        Raises
        ------
        InvalidInputError
            As in `energy`.
        """
        return self.outputs(X, "label")["label"]

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """Conformal p-value of each row against the held-out calibration rows.

        If a row is exchangeable with those, ``P(p <= a) <= a`` at every level a, whatever
        the model.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), float64
            p-values in ``[1 / (n_calibration + 1), 1]``; small is abnormal.

        Raises
        ------
        InvalidInputError
            As in `energy`.
        """
        return self.outputs(X, "p_value")["p_value"]

    def outputs(self, X: Any, *names: str) -> dict[str, NDArray[Any]]:
        """Several answers from one pass over the rows.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.
        *names : {'energy', 'score', 'decision', 'label', 'p_value'}
            Which answers; all when none is named.

        Returns
        -------
        dict of str to ndarray of shape (n,)
            float64, and int64 for labels.

        Raises
        ------
        InvalidParameterError
            If a name is unknown.
        InvalidInputError
            As in `energy`.
        """
        for name in names:
            if name not in ANSWERS:
                raise InvalidParameterError(f"names must be among {list(ANSWERS)}, got {name!r}")
        energies = self.energy(X)
        return {name: ANSWERS[name](self, energies) for name in names or ANSWERS}

    def _energies(self, rows: Rows, numbers: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Energies of checked rows."""
        return self._stream(rows, self.model_, (), np.float64, numbers)

    def _stream(
        self,
        rows: Rows,
        function: Callable[[Tensor], Tensor],
        shape: tuple[int, ...],
        dtype: type,
        numbers: NDArray[np.intp] | None = None,
    ) -> NDArray[Any]:
        """Apply a function of the model to rows, chunk by chunk, into one array."""
        out: NDArray[Any] = np.empty(
            (len(rows) if numbers is None else len(numbers), *shape), dtype
        )
        start, largest = 0, 0.0

        def watched(chunk: Tensor) -> Tensor:
            nonlocal largest
            largest = max(largest, largest_magnitude(chunk))
            return function(chunk)

        is_image = len(rows.shape) > 2
        computed = watched if is_image else function
        for part in self.model_.stream(rows, computed, resolve_device(self.device), numbers):
            out[start : start + len(part)] = part.numpy()
            start += len(part)
        if is_image:
            self._warn_of_other_unit(largest, is_uint8=rows.is_uint8)
        return out

    def _validate(self, X: Any, *, reset: bool, streamed: bool = False) -> Rows:
        """Check input once, at the public edge; what is known of earlier rows stays if it fails.

        Rows to be `streamed` are checked for nan, infinity and range as they are read.
        """
        if reset:
            rows = as_rows(X).held()
            rows.check_finite(largest=LARGEST)
            try:
                _check_feature_names(self, X, reset=True)
            except ValueError as error:
                raise InvalidInputError(str(error)) from error
            self.input_shape_ = rows.shape[1:]
            self.n_features_in_ = int(np.prod(self.input_shape_))
            return rows
        rows = rows_of_shape(self, X, self.input_shape_, type(self).__name__)
        if not streamed:
            rows = rows.held()
            is_image = len(rows.shape) > 2
            ends = rows.check_finite(integers=is_image, largest=LARGEST)
            if is_image:
                self._warn_of_other_unit(max(map(abs, ends)), is_uint8=rows.is_uint8)
        return rows

    def _warn_of_other_unit(self, largest: float, *, is_uint8: bool) -> None:
        """Warn of images whose largest magnitude contradicts that of the fitted ones."""
        scaler = self.model_.scaler
        # Dark images of uint8 have the unit of bright ones.
        if scaler.contradicts(largest) and not (is_uint8 and not scaler.contradicts(255.0)):
            warn_caller(
                f"X must be in the unit of the fitted images ({scaler.low:g} to {scaler.high:g}), "
                f"got values up to {largest:g}; scale them as the fitted ones were",
                InputRangeWarning,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the model on the CPU; optimisers and replay stay behind."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = state["model_"].portable()
        return state

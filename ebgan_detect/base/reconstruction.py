"""What a detector with a reconstruction answers beside its energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base.scoring import ScoringDetector

__all__ = ["ReconstructionMixin"]


class ReconstructionMixin(ScoringDetector):
    """Adds what the autoencoder makes of rows, and where their energy lies."""

    def energy_map(self, X: Any) -> NDArray[np.float64]:
        """Energy of each row, split over its features or pixels.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n, *input_shape_), float64
            Their mean over a row is its energy; +inf where a finite row overflows float32.
            Squared errors of scaled values, >= 0, of plain images relative to their complexity,
            on request with those of blocks of pixels, unless the detector's energy is another.

        Raises
        ------
        InvalidInputError
            As in `energy`.
        """
        check_is_fitted(self, "model_")
        rows = self._validate(X, reset=False, streamed=True)
        split = self._stream(rows, self.model_.energy_map, self.input_shape_, np.float64)
        split[np.isnan(split)] = np.inf  # as `energy` has it
        return split

    def reconstruct(self, X: Any) -> NDArray[np.float64]:
        """What the autoencoder makes of each row.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n, *input_shape_), float64
            Reconstructions [fitted unit], averaged over the members.

        Raises
        ------
        InvalidInputError
            As in `energy`.
        """
        check_is_fitted(self, "model_")
        rows = self._validate(X, reset=False, streamed=True)
        return self._stream(rows, self.model_.reconstruct, self.input_shape_, np.float64)

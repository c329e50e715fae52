"""What a detector with a generator can make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base.scoring import ScoringDetector
from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.parameters import integer
from ebgan_detect.training import resolve_device

__all__ = ["GenerationMixin"]


class GenerationMixin(ScoringDetector):
    """Adds rows drawn from the generator."""

    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> NDArray[np.float64]:
        """Draw rows from the generator.

        Parameters
        ----------
        n_samples : int
            Number of rows, >= 1, divided evenly among the members.
        random_state : int, RandomState or None
            Seed of the draw; None draws anew each time.

        Returns
        -------
        ndarray of shape (n_samples, *input_shape_), float64
            Generated rows [fitted unit].

        Raises
        ------
        InvalidParameterError
            If `n_samples` is below 1, or the detector has no generator.
        """
        check_is_fitted(self, "model_")
        if not integer(1).holds(n_samples):
            raise InvalidParameterError(f"n_samples must be an int >= 1, got {n_samples!r}")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return self.model_.to(resolve_device(self.device)).sample(n_samples, seed).numpy()

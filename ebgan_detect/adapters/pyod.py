"""PyOD's interface: higher is more abnormal, 1 is an outlier, the threshold is a share."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base import BaseDetector
from ebgan_detect.detector import EBGANDetector
from ebgan_detect.errors import InvalidParameterError, MissingDependencyError

try:
    from pyod.models.base import BaseDetector as PyODBase
except ImportError as error:
    raise MissingDependencyError(
        "PyODDetector needs pyod: pip install 'ebgan-detect[bench]'"
    ) from error

__all__ = ["PyODDetector"]


class PyODDetector(PyODBase):
    """A detector of this library as one of PyOD, with PyOD's signs and threshold.

    PyOD's ensembles and combinations take it, and its `predict_proba`, `predict_confidence` and
    `predict_with_rejection` work. The threshold is PyOD's: the energy that a share
    `contamination` of all fitted rows exceeds.

    Parameters
    ----------
    detector : EBGANDetector or another detector of this library, default=None
        What to fit, with its parameters; a copy is fitted and this one stays as it is. None
        stands for ``EBGANDetector()``.
    contamination : float or thresholder of PyOD, default=0.1
        Share of outliers among the fitted rows, in (0, 0.5]. The detector's own parameters
        for its threshold do not count here. All rows train as normal.

    Attributes
    ----------
    detector_ : detector
        The fitted copy: its p-values, energy maps, `save` and exports are there as ever.
    decision_scores_ : ndarray of shape (n,)
        Energies of the fitted rows [scaled input unit ** 2].
    threshold_ : float
        Energy above which a row is an outlier, same unit.
    labels_ : ndarray of shape (n,), int
        1 for fitted rows called outliers, else 0.

    Raises
    ------
    MissingDependencyError
        On import, if PyOD is not installed.

    See Also
    --------
    ebgan_detect.EBGANDetector : The same with scikit-learn's signs and a conformal threshold.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.02, (500, 2))
    >>> detector = PyODDetector(EBGANDetector(random_state=0, max_epochs=20), contamination=0.02)
    >>> detector.fit(ring).predict([[1.0, 0.0], [4.0, 4.0]]).tolist()
    [0, 1]
    >>> int(detector.labels_.sum())
    10
    """

    detector_: BaseDetector

    def __init__(self, detector: BaseDetector | None = None, contamination: Any = 0.1) -> None:
        super().__init__(contamination=contamination)
        self.detector = detector

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a copy of the detector, and the threshold.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of shape (n, d), (n, h, w) or (n, c, h, w), as `detector` takes them.
        y : None
            Ignored; PyOD warns of it.

        Returns
        -------
        self
            The fitted detector. If anything fails, an earlier fit stays.

        Raises
        ------
        InvalidParameterError
            If `detector` is none of this library, or its parameters are outside their ranges.
        InvalidInputError
            If `X` cannot be used.
        TrainingDivergedError
            If a loss became nan or infinite.
        """
        if self.detector is not None and not isinstance(self.detector, BaseDetector):
            raise InvalidParameterError(
                f"detector must be None or a detector of ebgan_detect, got {self.detector!r}"
            )
        detector = EBGANDetector() if self.detector is None else clone(self.detector)
        scores = _finite(detector.fit(X).energy(X))
        self._set_n_classes(y)
        self.detector_, self.decision_scores_ = detector, scores
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Energy of each row: higher is more abnormal.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), float64
            Energies [scaled input unit ** 2], those beyond float32 as its largest number.

        Raises
        ------
        InvalidInputError
            If `X` holds nan or infinity, or does not have the fitted shape.
        sklearn.exceptions.NotFittedError
            If `fit` has not been called.
        """
        check_is_fitted(self, "detector_")
        return _finite(self.detector_.energy(X))


def _finite(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energies without infinite ones, which PyOD's probabilities cannot take."""
    return np.minimum(energies, np.finfo(np.float32).max)

"""Exceptions and warnings of the library.

Every message has the form *name, rule, value received, remedy*.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "CalibrationWarning",
    "EBGANError",
    "EBGANWarning",
    "ExportError",
    "InputRangeWarning",
    "InvalidInputError",
    "InvalidParameterError",
    "MissingDependencyError",
    "ModelFileError",
    "ServerError",
    "TrainingDivergedError",
    "TrainingHealthWarning",
    "TrainingInterruptedWarning",
    "warn_caller",
]


class EBGANError(Exception):
    """Base of every error that the library raises on purpose."""


class InvalidInputError(EBGANError, ValueError):
    """Data that cannot be used: wrong shape, type, size, or a value that is not finite."""


class InvalidParameterError(EBGANError, ValueError):
    """A constructor or function parameter outside its documented range."""


class ModelFileError(EBGANError, ValueError):
    """A saved model or checkpoint that is damaged, of another kind, or from a newer version."""


class TrainingDivergedError(EBGANError, ArithmeticError):
    """A loss became nan or infinite during training."""


class MissingDependencyError(EBGANError, ImportError):
    """A feature needs a package that is not installed."""


class ExportError(EBGANError, RuntimeError):
    """A fitted detector that cannot be exported, or whose export scores differently."""


class ServerError(EBGANError, RuntimeError):
    """An inference server that is absent, not ready, or answered with an error.

    Attributes
    ----------
    rows_done : ndarray of shape (n,), bool, or None
        Which rows had been answered when a scoring call failed; None before any was sent.
    partial_result : dict of str to ndarray of shape (n,), or None
        The answers by name, such as ``"score"``; nan (0 for ``"label"``) where there is none.
    """

    rows_done: NDArray[np.bool_] | None = None
    partial_result: dict[str, NDArray[Any]] | None = None


class EBGANWarning(UserWarning):
    """Base of every warning that the library issues."""


class CalibrationWarning(EBGANWarning):
    """Too few held-out rows for the threshold or p-values that were asked for."""


class InputRangeWarning(EBGANWarning):
    """Values whose range contradicts the fitted one, or that dwarf all others of their column."""


class TrainingHealthWarning(EBGANWarning, ConvergenceWarning):
    """Training ended, but its history shows that the game collapsed or never started."""


class TrainingInterruptedWarning(EBGANWarning):
    """Ctrl-C ended training early, and what had been trained by then was kept."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this library that led here, however deep the call.

    Parameters
    ----------
    message : str
        What the user should know.
    category : type
        Kind of warning.
    """
    inside = (__name__.partition(".")[0], "contextlib")  # which enters our own contexts
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] in inside:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)

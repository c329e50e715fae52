"""Input checked once, before any of it is sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebgan_detect.base import rows_of_shape
from ebgan_detect.data import Rows
from ebgan_detect.errors import InvalidInputError
from ebgan_detect.serving.served import ServedModel

__all__ = ["checked_rows"]

LARGEST = float(np.finfo(np.float32).max)


def checked_rows(X: Any, served: ServedModel, owner: str) -> Rows:
    """Refuse what the served model cannot take.

    Parameters
    ----------
    X : array-like, Tensor, DataFrame, memmap or Dataset
        Rows.
    served : ServedModel
        The model.
    owner : str
        Name of the estimator's class, for messages.

    Returns
    -------
    Rows
        The rows.

    Raises
    ------
    InvalidInputError
        If names, shape or a value do not fit: nan or infinity; numbers beyond float32; or, for
        a model that takes uint8, anything but whole numbers in [0, 255].
    """
    facts: dict[str, Any] = {"n_features_in_": served.n_features}
    if served.feature_names is not None:
        facts["feature_names_in_"] = np.array(served.feature_names, dtype=object)
    # Has what scikit-learn's checks look at; the estimator itself would ask the server again.
    known = type(owner, (), facts)()
    rows = rows_of_shape(known, X, served.input_shape, owner)
    _check_values(rows, served)
    return rows


def _check_values(rows: Rows, served: ServedModel) -> None:
    """Refuse what the model's input type cannot hold."""
    low, high = rows.check_finite()
    if served.dtype == np.uint8:
        if not rows.is_uint8:
            _check_bytes(rows)
    elif max(abs(low), abs(high)) > LARGEST:
        raise InvalidInputError(
            "Input X contains a value too large for dtype('float32'), which the served model "
            f"takes, got values from {low:g} to {high:g}; drop such rows"
        )


def _check_bytes(rows: Rows) -> None:
    """Refuse what is no whole number in [0, 255]."""
    start = 0
    for chunk in rows.arrays():
        flat = chunk.reshape(len(chunk), -1)
        fits = (flat >= 0) & (flat <= 255) & (np.floor(flat) == flat)
        if not fits.all():
            row, column = np.argwhere(~fits)[0]
            raise InvalidInputError(
                "the served model takes uint8: X must hold whole numbers in [0, 255], got "
                f"{flat[row, column]} in row {start + row}; "
                "give the images in the unit of the fitted ones"
            )
        start += len(chunk)

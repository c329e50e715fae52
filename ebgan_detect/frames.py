"""Frames of pandas and polars: which of their columns hold no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ebgan_detect.errors import InvalidInputError

__all__ = ["check_columns", "check_dates"]


def check_dates(x: Any) -> None:
    """Refuse dates and times of polars, which turn into numbers of one unit or another.

    Parameters
    ----------
    x : object
        A frame; all else passes.

    Raises
    ------
    InvalidInputError
        If a column holds dates, times or durations, naming the first.
    """
    for name, column in _columns(x) if hasattr(x, "iter_columns") else ():
        if column.dtype.is_temporal():
            _refuse_column(name, column)


def check_columns(x: Any) -> None:
    """Name the first column of a frame that holds no numbers, if there is one.

    Parameters
    ----------
    x : object
        A frame; all else passes.

    Raises
    ------
    InvalidInputError
        If there is such a column.
    """
    for name, column in _columns(x):
        try:
            values = np.asarray(column, dtype=object)
            values.astype(np.float64)
            # polars, which has types for all numbers, holds digits as text where it is meant.
            is_numeric = not hasattr(x, "iter_columns") or not any(
                isinstance(v, str) for v in values
            )
        except (ValueError, TypeError):
            is_numeric = False
        if not is_numeric:
            _refuse_column(name, column)


def _refuse_column(name: Any, column: Any) -> None:
    """Name a column that holds no numbers."""
    kind = getattr(column, "dtype", "another type")
    raise InvalidInputError(
        f"X must hold numbers, got {kind} in column {name!r}; encode text and dates, "
        "and fill in what is missing"
    )


def _columns(x: Any) -> Iterator[tuple[Any, Any]]:
    """Columns of a pandas or polars frame, with their names; of all else none."""
    if hasattr(x, "iter_columns"):
        yield from ((column.name, column) for column in x.iter_columns())
    elif hasattr(x, "items") and hasattr(x, "columns"):
        yield from x.items()

"""What all readers share."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ebgan_detect.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 2**16
"""Most rows of a CSV or Parquet file parsed at a time."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read rows; every option is for some kinds of files, and refused for others.

    Attributes
    ----------
    columns : sequence of str
        Columns of a table to keep, in this order; empty for all. Columns without a name
        count from ``'0'``.
    drop : sequence of str
        Columns of a table to leave out, such as a label.
    header : bool or None
        Whether a CSV file starts with column names; None looks whether its first line holds
        text. Text beside numbers is refused where the next line has numbers in its place.
    key : str or None
        Which array of an NPZ file; may be None if there is only one.
    size : tuple of int or None
        Height and width that pictures are resized to [pixels].
    """

    columns: Sequence[str] = ()
    drop: Sequence[str] = ()
    header: bool | None = None
    key: str | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class DataRows:
    """Some rows of a file, and what to call them.

    Attributes
    ----------
    values : ndarray or DataFrame of shape (n, d), (n, h, w) or (n, c, h, w)
        The rows: a DataFrame where the columns have names; uint8 for pictures.
    names : ndarray of shape (n,)
        Line numbers in a text file from 1, paths of pictures within their folder, or row
        numbers from 0.
    kind : {'line', 'file', 'row'}
        What `names` are.
    """

    values: NDArray[Any] | pd.DataFrame
    names: NDArray[Any]
    kind: str


def absent(path: Path) -> FileNotFoundError:
    """The error of the operating system for a path that is not there."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def optional_module(name: str, purpose: str, extra: str = "cli") -> Any:
    """Import an optional package."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"PIL": "pillow"}.get(name.partition(".")[0], name.partition(".")[0])
        raise MissingDependencyError(
            f"{purpose} needs {package}: pip install 'ebgan-detect[{extra}]'"
        ) from error


def rows_in(chunk_bytes: int, n_values: int) -> int:
    """Rows in a chunk."""
    return max(1, chunk_bytes // (8 * max(1, n_values)))


def select_columns(path: Path, names: Sequence[str], options: ReadOptions) -> list[int]:
    """Positions of the columns to take."""
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(f"{path}: column names must be distinct, got {double!r} twice")
    if len(set(options.columns)) < len(options.columns):
        double = next(name for name in options.columns if options.columns.count(name) > 1)
        raise InvalidInputError(f"columns must name every column once, got {double!r} twice")
    for option in ("columns", "drop"):
        unknown = [name for name in getattr(options, option) if name not in names]
        if unknown:
            known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise InvalidInputError(
                f"{option} must name columns of {path} ({known}), got {unknown[0]!r}"
            )
    chosen = [name for name in options.columns or names if name not in options.drop]
    if not chosen:
        raise InvalidInputError(f"{path}: at least one column must be left, got none; drop fewer")
    return [names.index(name) for name in chosen]

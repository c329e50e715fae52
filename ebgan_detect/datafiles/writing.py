"""Tables of scores to files."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ebgan_detect.datafiles._shared import optional_module
from ebgan_detect.errors import InvalidInputError
from ebgan_detect.files import check_writable, write_atomically

__all__ = ["as_csv", "check_output", "write_table"]

TABLE_SUFFIXES = (".csv", ".parquet")


def check_output(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether `write_table` can take a path.

    Parameters
    ----------
    path : path-like
        Target file.

    Raises
    ------
    InvalidInputError
        If its suffix is neither ``.csv`` nor ``.parquet``.
    OSError
        If it is a folder, or its folder does not exist or cannot be written.
    """
    if Path(path).suffix.lower() not in TABLE_SUFFIXES:
        raise InvalidInputError(
            f"a table is written to a file ending in {' or '.join(TABLE_SUFFIXES)}, got {path}"
        )
    by_suffix = {".csv": ("pandas", "writing CSV"), ".parquet": ("pyarrow", "writing Parquet")}
    optional_module(*by_suffix[Path(path).suffix.lower()])
    check_writable(path)


def write_table(path: str | os.PathLike[str], table: Mapping[str, NDArray[Any]]) -> None:
    """Write columns to a CSV or Parquet file that is whole or not there.

    Parameters
    ----------
    path : path-like
        Target file, ending in ``.csv`` or ``.parquet``; its folder must exist.
    table : mapping of str to ndarray of shape (n,)
        Columns by name.

    Raises
    ------
    InvalidInputError
        If the suffix is another one.
    OSError
        If the file cannot be written.
    """
    check_output(path)
    if Path(path).suffix.lower() == ".csv":
        write_atomically(path, as_csv(table).encode())
        return
    parquet = optional_module("pyarrow.parquet", "writing Parquet")
    stream = io.BytesIO()
    parquet.write_table(optional_module("pyarrow", "writing Parquet").table(dict(table)), stream)
    write_atomically(path, stream.getvalue())


def as_csv(table: Mapping[str, NDArray[Any]], *, header: bool = True) -> str:
    r"""Format columns as CSV; floats keep every digit that matters.

    Parameters
    ----------
    table : mapping of str to ndarray of shape (n,)
        Columns by name.
    header : bool
        Whether the first line holds the names.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> as_csv({"row": np.array([0]), "score": np.array([-0.5])})
    'row,score\n0,-0.5\n'
    """
    frame = optional_module("pandas", "writing CSV").DataFrame(dict(table))
    return str(frame.to_csv(index=False, header=header, lineterminator="\n"))

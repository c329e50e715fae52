"""Rows from a path, whatever kind of file it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ebgan_detect.datafiles._arrays import npy_chunks, npz_chunks, parquet_chunks
from ebgan_detect.datafiles._pictures import IMAGE_SUFFIXES, image_chunks
from ebgan_detect.datafiles._shared import DataRows, ReadOptions, absent, optional_module
from ebgan_detect.datafiles._text import CSV_SUFFIXES, csv_chunks
from ebgan_detect.errors import InvalidInputError

__all__ = ["read_rows", "stream_rows"]

Reader = Callable[[Path, ReadOptions, int], Iterator[DataRows]]

FOLDER = "/"  # no suffix
TABLE = ("columns", "drop")
READERS: Mapping[str, tuple[Reader, tuple[str, ...]]] = {
    **dict.fromkeys(CSV_SUFFIXES, (csv_chunks, (*TABLE, "header"))),
    ".npy": (npy_chunks, TABLE),
    ".npz": (npz_chunks, (*TABLE, "key")),
    ".parquet": (parquet_chunks, TABLE),
    **dict.fromkeys((FOLDER, *IMAGE_SUFFIXES), (image_chunks, ("size",))),
}
"""The reader for each suffix, or a folder, and the options that it takes."""
NO_OPTIONS = ReadOptions()


def read_rows(path: str | os.PathLike[str], options: ReadOptions = NO_OPTIONS) -> DataRows:
    """Read all rows of a file, or all pictures of a folder.

    Parameters
    ----------
    path : path-like
        CSV, TSV, NPY (memory-mapped), NPZ, Parquet or picture file; or a folder, whose
        pictures are taken with those of its subfolders in the order of their paths.
    options : ReadOptions
        What to take from it.

    Returns
    -------
    DataRows
        At least one row. nan and infinity are refused in text files only.

    Raises
    ------
    InvalidInputError
        If the file is damaged, empty, of an unknown kind, or holds something else than
        numbers; the line and column, or the picture, is named.
    MissingDependencyError
        If reading it needs a package that is not installed.
    OSError
        If the file is absent or cannot be read.

    See Also
    --------
    stream_rows : The same in bounded memory.
    """
    chunks = list(_chunks(Path(path), options, sys.maxsize))
    if len(chunks) == 1:
        return chunks[0]
    names = np.concatenate([chunk.names for chunk in chunks])
    parts: list[Any] = [chunk.values for chunk in chunks]
    if isinstance(parts[0], np.ndarray):
        return DataRows(np.concatenate(parts), names, chunks[0].kind)
    frame = optional_module("pandas", "reading tables").concat(parts, ignore_index=True)
    return DataRows(frame, names, chunks[0].kind)


def stream_rows(
    path: str | os.PathLike[str], options: ReadOptions = NO_OPTIONS, *, chunk_bytes: int = 2**25
) -> Iterator[DataRows]:
    """Read rows a chunk at a time; only an NPZ file is held as a whole.

    Parameters
    ----------
    path : path-like
        As in `read_rows`.
    options : ReadOptions
        As in `read_rows`.
    chunk_bytes : int
        Size of a chunk if its values were float64; at least one row.

    Yields
    ------
    DataRows
        Consecutive rows, whose values are finite.

    Raises
    ------
    InvalidInputError
        As in `read_rows`, and if a value is nan or infinite.
    MissingDependencyError
        As in `read_rows`.
    OSError
        As in `read_rows`.
    """
    for rows in _chunks(Path(path), options, chunk_bytes):
        flat = np.asarray(rows.values).reshape(len(rows.names), -1)
        if flat.dtype.kind == "f" and not np.isfinite(flat).all():
            i, j = np.argwhere(~np.isfinite(flat))[0]
            raise InvalidInputError(
                f"{path}, {rows.kind} {rows.names[i]}: every value must be finite, got "
                f"{flat[i, j]}; impute or drop such rows"
            )
        yield rows


def _chunks(path: Path, options: ReadOptions, chunk_bytes: int) -> Iterator[DataRows]:
    """Chunks from the reader that a path needs; at least one."""
    if not path.exists():
        raise absent(path)
    suffix = FOLDER if path.is_dir() else path.suffix.lower()
    if suffix not in READERS:
        raise InvalidInputError(
            "data must be a folder of pictures or a file ending in "
            f"{', '.join(sorted(READERS.keys() - {FOLDER}))}, got {path}"
        )
    reader, applicable = READERS[suffix]
    given = [name for name, value in vars(options).items() if value or value is False]
    wrong = [name for name in given if name not in applicable]
    if wrong:
        raise InvalidInputError(
            f"options for {path} must be among {', '.join(applicable)}, got {wrong[0]}"
        )
    empty = True
    for rows in reader(path, options, chunk_bytes):
        empty = False
        yield rows
    if empty:
        raise InvalidInputError(f"{path} must hold at least one row, got none")

"""NPY, NPZ and Parquet files."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from ebgan_detect.datafiles._shared import (
    ROWS_AT_ONCE,
    DataRows,
    ReadOptions,
    optional_module,
    rows_in,
    select_columns,
)
from ebgan_detect.errors import InvalidInputError

NUMBER_TYPES = ("integer", "floating", "boolean")


def npy_chunks(path: Path, options: ReadOptions, chunk_bytes: int) -> Iterator[DataRows]:
    """Rows of an array on the disk."""
    with path.open("rb") as stream:
        if stream.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
            raise _other_content(path, "NPY", "another kind of file or a damaged one")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _other_content(path, "NPY", error) from error
    yield from _array_chunks(path, array, options, chunk_bytes)


def npz_chunks(path: Path, options: ReadOptions, chunk_bytes: int) -> Iterator[DataRows]:
    """Rows of one array of an archive."""
    if not zipfile.is_zipfile(path):
        raise _other_content(path, "NPZ", "another kind of file or a damaged one")
    try:
        # Opened here, because numpy leaves its own file open when the archive is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            keys = list(archive)
            if options.key not in keys and (options.key is not None or len(keys) != 1):
                raise InvalidInputError(
                    f"key must name one of the arrays of {path} ({', '.join(keys)}), got "
                    f"{options.key!r}"
                )
            array = archive[options.key or keys[0]]
    except InvalidInputError:
        raise
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise _other_content(path, "NPZ", error) from error
    yield from _array_chunks(path, array, options, chunk_bytes)


def _other_content(path: Path, kind: str, got: object) -> InvalidInputError:
    """The error of a file that holds something else; numpy would advise to allow pickles."""
    got = "objects" if "allow_pickle" in str(got) else got
    writer = {"NPY": "save", "NPZ": "savez"}[kind]
    return InvalidInputError(
        f"{path} must be an {kind} file of numbers, got {got}; write it again with numpy.{writer}"
    )


def _array_chunks(
    path: Path, array: NDArray[Any], options: ReadOptions, chunk_bytes: int
) -> Iterator[DataRows]:
    """Slices of an array."""
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3, 4):
        raise InvalidInputError(
            f"{path} must hold an array of shape (n, d), (n, h, w) or (n, c, h, w), got "
            f"{getattr(array, 'shape', 'an archive')}"
        )
    positions = None
    if options.columns or options.drop:
        if array.ndim != 2:
            raise InvalidInputError(
                f"columns and drop need a table, got an array of shape {array.shape} in {path}"
            )
        positions = select_columns(path, [str(i) for i in range(array.shape[1])], options)
    size = rows_in(chunk_bytes, math.prod(array.shape[1:]))
    for start in range(0, len(array), size):
        values = array[start : start + size]
        values = values if positions is None else values[:, positions]
        yield DataRows(values, np.arange(start, start + len(values)), "row")


def parquet_chunks(path: Path, options: ReadOptions, chunk_bytes: int) -> Iterator[DataRows]:
    """Rows of a Parquet file, some at a time."""
    arrow = optional_module("pyarrow", "reading Parquet")
    parquet = optional_module("pyarrow.parquet", "reading Parquet")
    start = 0
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            index = (schema.pandas_metadata or {}).get("index_columns", ())
            names = [name for name in schema.names if name not in index]
            chosen = [names[i] for i in select_columns(path, names, options)]
            for name in chosen:
                kind = schema.field(name).type
                if not any(getattr(arrow.types, f"is_{k}")(kind) for k in NUMBER_TYPES):
                    raise InvalidInputError(
                        f"{path}, column {name!r} must hold numbers, got {kind}; encode it or "
                        "drop the column"
                    )
            size = min(rows_in(chunk_bytes, len(chosen)), ROWS_AT_ONCE)
            for batch in file.iter_batches(size, columns=chosen):
                for name in chosen:
                    if batch[name].null_count:
                        row = start + batch[name].is_null().index(True).as_py()
                        raise InvalidInputError(
                            f"{path}, row {row}, column {name!r} must be a number, got null; "
                            "impute or drop such rows"
                        )
                frame = batch.select(chosen).to_pandas()
                if frame.dtypes.nunique() > 1:  # bool beside float would make an array of objects
                    frame = frame.astype(dict.fromkeys(frame.select_dtypes("bool"), "uint8"))
                yield DataRows(frame, np.arange(start, start + len(batch)), "row")
                start += len(batch)
    except arrow.ArrowException as error:
        raise InvalidInputError(f"{path} must be a Parquet file, got: {error}") from error

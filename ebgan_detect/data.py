"""One view over every kind of input, read a few rows at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array
from torch import Tensor
from typing_extensions import override

from ebgan_detect.errors import InvalidInputError
from ebgan_detect.frames import check_columns, check_dates

__all__ = ["Rows", "as_rows", "largest_magnitude", "to_tensor"]

NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)
VALUES_AT_ONCE = 2**18
"""Values in a chunk where only they are looked at."""
HELD_BYTES = 2**31
"""Items of a data set are kept in memory up to this size where they are needed repeatedly."""


class Rows:
    """Rows of some input, read a few at a time and copied as a whole by `held` alone.

    Parameters
    ----------
    values : ndarray or Tensor of shape (n, ...)
        Real numbers; may be a memory map.

    Attributes
    ----------
    shape : tuple of int
        ``(n, ...)``.
    is_uint8 : bool
        Whether the values have dtype uint8.
    """

    def __init__(self, values: NDArray[Any] | Tensor) -> None:
        self.values = values
        self.shape = tuple(values.shape)
        self.is_uint8 = values.dtype in (np.uint8, torch.uint8)

    def __len__(self) -> int:
        return int(self.shape[0])

    def read(self, rows: slice | NDArray[np.intp]) -> NDArray[Any] | Tensor:
        """Read some rows.

        Parameters
        ----------
        rows : slice or ndarray of int
            Which rows.

        Returns
        -------
        ndarray or Tensor of shape (len(rows), ...)
            For a slice, a view where the input allows one.
        """
        if isinstance(self.values, Tensor) and not isinstance(rows, slice):
            return self.values[torch.from_numpy(rows).to(self.values.device)]
        return self.values[rows]

    def held(self) -> Rows:
        """The same rows for repeated reading, in memory if making them costs work.

        Returns
        -------
        Rows
            The items of a data set, read once, where they take up to `HELD_BYTES`; otherwise
            these very rows.
        """
        return self

    def chunks(
        self, size: int, rows: NDArray[np.intp] | None = None
    ) -> Iterator[NDArray[Any] | Tensor]:
        """Read all rows, or the given ones, in order.

        Parameters
        ----------
        size : int
            Rows in a chunk; the last may be shorter.
        rows : ndarray of int, optional
            Row numbers; all rows when absent.

        Yields
        ------
        ndarray or Tensor of shape (<= size, ...)
            Consecutive chunks.
        """
        n = len(self) if rows is None else len(rows)
        for start in range(0, n, size):
            part = slice(start, min(start + size, n))
            yield self.read(part if rows is None else rows[part])

    def arrays(
        self, size: int | None = None, rows: NDArray[np.intp] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Read chunks as NumPy arrays.

        Parameters
        ----------
        size : int, optional
            Rows in a chunk; as many as make `VALUES_AT_ONCE` values when absent.
        rows : ndarray of int, optional
            Row numbers; all rows when absent.

        Yields
        ------
        ndarray of shape (<= size, ...)
            Consecutive chunks.
        """
        size = size or max(1, VALUES_AT_ONCE // math.prod(self.shape[1:]))
        for chunk in self.chunks(size, rows):
            yield _numpy(chunk) if isinstance(chunk, Tensor) else chunk

    def tensors(
        self, size: int, device: torch.device, rows: NDArray[np.intp] | None = None
    ) -> Iterator[Tensor]:
        """Read chunks as tensors, and refuse nan and infinity on the way.

        Parameters
        ----------
        size : int
            Rows in a chunk.
        device : device
            Where to put them.
        rows : ndarray of int, optional
            Row numbers; all rows when absent.

        Yields
        ------
        Tensor of shape (<= size, ...)
            Consecutive chunks, in a dtype that torch computes with; read only.

        Raises
        ------
        InvalidInputError
            If a value is nan or infinite, naming the first such row.
        """
        start = 0
        for chunk in self.chunks(size, rows):
            tensor = to_tensor(chunk, device)
            # A sum is finite only if every term is; it may overflow, so look again before refusing.
            if tensor.is_floating_point() and not math.isfinite(tensor.sum()):
                _refuse_non_finite(
                    torch.isfinite(tensor).flatten(1).all(dim=1).cpu().numpy(), start
                )
            start += len(tensor)
            yield tensor

    def check_finite(
        self, *, integers: bool = False, largest: float = np.inf
    ) -> tuple[float, float]:
        """Refuse nan and infinity, and find the range of the values.

        Parameters
        ----------
        integers : bool
            Whether to read integers too, which are always finite, for their range.
        largest : float
            Refuse values beyond this size too.

        Returns
        -------
        low, high : float
            Smallest and largest value; nan for integers that are not read.

        Raises
        ------
        InvalidInputError
            If a value is nan, infinite or too large, naming the first such row.
        """
        low, high = np.inf, -np.inf
        start = 0
        for chunk in self.arrays():
            if chunk.dtype.kind != "f" and not integers:
                return np.nan, np.nan
            least, most = chunk.min(), chunk.max()
            if not (np.isfinite(least) and np.isfinite(most)):
                _refuse_non_finite(np.isfinite(chunk.reshape(len(chunk), -1)).all(axis=1), start)
            low, high = min(low, float(least)), max(high, float(most))
            if max(-low, high) > largest:
                sizes = np.abs(chunk.reshape(len(chunk), -1)).max(axis=1)
                raise InvalidInputError(
                    f"X must hold values up to {largest:.3g}, got {sizes.max():.3g} in row "
                    f"{start + int(sizes.argmax())}, a code for what is missing perhaps; impute or "
                    "drop such rows"
                )
            start += len(chunk)
        return low, high


class _DatasetRows(Rows):
    """Rows of a map-style torch data set, collated when they are read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        if len(dataset) == 0:
            raise InvalidInputError(
                "Found array with 0 sample(s) while a minimum of 1 is required: X is an empty "
                "Dataset"
            )
        first = _item(dataset[0])
        self.shape = (len(dataset), *first.shape)
        self.dtype = first.dtype
        self.is_uint8 = first.dtype == np.uint8

    @override
    def held(self) -> Rows:
        if math.prod(self.shape) * self.dtype.itemsize > HELD_BYTES:
            return self
        values, start = np.empty(self.shape, self.dtype), 0
        for chunk in self.arrays():
            values = values.astype(np.result_type(values, chunk), copy=False)
            values[start : start + len(chunk)] = chunk
            start += len(chunk)
        return Rows(values)

    @override
    def read(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        numbers = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        many = getattr(self.dataset, "__getitems__", None)
        items = many(list(numbers)) if many else (self.dataset[i] for i in numbers)
        arrays = [_item(item) for item in items]
        if any(array.shape != self.shape[1:] for array in arrays):
            raise InvalidInputError(
                f"items of a Dataset must all have shape {self.shape[1:]}, got "
                f"{sorted({array.shape for array in arrays})}; resize them in its transform"
            )
        return np.stack(arrays)


def as_rows(x: Any) -> Rows:
    """Wrap any supported input.

    Parameters
    ----------
    x : array-like, Tensor, DataFrame or Dataset
        Numbers of shape ``(n, d)``, ``(n, h, w)`` or ``(n, c, h, w)``. An item of a data set
        may be a tuple, whose first entry counts; pictures become ``(c, h, w)``.

    Returns
    -------
    Rows
        A view; only lists and frames of mixed types are copied.

    Raises
    ------
    InvalidInputError
        If the input is empty, not numeric, complex or of another rank.
    TypeError
        If it is sparse, or holds objects that are no numbers, in scikit-learn's words.
    """
    if isinstance(x, torch.utils.data.Dataset):
        if isinstance(x, torch.utils.data.IterableDataset) or not hasattr(x, "__len__"):
            raise InvalidInputError(
                "X must be a Dataset with a length and numbered items, got "
                f"{type(x).__name__}; collect an iterable one into an array first"
            )
        rows: Rows = _DatasetRows(x)
    elif isinstance(x, torch.utils.data.DataLoader):
        raise InvalidInputError("X must be rows or a Dataset, got a DataLoader; give its .dataset")
    elif isinstance(x, str | bytes | os.PathLike):
        raise InvalidInputError(
            f"X must be rows or a Dataset, got {x!r}; read the file first, as ebgan_detect."
            "datafiles.read_rows does"
        )
    elif isinstance(x, Tensor) and not x.is_complex() and x.layout == torch.strided:
        rows = Rows(x.detach().resolve_neg())
    else:
        rows = Rows(_as_array(x))
    _check_shape(rows.shape)
    return rows


def _as_array(x: Any) -> NDArray[Any]:
    """Let scikit-learn turn array-likes into an array, without a copy where there is none."""
    if isinstance(x, Tensor):
        kind = "complex" if x.is_complex() else str(x.layout)
        raise InvalidInputError(f"X must be a dense real tensor, got a {kind} one")
    check_dates(x)
    array: NDArray[Any]
    try:
        with np.errstate(invalid="raise"):
            array = check_array(
                x, dtype="numeric", ensure_all_finite=False, allow_nd=True, ensure_min_features=0
            )
    except FloatingPointError as error:  # pandas would make some int of what is missing
        raise InvalidInputError(
            "X must hold numbers, got categories where some are missing; impute or drop such rows"
        ) from error
    except (ValueError, TypeError) as error:
        check_columns(x)
        if isinstance(error, TypeError):
            raise
        raise InvalidInputError(str(error)) from error
    if array.dtype.kind not in "buif":
        check_columns(x)
        if array.dtype.kind == "O":  # a frame of nothing but categories, for example
            with suppress(ValueError, TypeError):
                return array.astype(np.float64)
        raise InvalidInputError(
            f"X must hold numbers, got dtype {array.dtype}; encode text and dates first"
        )
    return array


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuse ranks and sizes that no detector can take."""
    if len(shape) == 1:
        raise InvalidInputError(
            f"Expected 2D array, got 1D array instead: X has shape {shape}. Reshape your data "
            "either using array.reshape(-1, 1) if your data has a single feature or "
            "array.reshape(1, -1) if it contains a single sample."
        )
    if len(shape) not in (2, 3, 4):
        raise InvalidInputError(f"X must have shape (n, d), (n, h, w) or (n, c, h, w), got {shape}")
    if shape[0] == 0:
        raise InvalidInputError(
            f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required."
        )
    if 0 in shape:
        raise InvalidInputError(
            f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required."
        )


def _numpy(tensor: Tensor) -> NDArray[Any]:
    """A tensor as an array; floating types that NumPy lacks become float32."""
    known = not tensor.is_floating_point() or tensor.dtype in NUMPY_FLOATS
    array: NDArray[Any] = (tensor if known else tensor.float()).cpu().numpy()
    return array


def _item(item: Any) -> NDArray[Any]:
    """One row of a data set as an array."""
    array: NDArray[Any]
    value = item[0] if isinstance(item, tuple | list) and item else item
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_complex():
            raise InvalidInputError(
                f"items of a Dataset must be dense real tensors, got one of {value.dtype}, "
                f"{value.layout}; give the Dataset a transform"
            )
        value = _numpy(value.detach().resolve_neg())
    is_picture = hasattr(value, "getbands")
    if is_picture and "P" in value.getbands():
        value = value.convert("RGB")  # entries of a palette are no grey levels
    if is_picture and value.getbands() == ("1",):
        value = value.convert("L")  # white is 255, as in other pictures
    array = np.asarray(value)
    if is_picture and array.ndim == 3:
        array = np.moveaxis(array, -1, 0)
    if array.dtype.kind not in "buif" or array.ndim == 0:
        raise InvalidInputError(
            "items of a Dataset must be arrays, tensors or pictures (or tuples that start with "
            f"one), got {type(value).__name__}; give the Dataset a transform"
        )
    return array


def _refuse_non_finite(is_finite: NDArray[np.bool_], start: int) -> None:
    """Name the first row that is not finite, if there is one; `start` is the first row's number."""
    if not is_finite.all():
        raise InvalidInputError(
            "Input X contains NaN or infinity: every value must be finite, got otherwise first in "
            f"row {start + int(np.argmin(is_finite))}; impute or drop such rows"
        )


def to_tensor(chunk: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Move a chunk to a device in a dtype that torch computes with.

    Parameters
    ----------
    chunk : ndarray or Tensor of shape (n, ...)
        Real numbers of any dtype.
    device : device
        Where to.

    Returns
    -------
    Tensor of shape (n, ...)
        May share memory with `chunk`: read only.
    """
    if isinstance(chunk, Tensor):
        return chunk.to(device)
    if chunk.dtype.kind == "f" and chunk.dtype.itemsize not in (2, 4, 8):
        chunk = chunk.astype(np.float64)
    elif not chunk.dtype.isnative or any(
        stride < 0 or stride % chunk.itemsize for stride in chunk.strides
    ):
        chunk = chunk.astype(chunk.dtype.newbyteorder("="), order="C")
    elif not chunk.flags.writeable:
        chunk = chunk.copy()
    return torch.from_numpy(chunk).to(device)


def largest_magnitude(chunk: Tensor) -> float:
    """Size of the value that is farthest from 0.

    Parameters
    ----------
    chunk : Tensor of shape (n, ...)
        Finite numbers of any real dtype, at least one.

    Returns
    -------
    float
        Its absolute value, >= 0.
    """
    if chunk.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch only stores these
        chunk = chunk.double()
    low, high = chunk.aminmax()
    return max(abs(low.item()), abs(high.item()))

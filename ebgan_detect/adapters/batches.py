"""A saved detector over data that come in batches, as clusters hand them out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.base import ANSWERS, BaseDetector
from ebgan_detect.errors import InvalidInputError, InvalidParameterError, MissingDependencyError
from ebgan_detect.persistence import load

__all__ = ["BatchScorer"]

EXTENDING = ("append_column", "assign")
"""Methods by which Arrow tables and pandas frames take further columns."""


class BatchScorer:
    """Add the answers of a saved detector to batches of rows.

    Ray Data's `map_batches` takes the class, and loads the file once in each of its workers;
    whatever maps a function over pandas frames, Arrow tables or dictionaries of arrays takes an
    object. Columns that were not fitted are carried along.

    Parameters
    ----------
    file : path-like
        Written by `save`; read when the first batch comes, by the process that it comes to.
    *names : {'energy', 'score', 'decision', 'label', 'p_value'}
        Which answers; all when none is named.
    column : str, default=None
        Column whose values are rows, such as images. None: the columns of the fit, by name
        where they had some; else all columns, or the only one if its values are rows.
    prefix : str, default=''
        Before the names of the answers.
    device : str, default='auto'
        Where each worker computes.

    Raises
    ------
    InvalidParameterError
        If a name is unknown.

    See Also
    --------
    ebgan_detect.TritonDetector : A served detector, for rows that come one by one.

    Examples
    --------
    >>> from ebgan_detect import EBGANDetector, save
    >>> rows = np.random.default_rng(0).normal(size=(300, 2))
    >>> save(EBGANDetector(max_epochs=5, random_state=0).fit(rows), "model.ebgan")
    >>> scorer = BatchScorer("model.ebgan", "label")
    >>> scorer({"x": [0.0, 9.0], "y": [0.0, -9.0]})["label"]
    array([ 1, -1])

    On a cluster, with four workers of one GPU each::

        rows.map_batches(
            BatchScorer,
            fn_constructor_args=("model.ebgan", "energy", "p_value"),
            batch_size=4096,
            concurrency=4,
            num_gpus=1,
        ).write_parquet("scores")
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *names: str,
        column: str | None = None,
        prefix: str = "",
        device: str = "auto",
    ) -> None:
        unknown = [name for name in names if name not in ANSWERS]
        if unknown:
            raise InvalidParameterError(f"names must be among {list(ANSWERS)}, got {unknown[0]!r}")
        self.file = file
        self.names = names or tuple(ANSWERS)
        self.column = column
        self.prefix = prefix
        self.device = device

    def __getstate__(self) -> dict[str, Any]:
        """Each process reads the file for itself."""
        return {name: value for name, value in vars(self).items() if name != "detector"}

    @cached_property
    def detector(self) -> BaseDetector:
        """The detector, loaded when first used.

        Returns
        -------
        BaseDetector
            What the file holds.

        Raises
        ------
        ModelFileError
            As in `load`.
        FileNotFoundError
            If this process does not see the file.
        """
        return load(self.file, device=self.device)

    def __call__(self, batch: Any) -> Any:
        """Score one batch.

        Parameters
        ----------
        batch : dict of str to array-like, pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatch
            n rows; n may be 0. Images may be nested lists or tensors, or flat.

        Returns
        -------
        dict, DataFrame, Table or RecordBatch
            As given, with one more column for each answer; the batch itself stays as it is.

        Raises
        ------
        InvalidInputError
            If the batch is of another kind, columns are missing, of unequal length or hold other
            than numbers, or an answer's name is taken.
        MissingDependencyError
            If the fit had column names, the batch is a dictionary, and pandas is absent.
        """
        if not isinstance(batch, Mapping) and not any(map(partial(hasattr, batch), EXTENDING)):
            raise InvalidInputError(
                "batch must be a dictionary of arrays, a pandas frame or an Arrow table, got "
                f"{type(batch).__name__}"
            )
        given = list(getattr(batch, "column_names", batch))
        taken = [self.prefix + name for name in self.names if self.prefix + name in given]
        if taken:
            raise InvalidInputError(
                f"batch must leave the names of the answers free, got a column {taken[0]!r}; give "
                "BatchScorer a prefix"
            )
        rows = self._rows(batch, given)
        if len(rows):
            answers = self.detector.outputs(rows, *self.names)
        else:
            answers = {name: ANSWERS[name](self.detector, np.empty(0)) for name in self.names}
        return _extended(batch, {self.prefix + name: answers[name] for name in self.names})

    def _rows(self, batch: Any, given: list[str]) -> Any:
        """What the detector is to score."""
        detector = self.detector
        fitted = getattr(detector, "feature_names_in_", None)
        wanted = [self.column] if self.column is not None else given if fitted is None else fitted
        missing = [name for name in wanted if name not in given]
        if missing:
            raise InvalidInputError(
                f"batch must have the column {missing[0]!r}, got {', '.join(map(str, given))}"
            )
        if not len(wanted):
            raise InvalidInputError("batch must have columns, got none")
        columns = [_array(batch[name], name) for name in wanted]
        if len(columns) == 1 and (columns[0].ndim > 1 or self.column is not None):
            return _shaped(columns[0], detector.input_shape_)
        ragged = [name for name, column in zip(wanted, columns, strict=True) if column.ndim > 1]
        if ragged:
            raise InvalidInputError(
                f"batch must have one number in each column, or rows in one, got rows in "
                f"{ragged[0]!r} beside others; give BatchScorer column={ragged[0]!r}"
            )
        lengths = {len(column) for column in columns}
        if len(lengths) > 1:
            raise InvalidInputError(f"batch must have columns of one length, got {sorted(lengths)}")
        if fitted is None:
            return np.stack(columns, axis=1)
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise MissingDependencyError(
                "batches for a detector with column names need pandas: pip install pandas"
            ) from error
        return DataFrame(dict(zip(wanted, columns, strict=True)))


def _array(column: Any, name: str) -> NDArray[Any]:
    """Numbers of one column, rows in it stacked."""
    try:
        values = _stacked(column)
        if values.dtype == object:
            if any(isinstance(value, str) for value in values.flat):
                raise TypeError("text")
            values = values.astype(np.float64)
        values = _as_tensor(values, getattr(column, "type", None))
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # Arrow's are the last
        raise InvalidInputError(
            f"batch, column {name!r} must hold numbers, or rows of one shape, got: {error}"
        ) from error
    if values.ndim == 0 or values.dtype.kind not in "buif":
        kind = type(column).__name__ if values.ndim == 0 else values.dtype
        raise InvalidInputError(
            f"batch, column {name!r} must hold numbers, or rows of one shape, got {kind}"
        )
    return values


def _stacked(column: Any) -> NDArray[Any]:
    """Values, the lists or arrays among them stacked however deep they are nested."""
    values = np.asarray(column)
    if values.dtype == object and len(values) and np.ndim(values[0]):
        return np.stack([_stacked(row) for row in values])
    return values


def _as_tensor(values: NDArray[Any], kind: Any) -> NDArray[Any]:
    """Values that Arrow gives flat in the shape of their type, which may order the axes anew."""
    shape = getattr(kind, "shape", None)
    if values.ndim != 2 or not isinstance(shape, tuple | list):
        return values
    axes = getattr(kind, "permutation", None) or range(len(shape))
    return values.reshape(-1, *shape).transpose(0, *(1 + axis for axis in axes))


def _shaped(rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Rows as they were fitted, where lists hold the values of each flat."""
    is_flat = rows.ndim == 2 and len(shape) > 1 and rows.shape[1] == math.prod(shape)
    return rows.reshape(-1, *shape) if is_flat else rows


def _extended(batch: Any, answers: Mapping[str, NDArray[Any]]) -> Any:
    """A batch with further columns, of the kind that it is."""
    if isinstance(batch, Mapping):
        return {**batch, **answers}
    if hasattr(batch, "append_column"):
        from pyarrow import array

        for name, values in answers.items():
            batch = batch.append_column(name, array(values))
        return batch
    return batch.assign(**answers)

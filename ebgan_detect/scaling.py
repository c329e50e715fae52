"""Input scaling as a module: float64 arithmetic in, float32 networks out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ebgan_detect.errors import InvalidParameterError

__all__ = ["SCALINGS", "Scaler", "dwarfed_columns", "fit_scaler"]

SCALINGS = ("auto", "standard", "minmax", "none")
QUARTILES_APART = 1.349
"""Distance between the quartiles of a standard normal distribution."""


class Scaler(nn.Module):
    """Affine map ``(x - shift) / scale`` in float64, rounded to float32 at the end.

    So equal values score alike, bit for bit, whatever their type.

    Parameters
    ----------
    shift, scale : Tensor of shape () or broadcastable to a row, float64
        Offset and divisor [input unit]; `scale` > 0.
    bounded : bool
        Whether the rows it was fitted on land in [0, 1].
    low, high : float
        Smallest and largest input value seen while fitting [input unit].
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, shift: Tensor, scale: Tensor, *, bounded: bool, low: float, high: float
    ) -> None:
        super().__init__()
        self.register_buffer("shift", shift.double())
        self.register_buffer("scale", scale.double())
        self.bounded = bounded
        self.low = low
        self.high = high

    def forward(self, x: Tensor) -> Tensor:
        """Scale rows.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Rows of any real dtype [input unit].

        Returns
        -------
        Tensor of shape (n, ...), float32
            Scaled rows; values beyond the fitted range are not clipped.
        """
        # A copy, and work in it, take half the time of a promotion: float32 minus float64.
        exact = x.double() if x.dtype != torch.float64 else x.clone()
        return exact.sub_(self.shift).mul_(self.scale.reciprocal()).float()

    def inverse(self, scaled: Tensor) -> Tensor:
        """Map scaled rows back to the input's unit.

        Parameters
        ----------
        scaled : Tensor of shape (n, ...)
            Scaled rows.

        Returns
        -------
        Tensor of shape (n, ...), float64
            Rows in the input's unit.
        """
        return (scaled.double() * self.scale).add_(self.shift)

    def contradicts(self, largest: float) -> bool:
        """Whether values plainly belong to another scale than the fitted ones.

        Parameters
        ----------
        largest : float
            Largest magnitude of the new values [input unit], >= 0.

        Returns
        -------
        bool
            True when it is less than a fiftieth, or more than fifty times, of the fitted one,
            as 1 against 255 is.
        """
        fitted = max(abs(self.low), abs(self.high))
        return fitted > 0 and largest > 0 and not 1 / 50 <= largest / fitted <= 50


def fit_scaler(
    chunks: Iterable[np.ndarray], input_shape: tuple[int, ...], kind: str, *, is_uint8: bool
) -> Scaler:
    """Learn a scaling from training rows, one chunk at a time.

    Parameters
    ----------
    chunks : iterable of ndarray of shape (n_chunk, *input_shape)
        Training rows [input unit]; read once.
    input_shape : tuple of int
        Shape of one row: ``(d,)`` for a table, longer for images.
    kind : {'auto', 'standard', 'minmax', 'none'}
        `'standard'`: mean 0 and variance 1 for each column of a table or over all pixels of
        images. `'minmax'`: onto [0, 1], likewise. `'none'`: as it is. `'auto'`: `'standard'`
        for tables; for images 1/255 of uint8 values, otherwise as it is when all values
        already lie in [0, 1], else `'minmax'`.
    is_uint8 : bool
        Whether the input has dtype uint8. In an image this means 0...255.

    Returns
    -------
    Scaler
        The fitted scaling. A constant column becomes 0, whatever its size.

    Raises
    ------
    InvalidParameterError
        If `kind` is unknown.

    Examples
    --------
    >>> scaler = fit_scaler([np.array([[0.0], [2.0]])], (1,), "standard", is_uint8=False)
    >>> scaler(torch.tensor([[4.0]]))
    tensor([[3.]])
    """
    if kind not in SCALINGS:
        raise InvalidParameterError(f"scaling must be one of {SCALINGS}, got {kind!r}")
    image = len(input_shape) > 1
    if kind == "auto" and image and is_uint8:
        return _scaler(np.zeros(1), np.full(1, 255.0), bounded=True, low=0.0, high=255.0)
    if kind == "auto" and not image:
        kind = "standard"
    # Imported when first needed: it costs a third of this package's own import time.
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    standard, extent = StandardScaler(), MinMaxScaler()
    for chunk in chunks:
        columns = chunk.reshape(-1, 1 if image else math.prod(input_shape)).astype(np.float64)
        extent.partial_fit(columns)
        if kind == "standard":
            standard.partial_fit(columns)
    low, high = float(extent.data_min_.min()), float(extent.data_max_.max())
    in_unit_interval = 0 <= low <= high <= 1
    if kind == "auto":
        kind = "none" if in_unit_interval else "minmax"
    if kind == "standard":
        # The mean of equal numbers may be another number, by the last digit of a large one.
        is_constant = extent.data_min_ == extent.data_max_
        shift = np.where(is_constant, extent.data_min_, standard.mean_)
        scale = np.where(is_constant, 1.0, standard.scale_)
        return _scaler(shift, scale, bounded=False, low=low, high=high)
    if kind == "minmax":
        spread = extent.data_max_ - extent.data_min_
        scale = np.where(spread > 0, spread, 1.0)
        return _scaler(extent.data_min_, scale, bounded=True, low=low, high=high)
    bounded = image and in_unit_interval
    return _scaler(np.zeros(1), np.ones(1), bounded=bounded, low=low, high=high)


def dwarfed_columns(rows: Tensor) -> dict[int, float]:
    """Columns of a table whose standard deviation comes from a few values.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Standardised rows: over all fitted rows each column has variance 1.

    Returns
    -------
    dict of int to float
        Column number, and how many times its standard deviation exceeds that of the normal
        distribution with the same quartiles; those above 50 only, and none whose quartiles
        are equal, as where a value is the usual one.

    Examples
    --------
    >>> dwarfed_columns(torch.tensor([[0.0, -1.0], [0.01, 0.0], [0.02, 0.5], [1.73, 1.2]]))
    {}
    >>> column = torch.cat([torch.linspace(-0.01, 0.01, 999), torch.tensor([31.6])])
    >>> list(dwarfed_columns(column[:, None]))
    [0]
    """
    low, high = np.quantile(rows.cpu().numpy(), (0.25, 0.75), axis=0)
    usual = (high - low) / QUARTILES_APART
    return {int(j): float(1 / usual[j]) for j in np.flatnonzero((usual > 0) & (usual < 0.02))}


def _scaler(
    shift: np.ndarray, scale: np.ndarray, *, bounded: bool, low: float, high: float
) -> Scaler:
    """Build a scaler from what scikit-learn fitted."""
    return Scaler(
        torch.from_numpy(shift), torch.from_numpy(scale), bounded=bounded, low=low, high=high
    )

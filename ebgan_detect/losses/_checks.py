"""Shapes that every formula insists on."""

from __future__ import annotations

from torch import Tensor

from ebgan_detect.errors import InvalidInputError

__all__ = ["check_same_shape", "check_vector"]


def check_same_shape(x: Tensor, reconstruction: Tensor) -> None:
    """Refuse what would be broadcast silently, to a wrong energy."""
    if x.shape != reconstruction.shape:
        raise InvalidInputError(
            f"reconstruction must have the input's shape {tuple(x.shape)}, "
            f"got {tuple(reconstruction.shape)}"
        )


def check_vector(name: str, values: Tensor) -> None:
    """Refuse what is not a non-empty vector, one value for each row."""
    if values.ndim != 1 or values.numel() == 0:
        raise InvalidInputError(f"{name} must have shape (n,), n >= 1, got {tuple(values.shape)}")

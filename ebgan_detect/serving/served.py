"""What the server says about a model, and what rows and answers must be like for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.errors import ServerError
from ebgan_detect.interchange import FORMAT, FORMAT_KEY, INPUT, OUTPUTS, ModelCard

__all__ = ["ServedModel"]

INPUT_TYPES: Mapping[str, np.dtype[Any]] = {
    "TYPE_FP32": np.dtype(np.float32),
    "TYPE_UINT8": np.dtype(np.uint8),
}
REQUEST_BYTES = 2**25
"""Input of one request; servers may refuse HTTP bodies above 64 MB."""


@dataclass(frozen=True)
class ServedModel:
    """A detector on a server, as its configuration describes it.

    Attributes
    ----------
    version : str
        Version that was asked for, or else the one described; '' where neither is known.
    max_batch_size : int
        Most rows in a request.
    input_shape : tuple of int
        Shape of one row.
    dtype : dtype
        float32 or uint8.
    offset : float or None
        Threshold on the score; None where the configuration describes another version.
    feature_names : tuple of str or None
        Column names, where the detector was fitted with some.
    digest : str or None
        Digest of all that makes the answers, equal for equal models only; None likewise.
    n_calibration : int or None
        Number of calibration rows, of which p-values are shares; None likewise.
    """

    version: str
    max_batch_size: int
    input_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: float | None
    feature_names: tuple[str, ...] | None
    digest: str | None
    n_calibration: int | None

    @classmethod
    def read(cls, config: Mapping[str, Any], model: str, version: str) -> ServedModel:
        """Read a model's configuration.

        Parameters
        ----------
        config : mapping
            Triton's model configuration, as JSON has it.
        model : str
            Name of the model, for messages.
        version : str
            Version asked for, or ''. A configuration describes the newest one.

        Returns
        -------
        ServedModel
            What it says.

        Raises
        ------
        ServerError
            If the model is none of this library's, or of a newer one.
        """
        told = config.get("parameters", {})
        metadata = {name: value.get("string_value", "") for name, value in told.items()}
        try:
            written = int(metadata[FORMAT_KEY])
            if written > FORMAT:
                raise ServerError(
                    f"model {model!r} has format {written}, this version calls up to {FORMAT}; "
                    "upgrade ebgan-detect"
                )
            card = ModelCard.read(metadata)
            (tensor,) = (entry for entry in config["input"] if entry["name"] == INPUT)
            is_described = version in ("", card.model_version or version)
            missing = OUTPUTS.keys() - {entry["name"] for entry in config["output"]}
            if missing:
                raise KeyError(*sorted(missing))
            return cls(
                version=version or card.model_version,
                max_batch_size=max(1, int(config["max_batch_size"])),
                input_shape=tuple(int(side) for side in tensor["dims"]),
                dtype=INPUT_TYPES[tensor["data_type"]],
                offset=card.offset if is_described else None,
                feature_names=card.input_names,
                digest=card.training_digest if is_described else None,
                n_calibration=card.n_calibration if is_described else None,
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ServerError(
                f"model {model!r} must be one that export_triton wrote, got a configuration with "
                f"something missing or unreadable ({error}); name another model or export it again"
            ) from error

    def may_be(self, other: ServedModel) -> bool:
        """Whether two descriptions can be of the same model.

        Parameters
        ----------
        other : ServedModel
            Description read at another time.

        Returns
        -------
        bool
            False if they cannot.
        """
        known = None not in (self.digest, other.digest)
        # Digests of older exports leave the threshold out.
        differ = known and (self.digest, self.offset) != (other.digest, other.offset)
        return self.input_shape == other.input_shape and not differ

    @property
    def n_features(self) -> int:
        """Values in a row.

        Returns
        -------
        int
            Their number.
        """
        return math.prod(self.input_shape)

    @property
    def rows_in_request(self) -> int:
        """Rows to send at a time unless fewer are asked for.

        Returns
        -------
        int
            At most `max_batch_size`, fewer where rows are large.
        """
        row_bytes = self.n_features * self.dtype.itemsize
        return max(1, min(self.max_batch_size, REQUEST_BYTES // row_bytes))

    def encode(self, chunk: NDArray[Any]) -> NDArray[Any]:
        """Bring checked rows into the model's input type.

        Parameters
        ----------
        chunk : ndarray of shape (n, *input_shape)
            Rows of any real type.

        Returns
        -------
        ndarray of shape (n, *input_shape)
            The rows in the type and layout that are sent; shares memory where it can.
        """
        return np.ascontiguousarray(chunk, dtype=self.dtype)

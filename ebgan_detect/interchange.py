"""What an exported model calls its input and its answers, and what it says about itself.

`ebgan_detect.export` writes this and `ebgan_detect.serving` reads it: both go by this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

__all__ = ["FORMAT", "FORMAT_KEY", "INPUT", "MAPS", "OUTPUTS", "PREFIX", "ModelCard"]

INPUT = "input"
OUTPUTS: Mapping[str, type[np.generic]] = {
    "energy": np.float32,
    "score": np.float32,
    "decision": np.float32,
    "label": np.int64,
    "p_value": np.float32,
}
"""Answers that every model has, one value for each row, by the names of `outputs`."""
MAPS: Mapping[str, str] = {"reconstruction": "reconstruct", "energy_map": "energy_map"}
"""Answers of a row's own shape that a model may have beside them, and the methods they equal."""
FORMAT = 1
PREFIX = "ebgan_detect."
FORMAT_KEY = f"{PREFIX}format"


@dataclass(frozen=True)
class ModelCard:
    """What an exported model says about itself, in the metadata of its file.

    Attributes
    ----------
    version : str
        The library's version.
    offset : float
        Threshold on the score.
    input_names : tuple of str or None
        Column names, where the detector was fitted with some.
    training_digest : str
        Digest of weights, scaling, calibration, threshold and transformers, equal for equal
        models only; ``2:`` stands before it. Older files lack that, and the threshold in it.
    n_calibration : int
        Number of calibration energies.
    model_version : str
        Number in a model repository; '' in a file of its own.
    format : int
        Version of all this.
    """

    version: str
    offset: float
    input_names: tuple[str, ...] | None
    training_digest: str
    n_calibration: int
    model_version: str = ""
    format: int = FORMAT

    def metadata(self) -> dict[str, str]:
        """The card as key and value strings; floats come back to the last bit.

        Returns
        -------
        dict of str to str
            Keys start with `PREFIX`. A `model_version` of '' is left out.
        """
        told = asdict(self) | {
            "offset": repr(self.offset),
            "input_names": json.dumps(self.input_names),
        }
        return {f"{PREFIX}{key}": str(value) for key, value in told.items() if value != ""}

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> ModelCard:
        """Read a card back.

        Parameters
        ----------
        metadata : mapping of str to str
            Key and value strings; others may be among them.

        Returns
        -------
        ModelCard
            What they say.

        Raises
        ------
        KeyError
            If something is missing.
        ValueError
            If something is unreadable.
        """
        names = json.loads(metadata[f"{PREFIX}input_names"])
        return cls(
            version=metadata[f"{PREFIX}version"],
            offset=float(metadata[f"{PREFIX}offset"]),
            input_names=None if names is None else tuple(map(str, names)),
            training_digest=metadata[f"{PREFIX}training_digest"],
            n_calibration=int(metadata[f"{PREFIX}n_calibration"]),
            model_version=metadata.get(f"{PREFIX}model_version", ""),
            format=int(metadata[FORMAT_KEY]),
        )

"""Anomaly detection with the energies of an energy-based GAN."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from ebgan_detect.detector import EBGANDetector
from ebgan_detect.errors import (
    CalibrationWarning,
    EBGANError,
    EBGANWarning,
    ExportError,
    InputRangeWarning,
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    ModelFileError,
    ServerError,
    TrainingDivergedError,
    TrainingHealthWarning,
    TrainingInterruptedWarning,
)
from ebgan_detect.persistence import load, save
from ebgan_detect.training import Callback

if TYPE_CHECKING:
    from ebgan_detect.export import export_onnx, export_triton
    from ebgan_detect.serving import TritonDetector

__version__ = version("ebgan-detect")

__all__ = [
    "CalibrationWarning",
    "Callback",
    "EBGANDetector",
    "EBGANError",
    "EBGANWarning",
    "ExportError",
    "InputRangeWarning",
    "InvalidInputError",
    "InvalidParameterError",
    "MissingDependencyError",
    "ModelFileError",
    "ServerError",
    "TrainingDivergedError",
    "TrainingHealthWarning",
    "TrainingInterruptedWarning",
    "TritonDetector",
    "export_onnx",
    "export_triton",
    "load",
    "save",
]

_ON_DEMAND = {
    "TritonDetector": "ebgan_detect.serving",
    "export_onnx": "ebgan_detect.export",
    "export_triton": "ebgan_detect.export",
}


def __getattr__(name: str) -> object:
    """Import what few programs need when it is first asked for."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_DEMAND[name]), name)

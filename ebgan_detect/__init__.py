"""Anomaly detection with the energies of an energy-based GAN."""

from importlib.metadata import version

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
)
from ebgan_detect.export import export_onnx, export_triton
from ebgan_detect.persistence import load, save
from ebgan_detect.serving import TritonDetector
from ebgan_detect.training import Callback

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
    "TritonDetector",
    "export_onnx",
    "export_triton",
    "load",
    "save",
]

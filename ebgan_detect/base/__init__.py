"""The estimator contract that all detectors share."""

from ebgan_detect.base.architecture import ArchitectureMixin
from ebgan_detect.base.contract import BaseDetector
from ebgan_detect.base.fitting import CalibrationRows, MemberPlan, turned
from ebgan_detect.base.generation import GenerationMixin
from ebgan_detect.base.reconstruction import ReconstructionMixin
from ebgan_detect.base.scoring import ANSWERS, rows_of_shape

__all__ = [
    "ANSWERS",
    "ArchitectureMixin",
    "BaseDetector",
    "CalibrationRows",
    "GenerationMixin",
    "MemberPlan",
    "ReconstructionMixin",
    "rows_of_shape",
    "turned",
]

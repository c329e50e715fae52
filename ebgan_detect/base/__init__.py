"""The estimator contract that all detectors share."""

from ebgan_detect.base.architecture import ArchitectureMixin
from ebgan_detect.base.calibration import CalibrationRows
from ebgan_detect.base.contract import BaseDetector
from ebgan_detect.base.fitting import MemberPlan
from ebgan_detect.base.generation import GenerationMixin
from ebgan_detect.base.pilot import LIGHT_HINGE, lightened
from ebgan_detect.base.reconstruction import ReconstructionMixin
from ebgan_detect.base.scoring import ANSWERS, rows_of_shape

__all__ = [
    "ANSWERS",
    "LIGHT_HINGE",
    "ArchitectureMixin",
    "BaseDetector",
    "CalibrationRows",
    "GenerationMixin",
    "MemberPlan",
    "ReconstructionMixin",
    "lightened",
    "rows_of_shape",
]

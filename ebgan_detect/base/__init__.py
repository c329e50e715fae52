"""The estimator contract that all detectors share."""

from ebgan_detect.base.contract import BaseDetector
from ebgan_detect.base.fitting import CalibrationRows, MemberPlan
from ebgan_detect.base.scoring import rows_of_shape

__all__ = ["BaseDetector", "CalibrationRows", "MemberPlan", "rows_of_shape"]

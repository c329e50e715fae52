"""The estimator contract that all detectors share."""

from ebgan_detect.base.contract import BaseDetector
from ebgan_detect.base.fitting import CalibrationRows, MemberPlan

__all__ = ["BaseDetector", "CalibrationRows", "MemberPlan"]

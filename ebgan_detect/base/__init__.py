"""The estimator contract that all detectors share."""

from ebgan_detect.base.contract import BaseDetector
from ebgan_detect.base.fitting import MemberPlan

__all__ = ["BaseDetector", "MemberPlan"]

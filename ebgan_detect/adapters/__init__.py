"""The library's detectors behind other ecosystems' interfaces."""

from ebgan_detect.adapters.pyod import PyODDetector

__all__ = ["PyODDetector"]

"""The detector on a Triton server, called like one in this process."""

from ebgan_detect.serving.client import TritonDetector

__all__ = ["TritonDetector"]

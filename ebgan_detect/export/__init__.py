"""Fitted detectors as files that other programs run."""

from ebgan_detect.export.onnx import export_onnx
from ebgan_detect.export.triton import export_triton

__all__ = ["export_onnx", "export_triton"]

"""Fitted detectors as files that other programs run."""

from ebgan_detect.export.onnx import export_onnx

__all__ = ["export_onnx"]

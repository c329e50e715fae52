"""The library's detectors behind other ecosystems' interfaces."""

from importlib import import_module
from typing import TYPE_CHECKING

from ebgan_detect.adapters.batches import BatchScorer

if TYPE_CHECKING:
    from ebgan_detect.adapters.pyod import PyODDetector

__all__ = ["BatchScorer", "PyODDetector"]


def __getattr__(name: str) -> object:
    """Import what needs PyOD when it is first asked for."""
    if name != "PyODDetector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ebgan_detect.adapters.pyod"), name)

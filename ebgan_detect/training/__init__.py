"""The training loop: schedules, history, callbacks, checkpoints, device and precision."""

from .callbacks import Callback, ProgressBar
from .checkpoint import Checkpoint
from .loop import SCHEDULES, Trainer, TrainingRun
from .placement import PRECISIONS, autocast, place, resolve_device

__all__ = [
    "PRECISIONS",
    "SCHEDULES",
    "Callback",
    "Checkpoint",
    "ProgressBar",
    "Trainer",
    "TrainingRun",
    "autocast",
    "place",
    "resolve_device",
]

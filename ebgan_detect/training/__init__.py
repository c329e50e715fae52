"""The training loop: schedules, history, callbacks, checkpoints, device and precision."""

from ebgan_detect.training.callbacks import Callback, ProgressBar
from ebgan_detect.training.checkpoint import Checkpoint
from ebgan_detect.training.loop import SCHEDULES, Trainer
from ebgan_detect.training.placement import (
    PRECISIONS,
    autocast,
    fastest_precision,
    place,
    resolve_device,
)
from ebgan_detect.training.rows import ResidentRows, StreamedRows, TrainingRows, training_rows
from ebgan_detect.training.run import TrainingRun

__all__ = [
    "PRECISIONS",
    "SCHEDULES",
    "Callback",
    "Checkpoint",
    "ProgressBar",
    "ResidentRows",
    "StreamedRows",
    "Trainer",
    "TrainingRows",
    "TrainingRun",
    "autocast",
    "fastest_precision",
    "place",
    "resolve_device",
    "training_rows",
]

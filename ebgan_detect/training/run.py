"""A training under way, as callbacks see it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ebgan_detect.objectives import Objective
from ebgan_detect.training.rows import TrainingRows

__all__ = ["TrainingRun"]


@dataclass
class TrainingRun:
    """A training under way, as callbacks see it.

    Attributes
    ----------
    objective : Objective
        The game.
    rows : TrainingRows
        Scaled training rows.
    max_epochs, steps_per_epoch : int
        What is planned.
    epoch : int
        Epochs done.
    history : dict of str to list
        One entry an epoch: means of the game's metrics, learning rate, seconds.
    stop : bool
        Set to True to end training after the current epoch. Where that training is resumed from
        its checkpoint, callbacks hear of its last epoch again, and may stop it again.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    objective: Objective
    rows: TrainingRows
    max_epochs: int
    steps_per_epoch: int
    epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    stop: bool = False
    interrupted: bool = False

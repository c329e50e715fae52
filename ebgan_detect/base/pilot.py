"""A game trained briefly before the real one, to settle what that goes by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ebgan_detect.distributed import current_group
from ebgan_detect.objectives import Objective
from ebgan_detect.training import SCHEDULES, Callback, Trainer, TrainingRows

__all__ = ["LIGHT_HINGE", "Pilot", "lightened", "turned"]

UPDATES = 300
ROWS = 2048
ROWS_AT_ONCE = 256
LIGHT_HINGE = 0.1
"""Weight of the hinge where the rows are of one kind, or a table's."""


@dataclass(frozen=True)
class Pilot:
    """A game after a short training, and the rows that it judges.

    Attributes
    ----------
    objective : Objective
        The game.
    rows : TrainingRows
        Scaled training rows.
    sample : Tensor of shape (n_sample,), int64
        Which of them it judges, placed for `rows.take`.
    """

    objective: Objective
    rows: TrainingRows
    sample: Tensor

    @classmethod
    def train(
        cls,
        objective: Objective,
        *,
        rows: TrainingRows,
        trainer: Trainer,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Train a game briefly at a constant rate.

        Parameters
        ----------
        objective : Objective
            A game to spare.
        rows : TrainingRows
            Scaled training rows.
        trainer : Trainer
            Batch size, learning rate, device, precision and seed are taken from it.
        callbacks : sequence of Callback
            The pilot's own hooks, such as a progress bar.

        Returns
        -------
        Pilot
            The game, with up to `ROWS` training rows to judge.
        """
        n = len(rows)
        steps = n // current_group().batch_rows(trainer.batch_size, n)
        brief = replace(
            trainer,
            max_epochs=math.ceil(UPDATES / steps),
            max_steps_per_epoch=UPDATES,
            schedule=SCHEDULES["constant"],
            average_decay=0.0,
            criterion=None,
            callbacks=callbacks,
            checkpoint=None,
            passes_interrupt=True,
        )
        brief.fit(objective, rows)
        # float32 may round the last number up.
        sample = torch.linspace(0, n - 1, min(n, ROWS)).long().clamp_(max=n - 1)
        return cls(objective, rows, rows.placed(sample))

    @torch.inference_mode()
    def energy(self, change: Callable[[Tensor], Tensor] | None = None) -> float:
        """Mean energy of the rows.

        Parameters
        ----------
        change : callable, optional
            What becomes of the rows before.

        Returns
        -------
        float
            Mean [scaled input unit ** 2], > 0.
        """
        taken = (self.rows.take(part) for part in self.sample.split(ROWS_AT_ONCE))
        judged = map(change, taken) if change else taken
        energies = torch.cat([self.objective.energy(part) for part in judged])
        # Rows that a pilot reconstructs perfectly would leave no margin at all.
        return max(float(energies.mean()), 1e-6)

    def turned_ratio(self) -> float:
        """How much an autoencoder minds a quarter turn: little where rows are of many kinds.

        Returns
        -------
        float
            Mean energy of turned images over that of the images, > 0.
        """
        return self.energy(turned) / self.energy()


def turned(images: Tensor) -> Tensor:
    """Turn images by a quarter: an autoencoder that is not blind gives them more energy.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
        Images.

    Returns
    -------
    Tensor of shape (n, c, h, w)
        Copies whose largest square in the middle is turned.
    """
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    result = images.clone()
    square = result[..., top : top + side, left : left + side]
    square.copy_(square.rot90(1, (-2, -1)).clone())
    return result


def lightened(ratio: float, start: float, stop: float) -> float:
    """Weight of the hinge by `Pilot.turned_ratio`: light where the images are of one kind.

    A step would let pilots that differ by a hundredth train games that differ tenfold.

    Parameters
    ----------
    ratio : float
        The ratio, > 0.
    start, stop : float
        Ends of the ramp, ``0 < start < stop``.

    Returns
    -------
    float
        1 up to start, `LIGHT_HINGE` from stop on, a power of the ratio between them.

    Examples
    --------
    >>> [round(lightened(ratio, 2.0, 8.0), 3) for ratio in (1.0, 4.0, 9.0)]
    [1.0, 0.316, 0.1]
    """
    share = math.log(ratio / start) / math.log(stop / start)
    return float(LIGHT_HINGE ** min(max(share, 0.0), 1.0))

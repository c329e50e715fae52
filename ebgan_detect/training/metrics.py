"""Metrics of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebgan_detect.distributed import ALONE, ProcessGroup

__all__ = ["EpochLog"]

TOGETHER = 256
"""Updates whose metrics are averaged at once."""


class EpochLog:
    """What the updates of one epoch measured.

    It stays on the device until it is read. Metrics are averaged over rows for many updates at
    once: with small networks, averages at every update take a tenth of the time.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._waiting: list[Mapping[str, Tensor]] = []
        self._averaged: list[Tensor] = []

    def add(self, measured: Mapping[str, Tensor]) -> None:
        """Take in one update.

        Parameters
        ----------
        measured : mapping of str to Tensor
            What `Objective.update` returned; names and shapes are the same at every update.
        """
        self._names = self._names or list(measured)
        self._waiting.append(measured)
        if len(self._waiting) == TOGETHER:
            self._average()

    def read(self, group: ProcessGroup = ALONE) -> dict[str, NDArray[np.float32]]:
        """Wait for the device.

        Parameters
        ----------
        group : ProcessGroup
            Processes over whose rows metrics are averaged too.

        Returns
        -------
        dict of str to ndarray of shape (n_updates,)
            Metrics of every update so far.
        """
        if self._waiting:
            self._average()
        table = group.average(torch.cat(self._averaged, dim=1)).cpu().numpy()
        return dict(zip(self._names, table, strict=True))

    def _average(self) -> None:
        """Average what waits."""
        waiting, self._waiting = self._waiting, []
        columns = [torch.stack([each[name] for each in waiting]) for name in self._names]
        means = [each.reshape(len(each), -1).mean(dim=1, dtype=torch.float32) for each in columns]
        self._averaged.append(torch.stack(means))

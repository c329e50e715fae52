"""What the exported graph computes: raw rows in, energies, decisions and p-values out."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ebgan_detect.base import BaseDetector
from ebgan_detect.export.tolerance import Limits
from ebgan_detect.interchange import OUTPUTS
from ebgan_detect.thresholds import p_value_table

__all__ = ["ExportedGraph", "PValues", "output_names"]

TABLE_SIDE = 32
"""The p-value table has this many rows and columns, 1024 energies in all."""


class PValues(nn.Module):
    """Conformal p-values from a table of calibration energies, at a cost that it bounds.

    An energy is compared with the last energy of every table row, then with all energies of
    the one row that it falls into: 64 comparisons at most, whatever the calibration set.

    Parameters
    ----------
    calibration_energies : ndarray of shape (n_calibration,)
        Energies of held-out normal rows, raised as in `Limits`.
    """

    rows: Tensor
    last_of_row: Tensor
    p_values: Tensor

    def __init__(self, calibration_energies: NDArray[np.float64]) -> None:
        super().__init__()
        energies, p_values = p_value_table(calibration_energies, TABLE_SIDE**2)
        # No energy lies above infinity: the places that stay free are never counted.
        table = torch.full((TABLE_SIDE**2,), torch.inf, dtype=torch.float64)
        # Where an energy was infinite the table of p-values has the largest number.
        table[: len(energies)] = torch.from_numpy(energies)
        table[table == torch.finfo(torch.float64).max] = torch.inf
        rows = table.reshape(TABLE_SIDE, TABLE_SIDE)
        self.register_buffer("rows", rows)
        self.register_buffer("last_of_row", rows[:-1, -1].clone())
        self.register_buffer("p_values", torch.from_numpy(p_values))

    def forward(self, energy: Tensor) -> Tensor:
        """Look up energies.

        Parameters
        ----------
        energy : Tensor of shape (n,), float64
            Energies, +inf included, nan not.

        Returns
        -------
        Tensor of shape (n,), float64
            p-values, in [1 / (n_calibration + 1), 1].
        """
        energy = energy.unsqueeze(1)
        row = (self.last_of_row < energy).sum(dim=1)
        below = TABLE_SIDE * row + (self.rows[row] < energy).sum(dim=1)
        return self.p_values[below]


class ExportedGraph(nn.Module):
    """A fitted detector's answers to raw rows, as one function without branches on data.

    Scaling and everything after the networks run in float64, as in the estimator, and are
    rounded to float32 at the end. A row above the threshold by no more than the tolerance of
    its energy counts as one at the threshold: decision 0, label +1.

    Parameters
    ----------
    detector : BaseDetector
        Fitted detector; its model is copied.
    limits : Limits
        Its limits, raised by the tolerance.
    reconstruction, energy_map : bool
        Whether to answer these too.
    """

    def __init__(
        self,
        detector: BaseDetector,
        limits: Limits,
        *,
        reconstruction: bool = False,
        energy_map: bool = False,
    ) -> None:
        super().__init__()
        self.model = detector.model_.portable().eval()
        self.p_values = PValues(limits.energies)
        self.offset = float(detector.offset_)
        self.threshold = limits.threshold
        self.splits = hasattr(detector, "energy_map")
        self.reconstruction = reconstruction
        self.energy_map = energy_map

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Answer raw rows.

        Parameters
        ----------
        x : Tensor of shape (n, *input_shape)
            Raw rows of any real dtype.

        Returns
        -------
        tuple of Tensor
            As `output_names` lists them: the first five of shape (n,), others of the
            input's shape; float32, but labels int64.
        """
        model = self.model
        if self.splits:
            split = model.energy_map(x)
            energy = split.flatten(1).mean(dim=1)
        else:
            energy = model.relative_energy(model.scale(x), "energy")
        energy = torch.where(energy.abs() < math.inf, energy, math.inf)  # nan is not below, either
        decision = -energy - self.offset
        decision = torch.where(energy > self.threshold, decision, decision.clamp_min(0))
        label = torch.where(decision >= 0, 1, -1)
        p_value = self.p_values(energy)
        answers = [energy.float(), -energy.float(), decision.float(), label, p_value.float()]
        if self.reconstruction:
            answers.append(model.reconstruct(x).float())
        if self.energy_map:
            answers.append(torch.where(split.isnan(), math.inf, split).float())  # as the energy
        return tuple(answers)


def output_names(*, reconstruction: bool, energy_map: bool) -> list[str]:
    """Names of what `ExportedGraph` answers.

    Parameters
    ----------
    reconstruction, energy_map : bool
        As there.

    Returns
    -------
    list of str
        In order.
    """
    extra = {"reconstruction": reconstruction, "energy_map": energy_map}
    return [*OUTPUTS, *(name for name, wanted in extra.items() if wanted)]

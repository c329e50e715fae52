"""How far an answer may lie from the estimator's, and the limits that allow for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ebgan_detect.base import BaseDetector
from ebgan_detect.data import Rows
from ebgan_detect.losses.energy import SIDES
from ebgan_detect.model import EnergyModel
from ebgan_detect.objectives import AutoEncoderObjective, VAEObjective

__all__ = ["Limits", "scored"]

TOLERANCE = 1e-5
"""Largest error of an energy, relative to its size; to a typical size too if it may be negative."""
ROUNDINGS = 4
"""Float32 roundings of a scaled value that two kernels may differ by: where rows are
reconstructed almost exactly, these are all that is left of the energy."""
MOST_VALUES = 2**24
"""Most values in the calibration rows that tolerances are measured on: images take long."""


def scored(detector: BaseDetector, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score rows with the estimator, on the CPU.

    Parameters
    ----------
    detector : BaseDetector
        Fitted detector.
    rows : Rows
        Finite rows as the detector takes them.

    Returns
    -------
    energy, tolerance : ndarray of shape (n,), float64
        Energies, and how far from them the answer of another kernel may lie.
    """
    model, cpu = detector.model_.portable(), torch.device("cpu")
    energy = torch.cat(list(model.stream(rows, model, cpu))).numpy()
    mean_square = torch.cat(
        list(model.stream(rows, lambda chunk: _mean_square(model, chunk), cpu))
    ).numpy()
    magnitude = np.abs(energy)
    if detector.calibration_energies_[0] < 0:
        # What is the difference of larger numbers has no relative error near 0.
        magnitude = magnitude + np.median(np.abs(detector.calibration_energies_))
    rounding = 2 * ROUNDINGS * np.finfo(np.float32).eps * np.sqrt(magnitude * mean_square)
    return energy, TOLERANCE * magnitude + rounding / math.sqrt(2 * _least_variance(model))


def _mean_square(model: EnergyModel, rows: torch.Tensor) -> torch.Tensor:
    """Mean square of scaled rows, times what an energy multiplies the errors of a row by."""
    scaled = model.scale(rows)
    mean_square = scaled.flatten(1).double().square().mean(dim=1)
    weights = [g.coarse_weight for g in model.games() if isinstance(g, AutoEncoderObjective)]
    # By Cauchy and Schwarz errors grow no more than the root of the sum of the scales' weights.
    mean_square *= 1 + max(weights, default=0.0) * (np.square(SIDES).mean() - 1)
    return mean_square if model.complexity is None else mean_square * model.complexity(scaled)


def _least_variance(model: EnergyModel) -> float:
    """Variance that squared errors are divided by twice; 1/2 where they are the energy."""
    games = [game for game in model.games() if isinstance(game, VAEObjective)]
    return min((float(g.variance) for g in games if g.likelihood == "gaussian"), default=0.5)


@dataclass(frozen=True)
class Limits:
    """What a file compares its energies with: the estimator's limits, raised by the tolerance.

    The limits of an estimator are energies of rows. Where rows repeat, as in discrete columns,
    the same rows come again, and another kernel may find their energy just above: with the
    bare limits it would call them outliers all at once. Raised ones keep them below, so that
    no p-value is smaller than the estimator's.

    Attributes
    ----------
    energies : ndarray of shape (n_calibration,), float64
        Raised calibration energies, ascending; equal where the energies are.
    threshold : float
        Raised energy above which a row is an outlier.
    """

    energies: NDArray[np.float64]
    threshold: float

    @classmethod
    def of(cls, detector: BaseDetector) -> Limits:
        """Raise a detector's limits by the tolerances of its calibration rows.

        Parameters
        ----------
        detector : BaseDetector
            Fitted detector.

        Returns
        -------
        Limits
            The limits of its file.
        """
        kept, known = detector._calibration_rows.values, detector.calibration_energies_
        n = min(len(kept), max(1, MOST_VALUES // math.prod(kept.shape[1:])))
        rows = kept[np.linspace(0, len(kept) - 1, n).astype(np.intp)]
        energy, tolerance = scored(detector, Rows(rows))
        order = np.argsort(energy)
        # Not every calibration row is kept: one of the next higher energy stands for it.
        nearest = np.searchsorted(energy[order], known).clip(max=n - 1)
        raised = np.maximum.accumulate(known + tolerance[order][nearest])
        raised = raised[np.searchsorted(known, known, side="right") - 1]
        raised = np.where(np.isfinite(raised), raised, known)
        threshold = -float(detector.offset_)
        below = max(0, int(np.searchsorted(known, threshold, side="right")) - 1)
        return cls(raised, threshold + float(raised[below] - known[below]))

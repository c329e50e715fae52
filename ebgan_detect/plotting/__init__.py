"""Displays in scikit-learn's manner: `from_estimator` computes and draws, `plot` draws again.

matplotlib is imported when something is drawn, not before.
"""

from ebgan_detect.plotting.equilibrium import EquilibriumDisplay
from ebgan_detect.plotting.histogram import EnergyHistogramDisplay
from ebgan_detect.plotting.history import TrainingHistoryDisplay
from ebgan_detect.plotting.images import EnergyMapDisplay, SampleGridDisplay
from ebgan_detect.plotting.latents import (
    LatentArithmeticDisplay,
    LatentWalkDisplay,
    spherical_walk,
)
from ebgan_detect.plotting.surface import EnergySurfaceDisplay

__all__ = [
    "EnergyHistogramDisplay",
    "EnergyMapDisplay",
    "EnergySurfaceDisplay",
    "EquilibriumDisplay",
    "LatentArithmeticDisplay",
    "LatentWalkDisplay",
    "SampleGridDisplay",
    "TrainingHistoryDisplay",
    "spherical_walk",
]

"""How near a game is to its equilibrium, and two samples to each other."""

from ebgan_detect.diagnostics.discrepancy import maximum_mean_discrepancy, median_distance
from ebgan_detect.diagnostics.equilibrium import (
    Equilibrium,
    EquilibriumRecorder,
    equilibrium,
    game_value,
)

__all__ = [
    "Equilibrium",
    "EquilibriumRecorder",
    "equilibrium",
    "game_value",
    "maximum_mean_discrepancy",
    "median_distance",
]

"""How a game came near its equilibrium, or did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from typing_extensions import override

from ebgan_detect.diagnostics import EquilibriumRecorder
from ebgan_detect.errors import InvalidInputError, InvalidParameterError
from ebgan_detect.plotting._display import (
    BLUE,
    ENERGY,
    GREEN,
    ORANGE,
    PURPLE,
    Display,
    draw_members,
    finish,
    pyplot,
)

PANELS = {
    "value of the game [scaled unit²]": {
        "value": ("V(G, D)", BLUE, "-"),
        "margin": ("margin", "black", ":"),
    },
    ENERGY: {
        "energy_real": ("real", BLUE, "-"),
        "energy_generated": ("generated", ORANGE, "-"),
        "energy_background": ("background", GREEN, "-"),
        "margin": ("margin", "black", ":"),
    },
    "squared MMD, generated to real": {"discrepancy": ("discrepancy", PURPLE, "-")},
}
SMALLEST = 1e-3
"""Discrepancies below this are drawn on a linear scale: their estimates may be negative."""


@dataclass(kw_only=True, eq=False, repr=False)
class EquilibriumDisplay(Display):
    """Value, energies and distance to the data over the epochs; one line for each member.

    At equilibrium the value is the margin, real and generated energies are equal and the
    discrepancy is 0. The detector is of use as long as the background's energy is above them.

    Attributes
    ----------
    history : dict of str to sequence of float
        `history` of an `EquilibriumRecorder`.
    ax_ : ndarray of Axes
        Panels: value and margin; energies; discrepancy.
    figure_ : Figure
        Where they are.
    """

    history: Mapping[str, Sequence[float]]

    @classmethod
    def from_recorder(cls, recorder: EquilibriumRecorder, *, ax: Any = None) -> Self:
        """Draw what a callback has recorded.

        Parameters
        ----------
        recorder : EquilibriumRecorder
            Callback of a training.
        ax : array-like of Axes, default=None
            As in `plot`.

        Returns
        -------
        EquilibriumDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If nothing has been recorded yet.
        InvalidParameterError
            If `recorder` is none, or as in `plot`.
        """
        pyplot()
        if not isinstance(recorder, EquilibriumRecorder):
            raise InvalidParameterError(
                f"recorder must be an EquilibriumRecorder, got {type(recorder).__name__}; give one "
                "to the detector's callbacks"
            )
        if not recorder.history:
            raise InvalidInputError(
                "recorder must have recorded a training, got none; fit a detector that has it "
                "among its callbacks"
            )
        return cls(history=recorder.history).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        columns = {name: np.asarray(values, float) for name, values in self.history.items()}
        axes = self._panels(ax, (11.0, 3.0), (1, 3), 3)
        for axis, (ylabel, lines) in zip(axes, PANELS.items(), strict=True):
            for name, (label, color, linestyle) in lines.items():
                style = {"color": color, "linestyle": linestyle, "label": label}
                draw_members(axis, columns, name, style)
            axis.set(xlabel="epoch", ylabel=ylabel)
            axis.xaxis.get_major_locator().set_params(integer=True)
            finish(axis, legend=len(lines) > 1)
        value, energies, discrepancy = axes
        value.set_ylim(bottom=0)
        energies.set_yscale("log")
        discrepancy.set_yscale("symlog", linthresh=SMALLEST)
        discrepancy.axhline(0, color="black", linestyle=":")

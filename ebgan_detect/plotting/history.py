"""Training history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from typing_extensions import override

from ebgan_detect.errors import InvalidInputError
from ebgan_detect.parameters import check_parameters, flag
from ebgan_detect.plotting._display import (
    BLUE,
    ENERGY,
    GREEN,
    ORANGE,
    PURPLE,
    Display,
    draw_members,
    finish,
    require,
)

PANELS = {
    ENERGY: {
        "energy_real": ("real", BLUE, "-"),
        "energy_generated": ("generated", ORANGE, "-"),
        "margin": ("margin", "black", ":"),
    },
    "loss": {
        "loss": ("loss", BLUE, "-"),
        "negative_log_likelihood": ("negative log-likelihood", ORANGE, ":"),
        "loss_discriminator": ("discriminator", BLUE, "-"),
        "loss_generator": ("generator", ORANGE, "-"),
    },
    "nats per row": {"divergence": ("divergence of the code", GREEN, "-")},
    "dimensionless": {
        "pull_away": ("pulling-away term", GREEN, "-"),
        "hinge_active": ("share of generated below margin", PURPLE, "-"),
        "probability_real": ("real rows called real", BLUE, "-"),
        "probability_generated": ("generated rows called real", ORANGE, "-"),
    },
}


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingHistoryDisplay(Display):
    """How a training went, epoch by epoch; one line for each member.

    Attributes
    ----------
    history : dict of str to sequence of float
        `history_` of a detector: columns of equal length, an entry for each member and epoch.
    log_scale : bool, default=True
        Whether energies and losses are on logarithmic axes, where all are positive.
    ax_ : ndarray of Axes
        Panels: energies and margin; losses; divergence of a VAE's code; pulling-away term,
        share of generated rows below the margin, and a GAN's probabilities. A panel without
        its columns is left out.
    figure_ : Figure
        Where they are.
    """

    history: Mapping[str, Sequence[float]]
    log_scale: bool = True

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **options: Any) -> Self:
        """Draw the training of a fitted detector.

        Parameters
        ----------
        estimator : EBGANDetector
            Fitted detector.
        ax : array-like of Axes, default=None
            As in `plot`.
        **options : dict
            `log_scale`.

        Returns
        -------
        TrainingHistoryDisplay
            The drawn display.

        Raises
        ------
        InvalidParameterError
            If `estimator` keeps no history, or as in `plot`.
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.
        """
        require(estimator, "history_")
        return cls(history=estimator.history_, **options).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        check_parameters({"log_scale": self.log_scale}, {"log_scale": flag()})
        columns = {name: np.asarray(values, float) for name, values in self.history.items()}
        panels = {
            ylabel: {name: style for name, style in lines.items() if name in columns}
            for ylabel, lines in PANELS.items()
            if not columns.keys().isdisjoint(lines)
        }
        n = len(panels)
        if not n:
            known = ", ".join(name for lines in PANELS.values() for name in lines)
            raise InvalidInputError(
                f"history must have one of the columns {known}, got {', '.join(columns) or 'none'}"
            )
        axes = self._panels(ax, (3.6 * n, 3.0), (1, n), n)
        for axis, (ylabel, lines) in zip(axes, panels.items(), strict=True):
            for name, (label, color, linestyle) in lines.items():
                style = {"color": color, "linestyle": linestyle, "label": label}
                draw_members(axis, columns, name, style)
            axis.set(xlabel="epoch", ylabel=ylabel)
            axis.xaxis.get_major_locator().set_params(integer=True)
            if ylabel == "dimensionless":
                axis.set_ylim(-0.03, 1.03)
            elif self.log_scale and all((columns[name] > 0).all() for name in lines):
                axis.set_yscale("log")
            finish(axis)

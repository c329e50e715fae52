"""Energies of rows beside the threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ebgan_detect.errors import InvalidInputError
from ebgan_detect.parameters import check_parameters, flag, integer
from ebgan_detect.plotting._display import (
    BLUE,
    ORANGE,
    UNIT,
    Array,
    Display,
    anomalies,
    energy_unit,
    finish,
    require,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_DECADES = 1000
"""Ratio of the ends of a logarithmic axis below which it gets more labels than its decades."""


@dataclass(kw_only=True, eq=False, repr=False)
class EnergyHistogramDisplay(Display):
    """Distribution of energies, with the threshold.

    Attributes
    ----------
    energies : ndarray of shape (n,)
        Energies. Infinite ones are counted in the legend.
    threshold : float
        Energy above which rows are called outliers, same unit.
    is_anomaly : ndarray of shape (n,), bool, default=None
        Groups to tell apart. Each has its own total.
    bins : int, default=50
        Number of bins.
    log_scale : bool, default=True
        Whether the energy axis is logarithmic, where no energy is negative; energies of 0 go
        to the first bin then.
    unit : str, default='scaled unit²'
        Unit of the energies.
    line_ : Line2D
        The threshold.
    ax_ : Axes
        Where the bars are.
    figure_ : Figure
        Figure of `ax_`.
    """

    energies: Array
    threshold: float
    is_anomaly: NDArray[np.bool_] | None = None
    bins: int = 50
    log_scale: bool = True
    unit: str = UNIT
    line_: Any = field(init=False)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, ax: Axes | None = None, **options: Any
    ) -> Self:
        """Score rows and draw their energies.

        Parameters
        ----------
        estimator : EBGANDetector
            Fitted detector.
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.
        y : array-like of shape (n,), default=None
            Labels to split by: 0 normal and 1 anomaly, or scikit-learn's +1 inlier and -1
            outlier. Ones alone could be either, and must be bool (True for anomalies).
        ax : Axes, default=None
            As in `plot`.
        **options : dict
            `bins`, `log_scale`.

        Returns
        -------
        EnergyHistogramDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If `X` does not fit the detector, or `y` is of neither kind.
        InvalidParameterError
            If `estimator` is no detector, or as in `plot`.
        """
        require(estimator, "energy", "offset_")
        energies = estimator.energy(X)
        return cls(
            energies=energies,
            threshold=-float(estimator.offset_),
            is_anomaly=None if y is None else anomalies(y, len(energies)),
            unit=energy_unit(estimator),
            **options,
        ).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        check_parameters(vars(self), {"bins": integer(1), "log_scale": flag()})
        edges, scale = self._edges()
        groups = {"rows": (np.ones(len(self.energies), bool), BLUE)}
        if self.is_anomaly is not None:
            groups = {"normal": (~self.is_anomaly, BLUE), "anomaly": (self.is_anomaly, ORANGE)}
        axis = self._panel(ax, (6.0, 3.4))
        for name, (members, color) in groups.items():
            kept = self.energies[members]
            n, kept = len(kept), kept[np.isfinite(kept)]
            infinite = f", {n - len(kept)} infinite" if n > len(kept) else ""
            axis.hist(
                kept.clip(edges[0], edges[-1]),
                edges,
                weights=np.full(len(kept), 1 / max(n, 1)),
                histtype="stepfilled",
                edgecolor=color,
                facecolor=(color, 0.35),
                label=f"{name} (n = {n}{infinite})",
            )
        label = f"threshold {self.threshold:.3g}"
        self.line_ = axis.axvline(self.threshold, color="black", linestyle="--", label=label)
        axis.set(xlabel=f"energy [{self.unit}]", ylabel="share of rows", xscale=scale)
        if scale == "log" and edges[-1] < FEW_DECADES * edges[0]:
            _label_within_decades(axis.xaxis)
        finish(axis)

    def _edges(self) -> tuple[Array, str]:
        """Edges of the bins, and the scale on which they are evenly spaced."""
        finite = self.energies[np.isfinite(self.energies)]
        if len(finite) == 0:
            raise InvalidInputError(
                f"energies must hold a finite value, got none among {len(self.energies)}; "
                "give X in the unit of the fitted rows"
            )
        log = self.log_scale and finite.min() >= 0 and finite.max() > 0
        low, high = float(finite[finite > 0].min() if log else finite.min()), float(finite.max())
        if low == high:
            low, high = low - 0.1 * abs(low), high + 0.1 * abs(high) or 1.0
        space = np.geomspace if log else np.linspace
        return space(low, high, self.bins + 1), "log" if log else "linear"


def _label_within_decades(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of every decade: powers of ten alone would be too few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())

"""Energy over the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._set_output import _get_adapter_from_container
from typing_extensions import override

from ebgan_detect.data import as_rows
from ebgan_detect.errors import InvalidInputError
from ebgan_detect.parameters import Rule, check_parameters, integer, real
from ebgan_detect.plotting._display import (
    ORANGE,
    UNIT,
    Array,
    Display,
    energy_unit,
    label_of,
    require,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class EnergySurfaceDisplay(Display):
    """Energy over the plane of a table with two features.

    Attributes
    ----------
    xx0, xx1 : ndarray of shape (m, m)
        Grid of the plane [fitted unit].
    energies : ndarray of shape (m, m)
        Energies there [scaled input unit ** 2].
    points : ndarray of shape (n, 2)
        Rows to draw into it.
    threshold : float
        Energy above which rows are called outliers.
    feature_names : sequence of str, default=('x0', 'x1')
        Labels of the axes.
    unit : str, default='scaled unit²'
        Unit of the energies.
    surface_ : QuadContourSet
        Filled contours at logarithmic steps, or at even ones where energies are negative; the
        lowest 2 % of the plane share a colour.
    contour_ : QuadContourSet or None
        The threshold; None where the grid's energies do not cross it.
    ax_ : Axes
        Where they are.
    figure_ : Figure
        Figure of `ax_`.
    """

    xx0: Array
    xx1: Array
    energies: Array
    points: NDArray[Any]
    threshold: float
    feature_names: Sequence[str] = ("x0", "x1")
    unit: str = UNIT
    surface_: Any = field(init=False)
    contour_: Any = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        grid_resolution: int = 100,
        eps: float | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Score a grid around rows and draw it.

        Parameters
        ----------
        estimator : EBGANDetector
            Detector fitted on two features.
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows to surround with the grid and to draw.
        grid_resolution : int, default=100
            Points along each side.
        eps : float, default=None
            Width of the rim around the rows [fitted unit]; None takes a quarter of each
            feature's range.
        ax : Axes, default=None
            As in `plot`.

        Returns
        -------
        EnergySurfaceDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If `X` is not a table of two features, or holds nan or infinity.
        InvalidParameterError
            If `estimator` is no detector, `grid_resolution` is below 2 or `eps` not above 0.
        """
        width = real(0, closed="()")
        check_parameters(
            {"grid_resolution": grid_resolution, "eps": eps},
            {
                "grid_resolution": integer(2),
                "eps": Rule(lambda v: v is None or width.holds(v), f"None or {width.text}"),
            },
        )
        require(estimator, "energy", "offset_")
        rows = as_rows(X)
        if rows.shape[1:] != (2,):
            raise InvalidInputError(
                f"X must have shape (n, 2) to be drawn in a plane, got {rows.shape}; "
                "EnergyMapDisplay takes more features"
            )
        rows.check_finite()
        points = np.concatenate(list(rows.arrays())).astype(float)
        low, high = points.min(axis=0), points.max(axis=0)
        rim = np.where(high > low, (high - low) / 4, 1.0) if eps is None else eps
        xx0, xx1 = np.meshgrid(*np.linspace(low - rim, high + rim, grid_resolution).T)
        plane: Any = np.c_[xx0.ravel(), xx1.ravel()]
        if hasattr(X, "columns"):  # a detector fitted on a frame wants its columns' names
            plane = _get_adapter_from_container(X).create_container(plane, plane, columns=X.columns)
        return cls(
            xx0=xx0,
            xx1=xx1,
            energies=estimator.energy(plane).reshape(xx0.shape),
            points=points,
            threshold=-float(estimator.offset_),
            feature_names=getattr(estimator, "feature_names_in_", cls.feature_names),
            unit=energy_unit(estimator),
        ).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        finite = self.energies[np.isfinite(self.energies)]
        log = bool((finite >= 0).all())
        usable = finite[finite > 0] if log else finite
        low, high = np.quantile(usable, [0.02, 1]) if len(usable) else (1.0, 1.0)
        space = np.geomspace if log else np.linspace
        levels = space(low, max(high, low + 0.001 * abs(low)), 21)
        energies = self.energies.clip(levels[0], levels[-1])
        axis = self._panel(ax, (5.4, 4.2))
        from matplotlib.ticker import LogLocator, MaxNLocator

        self.surface_ = axis.contourf(
            self.xx0, self.xx1, energies, levels, norm="log" if log else "linear", cmap="viridis"
        )
        ticks = LogLocator() if log else MaxNLocator()
        label = f"energy [{self.unit}]"
        bar = self.figure_.colorbar(self.surface_, ax=axis, label=label, ticks=ticks)
        bar.ax.minorticks_off()
        axis.scatter(
            *self.points.T, s=6, color="white", edgecolors="black", linewidths=0.3, label="rows"
        )
        self.contour_ = None
        if energies.min() < self.threshold < energies.max():
            self.contour_ = axis.contour(
                self.xx0, self.xx1, energies, [self.threshold], colors=ORANGE, linewidths=1.8
            )
            axis.plot([], [], color=ORANGE, label=f"threshold {self.threshold:.3g}")
        axis.set_xlabel(label_of(self.feature_names[0]), parse_math=False)
        axis.set_ylabel(label_of(self.feature_names[1]), parse_math=False)
        axis.legend(loc="upper right", fontsize="small")

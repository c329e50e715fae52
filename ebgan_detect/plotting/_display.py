"""What all displays share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.errors import InvalidInputError, InvalidParameterError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Okabe and Ito's palette, told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
UNIT = "scaled unit²"
ENERGY = f"energy [{UNIT}]"
MAX_ROWS = 16
"""Rows that one figure can explain."""
LONGEST_LABEL = 40


@dataclass(kw_only=True, eq=False, repr=False)
class Display(ABC):
    """Data to draw; drawing leaves `figure_` and `ax_`."""

    figure_: Figure = field(init=False)
    ax_: Any = field(init=False)

    def plot(self, ax: Any = None) -> Self:
        """Draw what the display holds.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            Where to draw, one for each panel; None makes a figure.

        Returns
        -------
        Self
            This display.

        Raises
        ------
        InvalidInputError
            If the data cannot be drawn.
        InvalidParameterError
            If `ax` has another length, or an option is out of its range.
        MissingDependencyError
            If matplotlib is not installed.
        """
        self._draw(ax)
        return self

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw onto the caller's or new Axes."""

    def _panels(
        self, ax: Any, size: tuple[float, float], shape: tuple[int, int], n: int
    ) -> NDArray[Any]:
        """The caller's Axes, or the first `n` of a new grid."""
        if ax is None:
            _, grid = pyplot().subplots(*shape, figsize=size, layout="constrained", squeeze=False)
            for spare in grid.flat[n:]:
                spare.remove()
            ax = grid.flat[:n]
        axes: NDArray[Any] = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n:
            raise InvalidParameterError(
                f"ax must be None or hold one Axes for each of the {n} panels, got {len(axes)}"
            )
        self.figure_, self.ax_ = axes[0].figure, axes
        return axes

    def _panel(self, ax: Any, size: tuple[float, float]) -> Any:
        """The caller's Axes, or the only one of a new figure."""
        (self.ax_,) = self._panels(ax, size, (1, 1), 1)
        return self.ax_


def pyplot() -> Any:
    """matplotlib.pyplot, or a clear error."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "plotting needs matplotlib: pip install 'ebgan-detect[plot]'"
        ) from error
    return plt


def energy_unit(estimator: Any) -> str:
    """Unit of a detector's energies; a served model does not say."""
    return str(getattr(estimator, "_energy_unit", UNIT))


def require(estimator: Any, *names: str) -> None:
    """Refuse what lacks a needed attribute, before any work."""
    pyplot()
    if hasattr(estimator, "fit"):  # anything else is refused below
        check_is_fitted(estimator)
    for name in names:
        if not hasattr(estimator, name):
            raise InvalidParameterError(
                f"estimator must be a detector that has {name}, got {type(estimator).__name__}; "
                "use EBGANDetector, or the last step of a pipeline that ends in one"
            )


def require_images(estimator: Any) -> None:
    """Refuse a detector of tables."""
    if len(estimator.input_shape_) == 1:
        raise InvalidParameterError(
            "estimator must be fitted on images, of shape (n, h, w) or (n, c, h, w), got one "
            f"fitted on rows of shape {estimator.input_shape_}; its sample method returns rows"
        )


def anomalies(y: Any, n: int) -> NDArray[np.bool_]:
    """Labels of either kind as a mask of anomalies."""
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise InvalidInputError(
            f"y must have shape ({n},), one label for each row of X, got {labels.shape}"
        )
    try:
        found = set(np.unique(labels).tolist())
    except TypeError as error:
        raise InvalidInputError(f"y must hold numbers or bool, got others: {error}") from error
    is_anomaly: NDArray[np.bool_] = labels == (-1 if -1 in found else 1)
    if not (
        labels.dtype == bool
        or (found <= {0, 1} and 0 in found)
        or (found <= {-1, 1} and -1 in found)
    ):
        raise InvalidInputError(
            "y must hold 0 (normal) and 1 (anomaly), or +1 (inlier) and -1 (outlier), got "
            f"{sorted(found)[:5]}; where only one kind occurs give bool, True for anomalies"
        )
    return is_anomaly


def pixels(images: NDArray[Any], limits: tuple[float, float]) -> Array:
    """Images on [0, 1], of shape (n, h, w) if grey and (n, h, w, 3) if coloured."""
    if images.ndim == 4 and images.shape[1] not in (1, 3):
        raise InvalidInputError(
            f"images must have 1 or 3 channels to be drawn, got {images.shape[1]}; the arrays "
            "themselves come from reconstruct, energy_map and sample"
        )
    low, high = limits
    scaled: Array = ((images.astype(float) - low) / ((high - low) or 1.0)).clip(0, 1)
    if scaled.ndim == 3:
        return scaled
    return scaled[:, 0] if scaled.shape[1] == 1 else np.moveaxis(scaled, 1, -1)


def label_of(name: Any) -> str:
    """The name of a column, cut where it would leave no room for what it names."""
    text = str(name)
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def mosaic(pictures: Array, columns: int) -> Array:
    """Pictures from `pixels` as one, row by row with narrow gaps."""
    n, height, width, *channels = pictures.shape
    rows = -(-n // columns)
    gap = max(1, width // 16)
    # A grey map leaves nan blank; colours need white.
    grid = np.full(
        (rows, height + gap, columns, width + gap, *channels), 1.0 if channels else np.nan
    )
    for k, picture in enumerate(pictures):
        grid[k // columns, :height, k % columns, :width] = picture
    whole = grid.reshape(rows * (height + gap), columns * (width + gap), *channels)
    return whole[:-gap, :-gap]


def finish(axis: Any, *, legend: bool = True) -> None:
    """Common look: no box, and a plain legend."""
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize="small")


def draw_members(axis: Any, columns: Mapping[str, Array], name: str, style: dict[str, str]) -> None:
    """One column of a history as a line for each member, only the first one in the legend."""
    members = np.unique(columns["member"])
    for member in members:
        own = columns["member"] == member
        lone = np.count_nonzero(own) == 1
        alpha = 1.0 if len(members) == 1 else 0.6
        axis.plot(
            columns["epoch"][own],
            columns[name][own],
            marker="o" if lone else "",
            alpha=alpha,
            **style,
        )
        style = style | {"label": ""}

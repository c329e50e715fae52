"""Displays in scikit-learn's manner: `from_estimator` computes and draws, `plot` draws again.

matplotlib is imported when something is drawn, not before.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._set_output import _get_adapter_from_container
from sklearn.utils.validation import check_is_fitted
from typing_extensions import override

from ebgan_detect.data import as_rows
from ebgan_detect.errors import InvalidInputError, InvalidParameterError, MissingDependencyError
from ebgan_detect.parameters import Rule, check_parameters, flag, integer, real

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "EnergyHistogramDisplay",
    "EnergyMapDisplay",
    "EnergySurfaceDisplay",
    "SampleGridDisplay",
    "TrainingHistoryDisplay",
]

Array = NDArray[np.float64]

# Okabe and Ito's palette, told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ENERGY = "energy [scaled unit²]"
MAX_ROWS = 16
"""Rows that one figure can explain."""
PANELS = {
    ENERGY: {
        "energy_real": ("real", BLUE, "-"),
        "energy_generated": ("generated", ORANGE, "-"),
        "margin": ("margin", "black", ":"),
    },
    "loss [scaled unit²]": {
        "loss_discriminator": ("discriminator", BLUE, "-"),
        "loss_generator": ("generator", ORANGE, "-"),
    },
    "dimensionless": {
        "pull_away": ("pulling-away term", GREEN, "-"),
        "hinge_active": ("share of generated below margin", PURPLE, "-"),
    },
}


@dataclass(kw_only=True, eq=False, repr=False)
class _Display(ABC):
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
            _, grid = _pyplot().subplots(*shape, figsize=size, layout="constrained", squeeze=False)
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


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingHistoryDisplay(_Display):
    """How a training went, epoch by epoch; one line for each member.

    Attributes
    ----------
    history : dict of str to sequence of float
        `history_` of a detector: columns of equal length, an entry for each member and epoch.
    log_scale : bool, default=True
        Whether energies and losses are on logarithmic axes.
    ax_ : ndarray of Axes
        Panels: energies and margin; losses; pulling-away term and share of generated rows
        below the margin. A panel without its columns, as without adversary, is left out.
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
        _require(estimator, "history_")
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
        axes = self._panels(ax, (3.6 * n, 3.0), (1, n), n)
        for axis, (ylabel, lines) in zip(axes, panels.items(), strict=True):
            for name, (label, color, linestyle) in lines.items():
                style = {"color": color, "linestyle": linestyle, "label": label}
                _draw_members(axis, columns, name, style)
            axis.set(xlabel="epoch", ylabel=ylabel)
            axis.xaxis.get_major_locator().set_params(integer=True)
            if ylabel == "dimensionless":
                axis.set_ylim(-0.03, 1.03)
            elif self.log_scale:
                axis.set_yscale("log")
            _finish(axis)


@dataclass(kw_only=True, eq=False, repr=False)
class EnergyHistogramDisplay(_Display):
    """Distribution of energies, with the threshold.

    Attributes
    ----------
    energies : ndarray of shape (n,)
        Energies [scaled input unit ** 2], >= 0. Infinite ones are counted in the legend.
    threshold : float
        Energy above which rows are called outliers, same unit.
    is_anomaly : ndarray of shape (n,), bool, default=None
        Groups to tell apart. Each has its own total.
    bins : int, default=50
        Number of bins.
    log_scale : bool, default=True
        Whether the energy axis is logarithmic; energies of 0 go to the first bin then.
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
        _require(estimator, "energy", "offset_")
        energies = estimator.energy(X)
        return cls(
            energies=energies,
            threshold=-float(estimator.offset_),
            is_anomaly=None if y is None else _anomalies(y, len(energies)),
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
        axis.set(xlabel=ENERGY, ylabel="share of rows", xscale=scale)
        _finish(axis)

    def _edges(self) -> tuple[Array, str]:
        """Edges of the bins, and the scale on which they are evenly spaced."""
        finite = self.energies[np.isfinite(self.energies)]
        if len(finite) == 0:
            raise InvalidInputError(
                f"energies must hold a finite value, got none among {len(self.energies)}; "
                "give X in the unit of the fitted rows"
            )
        log = self.log_scale and finite.max() > 0
        low, high = float(finite[finite > 0].min() if log else finite.min()), float(finite.max())
        if low == high:
            low, high = 0.9 * low, 1.1 * high or 1.0
        space = np.geomspace if log else np.linspace
        return space(low, high, self.bins + 1), "log" if log else "linear"


@dataclass(kw_only=True, eq=False, repr=False)
class EnergyMapDisplay(_Display):
    """Where the energy of single rows comes from.

    An image gets three pictures: input, reconstruction, and energy map, whose mean is its
    energy. A row of a table gets bars: the features' contributions, which sum to its energy.

    Attributes
    ----------
    X : ndarray of shape (n, d), (n, h, w) or (n, c, h, w)
        Rows [fitted unit]; c is 1 or 3.
    reconstructions : ndarray of the shape of X
        Reconstructions, same unit.
    energy_maps : ndarray of the shape of X
        Squared errors [scaled input unit ** 2].
    feature_names : sequence of str, default=None
        Names of the columns of a table.
    max_features : int, default=10
        Largest number of bars for a row of a table; the last one holds what is left.
    ax_ : ndarray of Axes
        Of shape (3, n) for images, (n,) for tables; energies are titles.
    figure_ : Figure
        Where they are.
    """

    X: NDArray[Any]
    reconstructions: Array
    energy_maps: Array
    feature_names: Sequence[str] | None = None
    max_features: int = 10

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None, **options: Any) -> Self:
        """Explain rows by where their energy comes from.

        Parameters
        ----------
        estimator : EBGANDetector
            Fitted detector.
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape, 16 at most.
        ax : array-like of Axes, default=None
            As in `plot`: 3 * n for images, n for tables.
        **options : dict
            `max_features`.

        Returns
        -------
        EnergyMapDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If `X` has too many rows or does not fit the detector, or images have other than
            1 or 3 channels.
        InvalidParameterError
            If `estimator` is no detector, or as in `plot`.
        """
        _require(estimator, "energy_map", "reconstruct")
        rows = as_rows(X)
        if len(rows) > MAX_ROWS:
            raise InvalidInputError(
                f"X must have at most {MAX_ROWS} rows to be drawn, got {len(rows)}; choose some"
            )
        return cls(
            energy_maps=estimator.energy_map(X),
            reconstructions=estimator.reconstruct(X),
            X=np.concatenate(list(rows.arrays(MAX_ROWS))),
            feature_names=getattr(estimator, "feature_names_in_", None),
            **options,
        ).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        check_parameters(vars(self), {"max_features": integer(1)})
        energies = self.energy_maps.reshape(len(self.X), -1).mean(axis=1)
        draw = self._draw_bars if self.X.ndim == 2 else self._draw_pictures
        draw(ax, [f"energy {energy:.3g}" for energy in energies])

    def _draw_pictures(self, ax: Any, titles: list[str]) -> None:
        """One scale for inputs and reconstructions, one for the maps."""
        n, limits = len(self.X), (float(self.X.min()), float(self.X.max()))
        inputs, reconstructions = _pixels(self.X, limits), _pixels(self.reconstructions, limits)
        maps = self.energy_maps
        maps = maps.mean(axis=1) if maps.ndim == 4 else maps
        top = float(maps[np.isfinite(maps)].max(initial=0)) or 1.0
        height, width = maps.shape[1:]
        size = (1.2 * n + 1.2, 3.6 * height / width + 0.4)
        self.ax_ = axes = self._panels(ax, size, (3, n), 3 * n).reshape(3, n)
        for k, title in enumerate(titles):
            axes[0, k].imshow(inputs[k], cmap="gray", vmin=0, vmax=1)
            axes[1, k].imshow(reconstructions[k], cmap="gray", vmin=0, vmax=1)
            drawn = axes[2, k].imshow(maps[k], cmap="inferno", vmin=0, vmax=top)
            axes[0, k].set_title(title, fontsize="small")
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        for axis, name in zip(axes[:, 0], ("input", "reconstruction", "energy map"), strict=True):
            axis.set_ylabel(name, fontsize="small")
        self.figure_.colorbar(drawn, ax=axes[2].tolist(), label="squared error\n[scaled unit²]")

    def _draw_bars(self, ax: Any, titles: list[str]) -> None:
        """One panel for each row, its largest contribution on top."""
        n, d = self.X.shape
        names = [f"x{j}" for j in range(d)] if self.feature_names is None else self.feature_names
        n_single = d if d <= self.max_features else self.max_features - 1
        columns = min(n, 2)
        rows = -(-n // columns)
        size = (5.0 * columns, (0.26 * min(d, self.max_features) + 0.9) * rows)
        for k, axis in enumerate(self._panels(ax, size, (rows, columns), n)):
            parts = self.energy_maps[k] / d
            order = np.argsort(-parts, kind="stable")
            top, left = order[:n_single], order[n_single:]
            widths = parts[top].tolist()
            labels = [str(names[j]) for j in top]
            values = zip(self.X[k, top], self.reconstructions[k, top], strict=True)
            notes = [f" {value:.4g}, expected {expected:.4g}" for value, expected in values]
            if len(left):
                widths.append(float(parts[left].sum()))
                labels.append(f"{len(left)} others")
                notes.append("")
            bars = axis.barh(range(len(widths)), widths, color=BLUE)
            axis.bar_label(bars, notes, fontsize="small", color="0.35")
            axis.set_yticks(range(len(widths)), labels)
            axis.invert_yaxis()
            axis.set_title(titles[k], fontsize="medium")
            axis.set_xlabel("contribution to " + ENERGY)
            axis.set_xlim(0, 2.1 * max(widths) or 1.0)  # room for the notes
            _finish(axis, legend=False)


@dataclass(kw_only=True, eq=False, repr=False)
class SampleGridDisplay(_Display):
    """What the generator of an image detector makes.

    Attributes
    ----------
    samples : ndarray of shape (n, h, w) or (n, c, h, w)
        Generated images [fitted unit]; c is 1 or 3.
    image_ : AxesImage
        All of them as one image on [0, 1], with narrow gaps.
    ax_ : Axes
        Where it is.
    figure_ : Figure
        Figure of `ax_`.
    """

    samples: Array
    image_: Any = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        n_samples: int = 64,
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw from the generator.

        Parameters
        ----------
        estimator : EBGANDetector
            Detector fitted on images.
        n_samples : int, default=64
            Number of images.
        random_state : int, RandomState or None, default=None
            Seed of the draw.
        ax : Axes, default=None
            As in `plot`.

        Returns
        -------
        SampleGridDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If images have other than 1 or 3 channels.
        InvalidParameterError
            If the detector was fitted on a table or without an adversary, or `n_samples` is
            below 1.
        """
        _require(estimator, "sample", "input_shape_")
        if len(estimator.input_shape_) == 1:
            raise InvalidParameterError(
                "estimator must be fitted on images, of shape (n, h, w) or (n, c, h, w), got one "
                f"fitted on rows of shape {estimator.input_shape_}; its sample method returns rows"
            )
        return cls(samples=estimator.sample(n_samples, random_state=random_state)).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        pictures = _pixels(self.samples, (float(self.samples.min()), float(self.samples.max())))
        n, height, width, *channels = pictures.shape
        columns = math.ceil(math.sqrt(n * height / width))
        rows = -(-n // columns)
        gap = max(1, width // 16)
        # A grey map leaves nan blank; colours need white.
        grid = np.full(
            (rows, height + gap, columns, width + gap, *channels), 1.0 if channels else np.nan
        )
        for k, picture in enumerate(pictures):
            grid[k // columns, :height, k % columns, :width] = picture
        whole = grid.reshape(rows * (height + gap), columns * (width + gap), *channels)[
            :-gap, :-gap
        ]
        axis = self._panel(ax, (5.0, 5.0 * whole.shape[0] / whole.shape[1]))
        self.image_ = axis.imshow(whole, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_axis_off()


@dataclass(kw_only=True, eq=False, repr=False)
class EnergySurfaceDisplay(_Display):
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
    surface_ : QuadContourSet
        Filled contours at logarithmic steps; the lowest 2 % of the plane share a colour.
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
        _require(estimator, "energy", "offset_")
        rows = as_rows(X)
        if rows.shape[1:] != (2,):
            raise InvalidInputError(
                f"X must have shape (n, 2) to be drawn in a plane, got {rows.shape}; "
                "EnergyMapDisplay takes more features"
            )
        rows.check_finite(2**16)
        points = np.concatenate(list(rows.arrays(2**16))).astype(float)
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
        ).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        usable = self.energies[np.isfinite(self.energies) & (self.energies > 0)]
        low, high = np.quantile(usable, [0.02, 1]) if len(usable) else (1.0, 1.0)
        levels = np.geomspace(low, max(high, 1.001 * low), 21)
        energies = self.energies.clip(levels[0], levels[-1])
        axis = self._panel(ax, (5.4, 4.2))
        from matplotlib.ticker import LogLocator

        self.surface_ = axis.contourf(
            self.xx0, self.xx1, energies, levels, norm="log", cmap="viridis"
        )
        bar = self.figure_.colorbar(self.surface_, ax=axis, label=ENERGY, ticks=LogLocator())
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
        axis.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1])
        axis.legend(loc="upper right", fontsize="small")


def _pyplot() -> Any:
    """matplotlib.pyplot, or a clear error."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "plotting needs matplotlib: pip install 'ebgan-detect[plot]'"
        ) from error
    return plt


def _require(estimator: Any, *names: str) -> None:
    """Refuse what lacks a needed attribute, before any work."""
    _pyplot()
    if hasattr(estimator, "fit"):  # a served model has no fit
        check_is_fitted(estimator)
    for name in names:
        if not hasattr(estimator, name):
            raise InvalidParameterError(
                f"estimator must be a detector that has {name}, got {type(estimator).__name__}; "
                "use EBGANDetector"
            )


def _anomalies(y: Any, n: int) -> NDArray[np.bool_]:
    """Labels of either kind as a mask of anomalies."""
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise InvalidInputError(
            f"y must have shape ({n},), one label for each row of X, got {labels.shape}"
        )
    found = set(np.unique(labels).tolist())
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


def _pixels(images: NDArray[Any], limits: tuple[float, float]) -> Array:
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


def _draw_members(
    axis: Any, columns: Mapping[str, Array], name: str, style: dict[str, str]
) -> None:
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


def _finish(axis: Any, *, legend: bool = True) -> None:
    """Common look: no box, and a plain legend."""
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize="small")

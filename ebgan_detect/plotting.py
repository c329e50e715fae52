"""Displays in scikit-learn's manner: `from_estimator` computes and draws, `plot` draws again.

matplotlib is imported when something is drawn, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._set_output import _get_adapter_from_container
from sklearn.utils.validation import check_is_fitted

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

# Okabe and Ito's palette: told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ENERGY = "energy [scaled unit²]"
MAX_ROWS = 16
PANELS = {
    ENERGY: {
        "energy_real": ("real", BLUE, "-"),
        "energy_generated": ("generated", ORANGE, "-"),
        "margin": ("margin", "black", "--"),
    },
    "loss [scaled unit²]": {
        "loss_discriminator": ("discriminator", BLUE, "-"),
        "loss_generator": ("generator", ORANGE, "-"),
    },
    "share": {
        "pull_away": ("pulling-away term", GREEN, "-"),
        "hinge_active": ("generated below margin", PURPLE, "-"),
    },
}


@dataclass(kw_only=True, eq=False, repr=False)
class _Display:
    """What a drawn display remembers."""

    figure_: Figure = field(init=False)
    ax_: Any = field(init=False)

    def _canvas(
        self, ax: Any, size: tuple[float, float], shape: tuple[int, int] = (1, 1), n: int = 1
    ) -> NDArray[np.object_]:
        """The `n` Axes to draw on: the caller's, or the first ones of a new grid."""
        if ax is None:
            _, grid = _pyplot().subplots(*shape, figsize=size, layout="constrained", squeeze=False)
            for spare in grid.ravel()[n:]:
                spare.remove()
            axes = grid.ravel()[:n]
        else:
            axes = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n:
            raise InvalidParameterError(
                f"ax must be None or hold as many Axes as there are panels, {n}, got {len(axes)}"
            )
        self.figure_ = axes[0].figure
        self.ax_ = axes[0] if n == 1 else axes
        return axes


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingHistoryDisplay(_Display):
    """How a training went, epoch by epoch; one line for each member.

    Parameters
    ----------
    history : dict of str to sequence of float
        `history_` of a detector: columns of equal length, one entry a member and epoch.

    Attributes
    ----------
    ax_ : ndarray of Axes
        Panels: energies; losses; pulling-away term and share of generated rows below the
        margin. Panels whose columns are absent, as without an adversary, are left out.
    figure_ : Figure
        Where they are.
    """

    history: Mapping[str, Sequence[float]]

    def plot(self, ax: Any = None, *, log_scale: bool = True) -> Self:
        """Draw the panels.

        Parameters
        ----------
        ax : array-like of Axes, default=None
            One for each panel; None makes a figure.
        log_scale : bool, default=True
            Whether energies are on a logarithmic axis.

        Returns
        -------
        TrainingHistoryDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If `ax` has another length, or `log_scale` is no bool.
        """
        check_parameters({"log_scale": log_scale}, {"log_scale": flag()})
        columns = {name: np.asarray(values, float) for name, values in self.history.items()}
        panels = {
            ylabel: {name: style for name, style in lines.items() if name in columns}
            for ylabel, lines in PANELS.items()
            if not columns.keys().isdisjoint(lines)
        }
        n = len(panels)
        axes = self._canvas(ax, (3.6 * n, 3.2), (1, n), n)
        self.ax_ = axes
        members = np.unique(columns["member"])
        for axis, (ylabel, lines) in zip(axes, panels.items(), strict=True):
            for name, (label, color, linestyle) in lines.items():
                for member in members:
                    own = columns["member"] == member
                    axis.plot(
                        columns["epoch"][own],
                        columns[name][own],
                        color=color,
                        linestyle=linestyle,
                        linewidth=1.5,
                        marker="o" if own.sum() == 1 else None,
                        alpha=1.0 if len(members) == 1 else 0.6,
                        label=label if member == members[0] else None,
                    )
            axis.set(xlabel="epoch", ylabel=ylabel)
            axis.xaxis.get_major_locator().set_params(integer=True)
            if ylabel == "share":
                axis.set_ylim(-0.03, 1.03)
            _finish(axis)
        if log_scale:
            axes[0].set_yscale("log")
        return self

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **options: Any) -> Self:
        """Draw the training of a fitted detector.

        Parameters
        ----------
        estimator : EBGANDetector
            Fitted detector.
        ax, **options
            As in `plot`.

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
        return cls(history=estimator.history_).plot(ax, **options)


@dataclass(kw_only=True, eq=False, repr=False)
class EnergyHistogramDisplay(_Display):
    """Distribution of energies, with the threshold.

    Parameters
    ----------
    energies : ndarray of shape (n,)
        Energies [scaled input unit ** 2], >= 0; infinite ones are counted, not drawn.
    threshold : float
        Energy above which rows are called outliers, same unit.
    is_anomaly : ndarray of shape (n,), bool, default=None
        Groups to tell apart.

    Attributes
    ----------
    ax_ : Axes
        Where the bars are; each group's heights sum to its share of finite energies.
    line_ : Line2D
        The threshold.
    figure_ : Figure
        Figure of `ax_`.
    """

    energies: Array
    threshold: float
    is_anomaly: NDArray[np.bool_] | None = None
    line_: Any = field(init=False)

    def plot(self, ax: Axes | None = None, *, bins: int = 50, log_scale: bool = True) -> Self:
        """Draw the histogram.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.
        bins : int, default=50
            Number of bins.
        log_scale : bool, default=True
            Whether the energy axis is logarithmic; energies of 0 go to the first bin.

        Returns
        -------
        EnergyHistogramDisplay
            This display.

        Raises
        ------
        InvalidInputError
            If no energy is finite.
        InvalidParameterError
            If `bins` is below 1, or `log_scale` is no bool.
        """
        check_parameters(
            {"bins": bins, "log_scale": log_scale}, {"bins": integer(1), "log_scale": flag()}
        )
        finite = self.energies[np.isfinite(self.energies)]
        if len(finite) == 0:
            raise InvalidInputError(
                f"energies must hold a finite value, got {len(self.energies)} infinite ones; "
                "scale X as the fitted rows were"
            )
        shown = finite[finite > 0] if log_scale and finite.any() else finite
        low, high = float(shown.min()), float(shown.max())
        low, high = (low, high) if high > low else (low * 0.9, low * 1.1 or 1.0)
        spaced = np.geomspace if low > 0 and log_scale else np.linspace
        edges = spaced(low, high, bins + 1)
        edges[[0, -1]] = low, high  # rounding must not push the extreme rows out
        groups = {"rows": (np.ones(len(self.energies), bool), BLUE)}
        if self.is_anomaly is not None:
            groups = {"normal": (~self.is_anomaly, BLUE), "anomaly": (self.is_anomaly, ORANGE)}
        (axis,) = self._canvas(ax, (6.4, 3.6))
        for name, (members, color) in groups.items():
            energies = self.energies[members]
            kept = energies[np.isfinite(energies)].clip(low)
            left_out = len(energies) - len(kept)
            label = f"{name} (n = {len(energies)}{f', {left_out} infinite' if left_out else ''})"
            weights = np.full(len(kept), 1 / max(len(energies), 1))
            style = {"histtype": "stepfilled", "edgecolor": color, "facecolor": (color, 0.35)}
            axis.hist(kept, edges, weights=weights, linewidth=1.2, label=label, **style)
        self.line_ = axis.axvline(
            self.threshold, color="black", linestyle="--", label=f"threshold {self.threshold:.3g}"
        )
        if spaced is np.geomspace:
            axis.set_xscale("log")
        axis.set(xlabel=ENERGY, ylabel="share of rows")
        _finish(axis)
        return self

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
            Labels: 0 normal and 1 anomaly, or scikit-learn's +1 inlier and -1 outlier.
        ax, **options
            As in `plot`.

        Returns
        -------
        EnergyHistogramDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If `X` does not fit the detector, or `y` is not of one of the two kinds; only
            ones are of both, and are refused unless they are bool.
        InvalidParameterError
            If `estimator` is no detector, or as in `plot`.
        """
        _require(estimator, "energy", "offset_")
        energies = estimator.energy(X)
        is_anomaly = None if y is None else _anomalies(y, len(energies))
        threshold = -float(estimator.offset_)
        display = cls(energies=energies, threshold=threshold, is_anomaly=is_anomaly)
        return display.plot(ax, **options)


@dataclass(kw_only=True, eq=False, repr=False)
class EnergyMapDisplay(_Display):
    """Where the energy of single rows comes from.

    Images get three pictures each: input, reconstruction, and energy map, whose mean is the
    energy. Tables get bars each: contributions of the features, which sum to the energy.

    Parameters
    ----------
    X : ndarray of shape (n, d), (n, h, w) or (n, c, h, w)
        Rows [fitted unit]; c is 1 or 3.
    reconstructions : ndarray of the shape of X
        Reconstructions, same unit.
    energy_maps : ndarray of the shape of X
        Squared errors [scaled input unit ** 2].
    feature_names : sequence of str, default=None
        Names of the columns of a table.

    Attributes
    ----------
    ax_ : ndarray of Axes
        Of shape (3, n) for images, with the energy as title; of shape (n,) for tables.
    figure_ : Figure
        Where they are.
    """

    X: NDArray[Any]
    reconstructions: Array
    energy_maps: Array
    feature_names: Sequence[str] | None = None

    def plot(self, ax: Any = None, *, max_features: int = 10) -> Self:
        """Draw pictures or bars.

        Parameters
        ----------
        ax : array-like of Axes, default=None
            3 * n for images, n for tables; None makes a figure.
        max_features : int, default=10
            Largest number of bars for a row of a table; the last holds what is left.

        Returns
        -------
        EnergyMapDisplay
            This display.

        Raises
        ------
        InvalidInputError
            If images have other than 1 or 3 channels.
        InvalidParameterError
            If `max_features` is below 1, or `ax` has another length.
        """
        check_parameters({"max_features": max_features}, {"max_features": integer(1)})
        energies = self.energy_maps.reshape(len(self.X), -1).mean(axis=1)
        titles = [f"energy {energy:.3g}" for energy in energies]
        if self.X.ndim == 2:
            self._plot_bars(ax, titles, max_features)
        else:
            self._plot_images(ax, titles)
        return self

    def _plot_images(self, ax: Any, titles: list[str]) -> None:
        """Three rows of pictures: one grey scale for the first two, one scale for the maps."""
        n, limits = len(self.X), (float(self.X.min()), float(self.X.max()))
        pictures = [_pixels(self.X, limits), _pixels(self.reconstructions, limits)]
        maps = self.energy_maps
        maps = maps.mean(axis=1) if maps.ndim == 4 else maps
        top = float(maps[np.isfinite(maps)].max(initial=0)) or 1.0
        height, width = maps.shape[1:]
        size = (1.2 * n + 1.3, 3 * 1.2 * height / width + 0.4)
        axes = self._canvas(ax, size, (3, n), 3 * n).reshape(3, n)
        self.ax_ = axes
        for k in range(n):
            for row, picture in zip(axes, pictures, strict=False):
                row[k].imshow(picture[k], cmap="gray", vmin=0, vmax=1)
            drawn = axes[2, k].imshow(maps[k], cmap="inferno", vmin=0, vmax=top)
            axes[0, k].set_title(titles[k], fontsize="small")
        for axis in axes.ravel():
            axis.set(xticks=[], yticks=[])
        for axis, name in zip(axes[:, 0], ("input", "reconstruction", "energy map"), strict=True):
            axis.set_ylabel(name, fontsize="small")
        self.figure_.colorbar(drawn, ax=axes[2].tolist(), label="[scaled unit²]")

    def _plot_bars(self, ax: Any, titles: list[str], max_features: int) -> None:
        """One panel of bars for each row, the largest contribution on top."""
        n, d = self.X.shape
        names = [f"x{j}" for j in range(d)] if self.feature_names is None else self.feature_names
        n_single = d if d <= max_features else max_features - 1
        columns = min(n, 3)
        rows = -(-n // columns)
        height = 0.26 * min(d, max_features) + 0.9
        axes = self._canvas(ax, (4.2 * columns, height * rows), (rows, columns), n)
        self.ax_ = axes
        for k, axis in enumerate(axes):
            parts = self.energy_maps[k] / d
            order = np.argsort(-parts, kind="stable")[:n_single]
            labels = [f"{names[j]} = {self.X[k, j]:.3g}" for j in order]
            notes = [f" expected {self.reconstructions[k, j]:.3g}" for j in order]
            widths = parts[order].tolist()
            if d > n_single:
                labels.append(f"{d - n_single} others")
                notes.append("")
                widths.append(parts.sum() - sum(widths))
            bars = axis.barh(range(len(widths)), widths, color=BLUE)
            axis.bar_label(bars, notes, fontsize="small", color="0.35")
            axis.set_yticks(range(len(widths)), labels)
            axis.invert_yaxis()
            axis.set(title=titles[k], xlabel="contribution to " + ENERGY)
            axis.margins(x=0.35)
            _finish(axis, legend=False)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None, **options: Any) -> Self:
        """Explain rows by where their energy comes from.

        Parameters
        ----------
        estimator : EBGANDetector
            Fitted detector.
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape, at most 16.
        ax, **options
            As in `plot`.

        Returns
        -------
        EnergyMapDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If `X` has too many rows or does not fit the detector, or as in `plot`.
        InvalidParameterError
            If `estimator` is no detector, or as in `plot`.
        """
        _require(estimator, "energy_map", "reconstruct")
        rows = as_rows(X)
        if len(rows) > MAX_ROWS:
            raise InvalidInputError(
                f"X must have at most {MAX_ROWS} rows to be drawn, got {len(rows)}; choose some"
            )
        display = cls(
            X=np.concatenate(list(rows.arrays(MAX_ROWS))),
            reconstructions=estimator.reconstruct(X),
            energy_maps=estimator.energy_map(X),
            feature_names=getattr(estimator, "feature_names_in_", None),
        )
        return display.plot(ax, **options)


@dataclass(kw_only=True, eq=False, repr=False)
class SampleGridDisplay(_Display):
    """What the generator of an image detector makes.

    Parameters
    ----------
    samples : ndarray of shape (n, h, w) or (n, c, h, w)
        Generated images [fitted unit]; c is 1 or 3.

    Attributes
    ----------
    image_ : AxesImage
        All images as one, on a common grey scale, with a gap of one pixel between them.
    ax_ : Axes
        Where it is.
    figure_ : Figure
        Figure of `ax_`.
    """

    samples: Array
    image_: Any = field(init=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the images in a grid that is about square.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        SampleGridDisplay
            This display.

        Raises
        ------
        InvalidInputError
            If images have other than 1 or 3 channels.
        """
        pictures = _pixels(self.samples, (float(self.samples.min()), float(self.samples.max())))
        n, height, width, *channels = pictures.shape
        columns = int(np.ceil(np.sqrt(n * height / width)))
        rows = -(-n // columns)
        grid = np.ones((rows, height + 1, columns, width + 1, *channels))
        if not channels:
            grid[:] = np.nan  # a colour map leaves nan blank
        for k, picture in enumerate(pictures):
            grid[k // columns, :height, k % columns, :width] = picture
        whole = grid.reshape(rows * (height + 1), columns * (width + 1), *channels)[:-1, :-1]
        (axis,) = self._canvas(ax, (6.0, 6.0 * whole.shape[0] / whole.shape[1]))
        self.image_ = axis.imshow(whole, cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
        return self

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
            As in `plot`.
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


@dataclass(kw_only=True, eq=False, repr=False)
class EnergySurfaceDisplay(_Display):
    """Energy over the plane of a table with two features.

    Parameters
    ----------
    xx0, xx1 : ndarray of shape (m, m)
        Grid of the plane [fitted unit].
    energies : ndarray of shape (m, m)
        Energies there [scaled input unit ** 2].
    points : ndarray of shape (n, 2)
        Rows to draw into it.
    threshold : float
        Energy above which rows are called outliers.
    feature_names : sequence of str, default=("x0", "x1")
        Labels of the axes.

    Attributes
    ----------
    surface_ : QuadContourSet
        Filled contours, at logarithmic steps.
    contour_ : QuadContourSet or None
        The threshold; None where no energy of the grid crosses it.
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

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw contours, points and the threshold.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        EnergySurfaceDisplay
            This display.
        """
        positive = self.energies[np.isfinite(self.energies) & (self.energies > 0)]
        low, high = float(positive.min(initial=1.0)), float(positive.max(initial=0))
        low, high = np.log10([positive.min(), positive.max()])
        levels = np.linspace(low, high + 1e-6, 25)
        (axis,) = self._canvas(ax, (5.6, 4.4))
        log = np.log10(self.energies.clip(10**low, 10**high))
        self.surface_ = axis.contourf(self.xx0, self.xx1, log, levels, cmap="cividis")
        return self

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
            If `estimator` is no detector, `grid_resolution` is below 2 or `eps` negative.
        """
        check_parameters(
            {"grid_resolution": grid_resolution, "eps": eps},
            {
                "grid_resolution": integer(2),
                "eps": Rule(lambda v: v is None or real(0).holds(v), "None or a float >= 0"),
            },
        )
        _require(estimator, "energy", "offset_")
        rows = as_rows(X)
        if rows.shape[1:] != (2,):
            raise InvalidInputError(f"X must be a table of two features, got shape {rows.shape}")
        rows.check_finite(2**16)
        points = np.concatenate(list(rows.arrays(2**16)))
        low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
        rim = (high - low) / 4 if eps is None else eps
        sides = np.linspace(low - rim, high + rim, grid_resolution)
        xx0, xx1 = np.meshgrid(sides[:, 0], sides[:, 1])
        plane: Any = np.c_[xx0.ravel(), xx1.ravel()]
        names = getattr(estimator, "feature_names_in_", ("x0", "x1"))
        if hasattr(X, "columns"):  # a detector fitted on a frame wants its columns' names
            plane = _get_adapter_from_container(X).create_container(plane, plane, columns=X.columns)
        display = cls(
            xx0=xx0,
            xx1=xx1,
            energies=estimator.energy(plane).reshape(xx0.shape),
            points=points,
            threshold=-float(estimator.offset_),
            feature_names=names,
        )
        return display.plot(ax)


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
    check_is_fitted(estimator)
    for name in names:
        if not hasattr(estimator, name):
            raise InvalidParameterError(
                f"estimator must be a detector with {name}, got {type(estimator).__name__}; "
                "EBGANDetector has it"
            )


def _anomalies(y: Any, n: int) -> NDArray[np.bool_]:
    """Labels of either kind as a mask of anomalies."""
    labels = np.asarray(y)
    found = np.unique(labels)
    if labels.shape != (n,):
        raise InvalidInputError(f"y must have shape ({n},) as X has {n} rows, got {labels.shape}")
    if labels.dtype == bool or set(found.tolist()) in ({0}, {0, 1}):
        return labels.astype(bool)
    if set(found.tolist()) in ({-1}, {-1, 1}):
        mask: NDArray[np.bool_] = labels == -1
        return mask
    raise InvalidInputError(
        "y must hold 0 (normal) and 1 (anomaly), or +1 (inlier) and -1 (outlier), got "
        f"{found[:5].tolist()}; convert it, to bool (True for anomalies) if there is one class only"
    )


def _pixels(images: NDArray[Any], limits: tuple[float, float]) -> Array:
    """Images on [0, 1], of shape (n, h, w) if grey and (n, h, w, 3) if coloured."""
    low, high = limits
    scaled: Array = ((images.astype(float) - low) / ((high - low) or 1.0)).clip(0, 1)
    if scaled.ndim == 3:
        return scaled
    if scaled.shape[1] not in (1, 3):
        raise InvalidInputError(
            f"images must have 1 or 3 channels to be drawn, got {scaled.shape[1]}; the arrays "
            "themselves come from reconstruct, energy_map and sample"
        )
    return scaled[:, 0] if scaled.shape[1] == 1 else np.moveaxis(scaled, 1, -1)


def _finish(axis: Axes, *, legend: bool = True) -> None:
    """Common look: no box, and a plain legend."""
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize="small")

"""Where the energy of a row lies, and what the generator makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ebgan_detect.data import as_rows
from ebgan_detect.errors import InvalidInputError
from ebgan_detect.parameters import check_parameters, integer
from ebgan_detect.plotting._display import (
    BLUE,
    MAX_ROWS,
    UNIT,
    Array,
    Display,
    energy_unit,
    finish,
    label_of,
    mosaic,
    pixels,
    require,
    require_images,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class EnergyMapDisplay(Display):
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
        Energies of single features: squared errors [scaled input unit ** 2], or what the
        detector has in their place.
    feature_names : sequence of str, default=None
        Names of the columns of a table.
    max_features : int, default=10
        Largest number of bars for a row of a table; the last one holds what is left.
    unit : str, default='scaled unit²'
        Unit of the energies.
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
    unit: str = UNIT

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
        require(estimator, "energy_map", "reconstruct")
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
            unit=energy_unit(estimator),
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
        inputs, reconstructions = pixels(self.X, limits), pixels(self.reconstructions, limits)
        maps = self.energy_maps
        maps = maps.mean(axis=1) if maps.ndim == 4 else maps
        finite = maps[np.isfinite(maps)]
        bottom, top = float(finite.min(initial=0)), float(finite.max(initial=0)) or 1.0
        height, width = maps.shape[1:]
        size = (1.2 * n + 1.2, 3.6 * height / width + 0.4)
        self.ax_ = axes = self._panels(ax, size, (3, n), 3 * n).reshape(3, n)
        for k, title in enumerate(titles):
            axes[0, k].imshow(inputs[k], cmap="gray", vmin=0, vmax=1)
            axes[1, k].imshow(reconstructions[k], cmap="gray", vmin=0, vmax=1)
            drawn = axes[2, k].imshow(maps[k], cmap="inferno", vmin=bottom, vmax=top)
            axes[0, k].set_title(title, fontsize="small")
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        for axis, name in zip(axes[:, 0], ("input", "reconstruction", "energy map"), strict=True):
            axis.set_ylabel(name, fontsize="small")
        self.figure_.colorbar(drawn, ax=axes[2].tolist(), label=f"energy\n[{self.unit}]")

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
            widths = parts[top]
            labels = [label_of(names[j]) for j in top]
            values = zip(self.X[k, top], self.reconstructions[k, top], strict=True)
            notes = [f" {value:.4g}, expected {expected:.4g}" for value, expected in values]
            if len(left):
                widths = np.append(widths, parts[left].sum())
                labels.append(f"{len(left)} others")
                notes.append("")
            is_finite = np.isfinite(widths)
            most = float(widths[is_finite].max(initial=0.0))
            notes = [n if f else f" infinite{n}" for n, f in zip(notes, is_finite, strict=True)]
            widths = np.where(is_finite, widths, most or 0.5)
            bars = axis.barh(range(len(widths)), widths, color=BLUE)
            axis.bar_label(bars, notes, fontsize="small", color="0.35")
            axis.set_yticks(range(len(widths)), labels, parse_math=False)
            axis.invert_yaxis()
            axis.set_title(titles[k], fontsize="medium")
            axis.set_xlabel(f"contribution to energy [{self.unit}]")
            axis.set_xlim(min(*widths, 0.0), 2.1 * most or 1.0)  # room for the notes
            finish(axis, legend=False)


@dataclass(kw_only=True, eq=False, repr=False)
class SampleGridDisplay(Display):
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
        require(estimator, "sample", "input_shape_")
        require_images(estimator)
        return cls(samples=estimator.sample(n_samples, random_state=random_state)).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        pictures = pixels(self.samples, (float(self.samples.min()), float(self.samples.max())))
        n, height, width = pictures.shape[:3]
        whole = mosaic(pictures, math.ceil(math.sqrt(n * height / width)))
        axis = self._panel(ax, (5.0, 5.0 * whole.shape[0] / whole.shape[1]))
        self.image_ = axis.imshow(whole, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_axis_off()

"""Pictures of the generator's input: walks through it, and sums and differences in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from ebgan_detect.errors import InvalidInputError, InvalidParameterError
from ebgan_detect.parameters import check_parameters, integer
from ebgan_detect.plotting._display import (
    Array,
    Display,
    mosaic,
    pixels,
    require,
    require_images,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def spherical_walk(start: ArrayLike, stop: ArrayLike, n_steps: int) -> NDArray[np.float64]:
    """Latents on the arc from one latent to another.

    Nearly all of a standard normal distribution in many dimensions lies at one distance from
    the origin. A straight line leaves that shell on the way, an arc does not.

    Parameters
    ----------
    start, stop : array-like of shape (latent_dim,)
        Ends.
    n_steps : int
        Number of latents, ends included, >= 2.

    Returns
    -------
    ndarray of shape (n_steps, latent_dim), float64
        At equal angles. Where the ends point the same or opposite ways, or one is 0, there
        is no single arc, and the line between them is taken.

    Raises
    ------
    InvalidInputError
        If the ends are not two rows of equal length.
    InvalidParameterError
        If `n_steps` is below 2.

    References
    ----------
    .. [1] White, "Sampling Generative Networks", arXiv 1609.04468, 2016.

    Examples
    --------
    >>> spherical_walk([3.0, 0.0], [0.0, 3.0], 3).round(4)
    array([[3.    , 0.    ],
           [2.1213, 2.1213],
           [0.    , 3.    ]])
    """
    check_parameters({"n_steps": n_steps}, {"n_steps": integer(2)})
    ends = np.asarray(start, float), np.asarray(stop, float)
    if ends[0].ndim != 1 or ends[0].shape != ends[1].shape:
        raise InvalidInputError(
            "start and stop must have one shape (latent_dim,), got "
            f"{ends[0].shape} and {ends[1].shape}"
        )
    shares = np.linspace(0, 1, n_steps)[:, None]
    product = float(np.prod(np.linalg.norm(ends, axis=1)))
    angle = np.arccos(np.clip(np.dot(*ends) / product, -1, 1)) if product else 0.0
    weights = np.hstack([1 - shares, shares])
    if np.sin(angle) > 1e-6:
        weights = np.sin(weights * angle) / np.sin(angle)
    walk: NDArray[np.float64] = weights @ np.stack(ends)
    return walk


@dataclass(kw_only=True, eq=False, repr=False)
class LatentWalkDisplay(Display):
    """What the generator makes on the way from one latent to another; a row for each walk.

    Attributes
    ----------
    latents : ndarray of shape (n_walks, n_steps, latent_dim)
        Where the walks lead.
    samples : ndarray of shape (n_walks, n_steps, h, w) or (n_walks, n_steps, c, h, w)
        Generated images [fitted unit]; c is 1 or 3.
    image_ : AxesImage
        All of them as one image on [0, 1], with narrow gaps.
    ax_ : Axes
        Where it is.
    figure_ : Figure
        Figure of `ax_`.
    """

    latents: Array
    samples: Array
    image_: Any = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        ends: ArrayLike | None = None,
        *,
        n_walks: int = 6,
        n_steps: int = 10,
        member: int = 0,
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Walk through the latents of a detector's generator.

        Parameters
        ----------
        estimator : EBGANDetector
            Detector with a generator, fitted on images.
        ends : array-like of shape (n_walks, 2, latent_dim), default=None
            Where each walk starts and stops; None draws them.
        n_walks : int, default=6
            Number of walks that are drawn where `ends` is None.
        n_steps : int, default=10
            Images of each walk, ends included, at equal angles.
        member : int, default=0
            Number of the ensemble member whose generator is used.
        random_state : int, RandomState or None, default=None
            Seed of the ends.
        ax : Axes, default=None
            As in `plot`.

        Returns
        -------
        LatentWalkDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If `ends` has another shape or holds nan or infinity, or images have other than
            1 or 3 channels.
        InvalidParameterError
            If the detector was fitted on a table or has no generator, or a number is out of
            its range.
        """
        check_parameters(
            {"n_walks": n_walks, "n_steps": n_steps}, {"n_walks": integer(1), "n_steps": integer(2)}
        )
        require(estimator, "generate", "draw_latents", "input_shape_")
        require_images(estimator)
        if ends is None:
            drawn = estimator.draw_latents(2 * n_walks, random_state=random_state)
            ends = drawn.reshape(n_walks, 2, -1)
        pairs = np.asarray(ends, float)
        if pairs.ndim != 3 or pairs.shape[1] != 2 or len(pairs) == 0:
            raise InvalidInputError(
                f"ends must have shape (n_walks, 2, latent_dim), got {pairs.shape}"
            )
        latents = np.stack([spherical_walk(start, stop, n_steps) for start, stop in pairs])
        samples = estimator.generate(latents.reshape(-1, latents.shape[-1]), member=member)
        return cls(
            latents=latents, samples=samples.reshape(*latents.shape[:2], *samples.shape[1:])
        ).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        flat = self.samples.reshape(-1, *self.samples.shape[2:])
        pictures = pixels(flat, (float(flat.min()), float(flat.max())))
        whole = mosaic(pictures, self.samples.shape[1])
        axis = self._panel(ax, (7.0, 7.0 * whole.shape[0] / whole.shape[1]))
        self.image_ = axis.imshow(whole, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_axis_off()


@dataclass(kw_only=True, eq=False, repr=False)
class LatentArithmeticDisplay(Display):
    """Mean latents of three groups of samples, added up: first minus second plus third.

    Each group is a column: its samples, and below them what the generator makes of their mean
    latent. The last column is what it makes of the sum. Groups of three, as in the paper [1]_,
    give a sum that is about as long as the latents that the generator was trained on.

    Attributes
    ----------
    groups : sequence of three ndarray of shape (n_group, h, w) or (n_group, c, h, w)
        Samples of each group [fitted unit]; c is 1 or 3.
    means : ndarray of shape (3, h, w) or (3, c, h, w)
        What the generator makes of each group's mean latent, same unit.
    result : ndarray of shape (h, w) or (c, h, w)
        What it makes of the sum, same unit.
    latent : ndarray of shape (latent_dim,)
        The sum.
    titles : sequence of str, default=('first', '- second', '+ third', '= sum')
        Titles of the columns.
    ax_ : ndarray of Axes
        Four panels.
    figure_ : Figure
        Where they are.

    References
    ----------
    .. [1] Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep
       Convolutional Generative Adversarial Networks", ICLR 2016, section 6.3.2.
    """

    groups: Sequence[Array]
    means: Array
    result: Array
    latent: Array
    titles: Sequence[str] = ("first", "- second", "+ third", "= sum")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        first: ArrayLike,
        second: ArrayLike,
        third: ArrayLike,
        *,
        member: int = 0,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Add up the mean latents of three groups.

        Parameters
        ----------
        estimator : EBGANDetector
            Detector with a generator, fitted on images.
        first, second, third : array-like of shape (n_group, latent_dim)
            Latents of each group, such as chosen rows of `draw_latents`.
        member : int, default=0
            Number of the ensemble member whose generator is used.
        ax : array-like of Axes, default=None
            As in `plot`; four.
        **options : dict
            `titles`.

        Returns
        -------
        LatentArithmeticDisplay
            The drawn display.

        Raises
        ------
        InvalidInputError
            If a group has another shape, no rows, or holds nan or infinity, or images have
            other than 1 or 3 channels.
        InvalidParameterError
            If the detector was fitted on a table or has no generator, or as in `plot`.
        """
        require(estimator, "generate", "input_shape_")
        require_images(estimator)
        latents = [np.asarray(group, float) for group in (first, second, third)]
        samples = [estimator.generate(group, member=member) for group in latents]
        means = np.stack([group.mean(axis=0) for group in latents])
        latent = means[0] - means[1] + means[2]
        *shown, result = estimator.generate(np.vstack([means, latent]), member=member)
        return cls(
            groups=samples, means=np.stack(shown), result=result, latent=latent, **options
        ).plot(ax)

    @override
    def _draw(self, ax: Any) -> None:
        if len(self.titles) != 4:
            raise InvalidParameterError(
                f"titles must be four, one for each column, got {len(self.titles)}"
            )
        every = np.concatenate([*self.groups, self.means, self.result[None]])
        limits = float(every.min()), float(every.max())
        columns = [
            np.concatenate([group, mean[None]])
            for group, mean in zip(self.groups, self.means, strict=True)
        ]
        columns.append(self.result[None])
        most = max(map(len, columns))
        height, width = self.result.shape[-2:]
        axes = self._panels(ax, (6.0, 1.5 * most * height / width + 0.4), (1, 4), 4)
        for axis, column, title in zip(axes, columns, self.titles, strict=True):
            blank = np.full((most - len(column), *column.shape[1:]), np.nan)
            # The mean is the last row of every column.
            pictures = pixels(np.concatenate([blank, column]), limits)
            image = np.nan_to_num(pictures, nan=1.0) if pictures.ndim == 4 else pictures
            axis.imshow(mosaic(image, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize="medium")
            axis.set_axis_off()

"""Images made from other images, and images made from nothing; uint8 in, uint8 out.

Images have shape ``(n, h, w)`` or ``(n, c, h, w)`` and values 0…255.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Images = NDArray[np.uint8]

LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey level (ITU-R BT.601)."""


def _as_pixels(values: NDArray[np.float64]) -> Images:
    """Round to the nearest level and clip to what a pixel can hold."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def resized_by_area(images: Images, shape: tuple[int, int]) -> Images:
    """Each new pixel is the mean of the area that it covers; the mean of an image stays."""
    rows, columns = (_overlaps(old, new) for old, new in zip(images.shape[-2:], shape, strict=True))
    parts = np.array_split(images, max(1, images.size // 2**24))
    return np.concatenate([_as_pixels(rows @ part.astype(float) @ columns.T) for part in parts])


def _overlaps(n_old: int, n_new: int) -> NDArray[np.float64]:
    """Share of each new pixel that each old one fills, along one side; rows sum to 1."""
    old, new = np.arange(n_old + 1) / n_old, np.arange(n_new + 1) / n_new
    ends = np.minimum.outer(new[1:], old[1:])
    starts = np.maximum.outer(new[:-1], old[:-1])
    return np.clip(ends - starts, 0, None) * n_new


def in_shape_of(images: Images, shape: tuple[int, ...]) -> Images:
    """Resize by area, and turn colour into luminance or grey into equal colours."""
    images = resized_by_area(images, (shape[-2], shape[-1]))
    if len(shape) == 2 and images.ndim == 4:
        return _as_pixels(np.tensordot(images.astype(float), LUMINANCE, axes=(1, 0)))
    if len(shape) == 3 and images.ndim == 3:
        return np.repeat(images[:, None], shape[0], axis=1)
    return images


def inverted(images: Images) -> Images:
    """Light for dark; twice gives the images back."""
    return 255 - images


def rotated(images: Images) -> Images:
    """A quarter turn counterclockwise; sides change places."""
    return np.ascontiguousarray(np.rot90(images, axes=(-2, -1)))


def blurred(images: Images, sigma: float = 1.5) -> Images:
    """A Gaussian blur, `sigma` in pixels, mirrored at the border."""
    widths = (0.0,) * (images.ndim - 2) + (sigma, sigma)
    return _as_pixels(gaussian_filter(images.astype(float), widths, mode="reflect"))


def occluded(images: Images, rng: np.random.Generator, level: int = 128) -> Images:
    """A grey square, a third of the shorter side wide, at a random place of each image."""
    out = images.copy()
    side = min(images.shape[-2:]) // 3
    tops, lefts = (rng.integers(0, n - side + 1, len(images)) for n in images.shape[-2:])
    for image, top, left in zip(out, tops, lefts, strict=True):
        image[..., top : top + side, left : left + side] = level
    return out


def shuffled(images: Images, rng: np.random.Generator) -> Images:
    """The pixels of each image in an order of its own; colours stay together."""
    flat = images.reshape(*images.shape[:-2], -1)
    order = rng.random((len(images), flat.shape[-1])).argsort(axis=1)
    order = order.reshape(len(images), *[1] * (flat.ndim - 2), -1)
    return np.take_along_axis(flat, order, axis=-1).reshape(images.shape)


def constant(levels: Iterable[int], shape: tuple[int, ...]) -> Images:
    """One image of a single grey for each level."""
    greys = np.array(list(levels), np.uint8).reshape(-1, *[1] * len(shape))
    return np.ascontiguousarray(np.broadcast_to(greys, (len(greys), *shape)))


def uniform_noise(n: int, shape: tuple[int, ...], rng: np.random.Generator) -> Images:
    """Every value drawn evenly from 0…255."""
    return rng.integers(0, 256, (n, *shape), np.uint8)


def gaussian_noise(n: int, shape: tuple[int, ...], rng: np.random.Generator) -> Images:
    """Every value drawn around mid-grey with standard deviation 64, clipped."""
    return _as_pixels(rng.normal(127.5, 64, (n, *shape)))


def outliers(
    test: Images, others: dict[str, Images], *, n_made: int = 2000
) -> dict[str, NDArray[Any]]:
    """Everything that images like `test` are compared with, the same for every method and seed.

    Other sets count whole; at most `n_made` images are corrupted or made in each way.
    """
    shape = test.shape[1:]
    rng = np.random.default_rng(0)
    some = test[np.sort(rng.choice(len(test), min(n_made, len(test)), replace=False))]
    return {
        **{name: in_shape_of(images, shape) for name, images in others.items()},
        "black (level 0)": constant([0], shape),
        "near-black (levels 1…15)": constant(range(1, 16), shape),
        "constant (levels 16…255)": constant(range(16, 256), shape),
        "uniform noise": uniform_noise(n_made, shape, rng),
        "Gaussian noise": gaussian_noise(n_made, shape, rng),
        "shuffled pixels": shuffled(some, rng),
        "inverted": inverted(some),
        "rotated": rotated(some),
        "blurred": blurred(some),
        "occluded": occluded(some, rng),
    }

"""Image sets as uint8 arrays, from the data folder or from torchvision's downloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.common import find_data_folder

Array = NDArray[Any]

DOWNLOADS = Path(__file__).parents[1] / "data"
SIXTHS_KEPT = 5


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their classes, in the two files that they come in.

    Attributes
    ----------
    train, test : ndarray of shape (n, h, w) or (n, c, h, w), uint8
        Images; c colours come first.
    train_labels, test_labels : ndarray of shape (n,)
        Classes. No fit sees them, except to leave out what counts as an anomaly.
    used : str
        What these rows are, where they are not simply the official files.
    """

    train: Array
    train_labels: Array
    test: Array
    test_labels: Array
    used: str = "official training and test files"


def load(name: str) -> ImageSet:
    """One of `SETS`, from the folder in ``EBGAN_DATA`` or else through torchvision."""
    folder = find_data_folder()
    from_files, from_torchvision = SETS[name]
    return from_torchvision() if folder is None else from_files(folder / "images")


def development_part(images: ImageSet) -> ImageSet:
    """The training file alone: its last sixth takes the test file's place."""
    n = len(images.train) * SIXTHS_KEPT // (SIXTHS_KEPT + 1)
    return ImageSet(
        images.train[:n],
        images.train_labels[:n],
        images.train[n:],
        images.train_labels[n:],
        f"training file only: rows 0…{n - 1} to train, {n}…{len(images.train) - 1} to score",
    )


# --- from the data folder -------------------------------------------------------------------


def _split_file(file_name: str, folder: Path) -> ImageSet:
    """An NPZ file with both official files in it."""
    with np.load(folder / file_name) as file:
        return ImageSet(*(file[n] for n in ("x_train", "y_train", "x_test", "y_test")))


def _usps(folder: Path) -> ImageSet:
    images = _split_file("usps.npz", folder)
    train, test = (np.rint(x * 255).astype(np.uint8) for x in (images.train, images.test))
    return ImageSet(train, images.train_labels, test, images.test_labels)


def _omniglot(folder: Path) -> ImageSet:
    with np.load(folder / "omniglot_background_small.npz") as file:
        ink, characters = file["x"] * np.uint8(255), file["character"]
    return ImageSet(ink, characters, ink, characters, f"{len(ink):,} background images")


def _cifar(folder: Path) -> ImageSet:
    parts = []
    for name in ("cifar10_train_a", "cifar10_train_b", "cifar10_test"):
        with np.load(folder / f"{name}.npz") as file:
            parts.append((np.moveaxis(file["x"], -1, 1), file["y"]))
    (a, labels_a), (b, labels_b), (test, test_labels) = parts
    return ImageSet(
        np.concatenate([a, b]),
        np.concatenate([labels_a, labels_b]),
        np.ascontiguousarray(test),
        test_labels,
        "incomplete CIFAR-10: 20,000 of the 50,000 training images (data_batch_1 and 2); "
        "5,000 test images, 4,000 of them from data_batch_5 and only 1,000 official",
    )


def _digits(_: Path | None = None) -> ImageSet:
    """scikit-learn's 8x8 digits, a stand-in that needs no files."""
    x, y = load_digits(return_X_y=True)
    images = np.rint(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return ImageSet(images[:1200], y[:1200], images[1200:], y[1200:], "scikit-learn's digits")


# --- through torchvision ----------------------------------------------------------------------


def torchvision_datasets() -> Any:
    """`torchvision.datasets`, or an explanation."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        # A torchvision built for CUDA raises RuntimeError beside a CPU build of torch.
        raise SystemExit(
            "no images: set EBGAN_DATA to a folder that holds images/, or install the "
            f"torchvision that belongs to this torch to download them (got: {error})"
        ) from error
    return datasets


def _downloaded(class_name: str) -> ImageSet:
    """Both files of a set whose class holds all images as one array."""
    make = getattr(torchvision_datasets(), class_name)
    arrays = []
    for train in (True, False):
        part = make(DOWNLOADS, train=train, download=True)
        images = np.asarray(part.data)
        arrays.append(images if images.ndim == 3 else np.moveaxis(images, -1, 1).copy())
        arrays.append(np.asarray(part.targets))
    return ImageSet(*arrays)


def _downloaded_omniglot() -> ImageSet:
    part = torchvision_datasets().Omniglot(DOWNLOADS, background=True, download=True)
    pictures, characters = zip(*part, strict=True)
    ink = np.stack([255 - np.asarray(picture) for picture in pictures])  # ink is black there
    labels = np.asarray(characters)
    return ImageSet(ink, labels, ink, labels, f"{len(ink):,} background images")


def _named(class_name: str) -> Callable[[], ImageSet]:
    return lambda: _downloaded(class_name)


def _file(name: str) -> Callable[[Path], ImageSet]:
    return lambda folder: _split_file(name, folder)


SETS: dict[str, tuple[Callable[[Path], ImageSet], Callable[[], ImageSet]]] = {
    "mnist": (_file("mnist.npz"), _named("MNIST")),
    "fashion-mnist": (_file("fashion_mnist.npz"), _named("FashionMNIST")),
    "cifar-10": (_cifar, _named("CIFAR10")),
    "usps": (_usps, _named("USPS")),
    "omniglot": (_omniglot, _downloaded_omniglot),
    "digits": (_digits, _digits),
}
"""From a set's name to its reader of the data folder and its reader through torchvision."""

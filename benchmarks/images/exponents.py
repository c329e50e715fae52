"""How energies should be relative to an image's complexity: ways to divide them compared.

    python -m benchmarks.images.exponents

Trains and scores as `benchmarks.images.ways` does, keeps the runs under
``benchmarks/results/exponents``, and writes the table beside them. A way has an exponent, and a
share of training images: their energies are divided, those of more detailed images are not
divided further.
"""

from __future__ import annotations

import numpy as np

from benchmarks.images.datasets import Array
from benchmarks.images.ways import compare, of_images
from ebgan_detect import EBGANDetector
from ebgan_detect.complexity import FLOOR, total_variation

WAYS: dict[str, tuple[float, float | None]] = {
    "0": (0.0, 0.05),
    "0.5, 5 %": (0.5, 0.05),
    "1, 5 %": (1.0, 0.05),
    "2, 5 %": (2.0, 0.05),
    "1, 1 %": (1.0, 0.01),
    "1, 25 %": (1.0, 0.25),
    "0.5, 50 %": (0.5, 0.5),
    "0.5, 95 %": (0.5, 0.95),
    "0.5, all": (0.5, None),
}
"""Exponent, and the share of training images that are plain: only such energies are divided."""


def factors(detector: EBGANDetector, normal: Array, images: Array) -> dict[str, Array]:
    """What each way multiplies the energies of images by."""
    found, usual = (_variations(detector, some) for some in (images, normal))
    ends = {share: np.quantile(usual, share) for _, share in WAYS.values() if share is not None}
    every = {}
    for name, (exponent, share) in WAYS.items():
        relative = found / usual.mean() if share is None else np.minimum(found / ends[share], 1)
        every[name] = np.maximum(relative, FLOOR) ** -exponent
    return every


def _variations(detector: EBGANDetector, images: Array) -> Array:
    """Total variations of scaled images."""
    return of_images(detector, images, lambda x: total_variation(detector.model_.scale(x)).double())


def by_way(detector: EBGANDetector, normal: Array, images: Array) -> dict[str, Array]:
    """Energies of images, divided in each way."""
    every = factors(detector, normal, images)
    plain = detector.energy(images)
    return {name: plain * factor for name, factor in every.items()}


def main() -> None:
    """Compare the ways."""
    compare("Energies relative to complexity, by exponent and share", "exponents", [*WAYS], by_way)


if __name__ == "__main__":
    main()

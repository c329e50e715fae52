"""What the generator has learnt: samples, walks between latents, and sums of latents.

Fits scikit-learn's digits, or images of your own from an NPY file, and writes three pictures.

    python -m examples.latents --output build/latents
    python -m examples.latents --images faces.npy --epochs 20
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from ebgan_detect import EBGANDetector, TrainingHealthWarning
from ebgan_detect.plotting import LatentArithmeticDisplay, LatentWalkDisplay, SampleGridDisplay


def groups_of_digits(detector: EBGANDetector, latents: np.ndarray) -> list[np.ndarray]:
    """Latents whose samples a classifier takes most surely for three digits it finds most of."""
    images, labels = load_digits(return_X_y=True)
    samples = detector.generate(latents).reshape(len(latents), -1)
    shares = KNeighborsClassifier(15).fit(images, labels).predict_proba(samples)
    usual = np.argsort(-np.sort(shares, axis=0)[-3:].sum(axis=0), kind="stable")[:3]
    return [latents[np.argsort(-shares[:, digit], kind="stable")[:3]] for digit in usual]


def main() -> None:
    """Fit, draw samples, walks and a sum, and print how far the samples are from the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="NPY file of shape (n, h, w) or (n, c, h, w)")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--output", type=Path, default=Path("build/latents"))
    arguments = parser.parse_args()
    mpl.use("Agg")
    warnings.simplefilter("ignore", TrainingHealthWarning)

    if arguments.images is None:
        images = load_digits().images
    else:
        images = np.load(arguments.images, mmap_mode="r")
    detector = EBGANDetector(max_epochs=arguments.epochs, random_state=0).fit(images)

    latents = detector.draw_latents(300, random_state=0)
    samples = detector.generate(latents)  # what sample(300, random_state=0) returns
    if arguments.images is None:
        groups = groups_of_digits(detector, latents)
    else:
        groups = [latents[start : start + 3] for start in (0, 3, 6)]
    pictures = {
        "samples": SampleGridDisplay.from_estimator(detector, n_samples=64, random_state=0),
        "latent_walks": LatentWalkDisplay.from_estimator(detector, random_state=1),
        "latent_arithmetic": LatentArithmeticDisplay.from_estimator(detector, *groups),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, display in pictures.items():
        display.figure_.savefig(arguments.output / f"{name}.png", dpi=80)
        plt.close(display.figure_)

    print("| rows | mean energy | spread of a pixel |\n| --- | --- | --- |")
    for name, rows in {"data": images[:300], "generated": samples}.items():
        spread = np.asarray(rows).std(axis=0).mean()
        print(f"| {name} | {detector.energy(rows).mean():.4f} | {spread:.3g} |")
    print(f"\npictures in {arguments.output}: {', '.join(pictures)}")


if __name__ == "__main__":
    main()

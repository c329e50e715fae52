"""Find the digit that was never shown: EBGAN beside its control, on scikit-learn's digits.

One digit at a time is held out. The detectors train on seven tenths of the other nine
digits; the remaining rows and the held-out digit are the test. Prints a table and draws
pictures.

    python -m examples.digits --out build/demo
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from tqdm.auto import tqdm

from ebgan_detect import EBGANDetector, TrainingHealthWarning
from ebgan_detect.plotting import (
    EnergyHistogramDisplay,
    EnergyMapDisplay,
    SampleGridDisplay,
    TrainingHistoryDisplay,
)

EPOCHS = 20


def methods(seed: int) -> dict[str, Any]:
    """Unfitted detectors by the name they have in the table."""
    brief = {"max_epochs": EPOCHS, "random_state": seed}
    return {
        "EBGAN": EBGANDetector(**brief),
        "same autoencoder, no adversary": EBGANDetector(adversarial=False, **brief),
        "same autoencoder, untrained": EBGANDetector(
            adversarial=False, max_epochs=1, learning_rate=1e-30, random_state=seed
        ),
        "IsolationForest": IsolationForest(random_state=seed),
        "OneClassSVM": make_pipeline(StandardScaler(), OneClassSVM(nu=0.05)),
    }


def compare(digits: list[int], seeds: list[int]) -> dict[str, np.ndarray]:
    """AUROC and AUPRC of every method, for each digit and seed."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in methods(0)}
    bar = tqdm(total=len(digits) * len(seeds) * len(figures), unit="fit")
    for digit in digits:
        normal = images[labels != digit]
        for seed in seeds:
            train, held_out = train_test_split(normal, test_size=0.3, random_state=seed)
            test = np.concatenate([held_out, images[labels == digit]])
            is_anomaly = np.arange(len(test)) >= len(held_out)
            for name, detector in methods(seed).items():
                flat = not isinstance(detector, EBGANDetector)
                shape = (-1, 64) if flat else (-1, 8, 8)
                scores = detector.fit(train.reshape(shape)).score_samples(test.reshape(shape))
                figures[name].append(
                    (
                        float(roc_auc_score(is_anomaly, -scores)),
                        float(average_precision_score(is_anomaly, -scores)),
                    )
                )
                bar.update()
    bar.close()
    return {name: np.array(values) for name, values in figures.items()}


def draw(folder: Path) -> None:
    """Train once with the digit 9 held out, and draw what the detector sees."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    detector = EBGANDetector(max_epochs=EPOCHS, random_state=0).fit(images[labels != 9])
    is_anomaly = labels == 9
    pictures = {
        "history": TrainingHistoryDisplay.from_estimator(detector),
        "histogram": EnergyHistogramDisplay.from_estimator(detector, images, is_anomaly),
        "maps": EnergyMapDisplay.from_estimator(detector, images[5:13]),
        "samples": SampleGridDisplay.from_estimator(detector, random_state=0),
    }
    for name, display in pictures.items():
        display.figure_.savefig(folder / f"{name}.png", dpi=100)
        plt.close(display.figure_)


def main() -> None:
    """Print the table, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=int, nargs="+", default=[0, 1, 4, 7, 9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    arguments = parser.parse_args()
    mpl.use("Agg")
    warnings.simplefilter("ignore", TrainingHealthWarning)
    started = time.perf_counter()
    figures = compare(arguments.digits, arguments.seeds)
    lines = ["| method | AUROC | AUPRC |", "| --- | --- | --- |"]
    for name, values in figures.items():
        mean, spread = values.mean(axis=0), values.std(axis=0)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    table = "\n".join(lines)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(table + "\n")
    draw(arguments.out)
    print(f"\nHeld-out digit, mean ± spread over {len(figures['EBGAN'])} digits and seeds\n")
    print(table)
    print(f"\n{time.perf_counter() - started:.0f} s; pictures in {arguments.out}")


if __name__ == "__main__":
    main()

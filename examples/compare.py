"""EBGAN and the systems it is measured against, side by side on data of your own.

    python -m examples.compare normal.csv test.csv --label is_anomaly

Both files are tables (CSV, Parquet) with the same columns; the label of the test file says
which rows are anomalies (1) and serves only to judge. Without files it takes scikit-learn's
breast cancer data.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split

from ebgan_detect import EBGANDetector, InvalidInputError, TrainingHealthWarning
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.datafiles import ReadOptions, read_rows


def methods(epochs: int, seed: int) -> dict[str, Any]:
    """Unfitted detectors, the same budget for each network."""
    brief = {"max_epochs": epochs, "random_state": seed}
    return {
        "EBGAN": EBGANDetector(**brief),
        "EBGAN, no pulling away": EBGANDetector(pull_away_weight=0.0, **brief),
        "autoencoder": AutoEncoderDetector(**brief),
        "VAE": VAEDetector(**brief),
        "GAN": GANDetector(**brief),
        "IsolationForest": IsolationForest(random_state=seed),
    }


def example_data() -> tuple[Any, Any, np.ndarray]:
    """Benign rows to train on; benign and malignant rows to score."""
    rows, is_benign = load_breast_cancer(return_X_y=True)
    train, benign = train_test_split(rows[is_benign == 1], test_size=0.3, random_state=0)
    test = np.concatenate([benign, rows[is_benign == 0]])
    return train, test, np.arange(len(test)) >= len(benign)


def main() -> None:
    """Fit every method on the normal rows, and print how well each finds the anomalies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="normal rows, then rows to score")
    parser.add_argument("--label", default="label", help="column of the second file")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("build/compare"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", TrainingHealthWarning)

    if len(arguments.files) not in (0, 2):
        parser.error("give two files, or none for the example data")
    if arguments.files:
        normal_rows, new_rows = arguments.files
        try:
            label = np.ravel(read_rows(new_rows, ReadOptions(columns=(arguments.label,))).values)
            test = read_rows(new_rows, ReadOptions(drop=(arguments.label,))).values
            train = read_rows(normal_rows, ReadOptions()).values
        except (InvalidInputError, OSError) as error:
            parser.error(f"{error} (--label is {arguments.label})")
        if set(label.tolist()) != {0, 1}:
            parser.error(f"--label {arguments.label} must name a column that holds 0 and 1")
        is_anomaly = label == 1
    else:
        train, test, is_anomaly = example_data()

    lines = ["| method | AUROC | AUPRC | seconds |", "| --- | --- | --- | --- |"]
    for name, detector in methods(arguments.epochs, arguments.seed).items():
        started = time.perf_counter()
        energy = -detector.fit(train).score_samples(test)
        seconds = time.perf_counter() - started
        figures = roc_auc_score(is_anomaly, energy), average_precision_score(is_anomaly, energy)
        lines.append(f"| {name} | {figures[0]:.3f} | {figures[1]:.3f} | {seconds:.1f} |")
    print(f"{len(train)} normal rows; {is_anomaly.sum()} anomalies among {len(test)} scored rows\n")
    print("\n".join(lines))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

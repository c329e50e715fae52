"""A table from end to end: a data frame, a pipeline, decisions and p-values.

Takes scikit-learn's breast cancer data. The benign rows are normal; the malignant ones are
what a clinic would want to be warned of, and are never seen in training.

    python -m examples.tables --output build/tables
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from ebgan_detect import EBGANDetector


def main() -> None:
    """Fit on normal rows, score the others, write a table that keeps the frame's columns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path("build/tables"))
    arguments = parser.parse_args()

    frame, is_benign = load_breast_cancer(return_X_y=True, as_frame=True)
    malignant = frame[is_benign == 0]
    train, benign = train_test_split(frame[is_benign == 1], test_size=0.3, random_state=0)

    # A detector standardises its columns itself; skewed ones gain from a gentler scale.
    detector = EBGANDetector(max_epochs=arguments.epochs, random_state=0)
    scale = QuantileTransformer(n_quantiles=100, output_distribution="normal", random_state=0)
    pipeline = make_pipeline(scale.set_output(transform="pandas"), detector).fit(train)

    print(f"{len(train)} benign rows trained, {frame.shape[1]} columns; {detector.health_}\n")
    print("| rows | n | called outliers | median p-value |")
    print("| --- | --- | --- | --- |")
    for name, rows in {"benign": benign, "malignant": malignant}.items():
        outliers = np.mean(pipeline.predict(rows) == -1)
        p_values = detector.p_values(scale.transform(rows))
        print(f"| {name} | {len(rows)} | {outliers:.1%} | {np.median(p_values):.3f} |")
    scores = [pipeline.score_samples(rows) for rows in (benign, malignant)]
    is_anomaly = np.repeat([0, 1], [len(benign), len(malignant)])
    print(f"\nAUROC {roc_auc_score(is_anomaly, -np.concatenate(scores)):.3f}")

    # Which columns make the most abnormal row abnormal? Their parts sum to its energy.
    worst = scale.transform(malignant).iloc[[int(np.argmin(scores[1]))]]
    parts = detector.energy_map(worst)[0] / worst.shape[1]
    print(f"\nmost abnormal row ({worst.index[0]}), energy {detector.energy(worst)[0]:.3g}:")
    for column in np.argsort(-parts)[:3]:
        print(f"  {worst.columns[column]}: {parts[column]:.3g}")

    arguments.output.mkdir(parents=True, exist_ok=True)
    table = frame.assign(
        score=pipeline.score_samples(frame), p_value=detector.p_values(scale.transform(frame))
    )
    table.sort_values("score").to_csv(arguments.output / "scores.csv", index_label="row")
    print(f"\nall rows, most abnormal first: {arguments.output / 'scores.csv'}")


if __name__ == "__main__":
    main()

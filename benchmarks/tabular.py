"""Tables: EBGAN, its control, nearest neighbours and IsolationForest in one run.

Half of the normal rows train; the rest and all anomalies test. At most 10,000 rows of a set
are drawn, exact duplicates are dropped before the split, so that none stands on both sides.
Sets that the defaults were chosen on are marked: their rows say nothing new.

    python -m benchmarks.tabular --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from benchmarks.common import data_folder, markdown, metrics, run_once
from ebgan_detect import EBGANDetector, TrainingHealthWarning

DEVELOPMENT = frozenset(
    [
        "annthyroid",
        "cardio",
        "fault",
        "Ionosphere",
        "letter",
        "magic.gamma",
        "optdigits",
        "vowels",
        "Wilt",
    ]
)
METHODS = ("EBGAN", "control", "kNN", "IForest")
MOST_ROWS = 10_000


def split(path: Path, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Training rows, test rows and test labels of one set."""
    with np.load(path) as file:
        x, y = file["X"].astype(np.float64), file["y"].astype(int)
    rng = np.random.default_rng(seed)
    _, first = np.unique(np.c_[x, y], axis=0, return_index=True)
    order = rng.permutation(first)[:MOST_ROWS]
    x, y = x[order], y[order]
    normal, abnormal = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    train, held_out = np.split(normal, [len(normal) // 2])
    test = np.r_[held_out, abnormal]
    return x[train], x[test], y[test]


def score(method: str, train: NDArray[Any], test: NDArray[Any], seed: int) -> dict[str, Any]:
    """Scores of one method, lower = more abnormal, and what it tells of its training."""
    if method == "IForest":
        return {"scores": IsolationForest(random_state=seed).fit(train).score_samples(test)}
    if method == "kNN":
        scaler = StandardScaler().fit(train)
        neighbours = NearestNeighbors(n_neighbors=5).fit(scaler.transform(train))
        return {"scores": -neighbours.kneighbors(scaler.transform(test))[0].mean(axis=1)}
    detector = EBGANDetector(random_state=seed, adversarial=method == "EBGAN")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingHealthWarning)
        scores = detector.fit(train).score_samples(test)
    told = {"scores": scores, "health": detector.health_}
    if method == "EBGAN":
        told["hinge_weight"] = detector.settings_["hinge_weight"]
        told["hinge_active"] = float(np.mean(detector.history_["hinge_active"]))
        told["margin"] = detector.margin_
    return told


def measure(path: Path, method: str, seed: int) -> dict[str, Any]:
    """One method on one split of one set."""
    train, test, is_anomaly = split(path, seed)
    started = time.perf_counter()
    told = score(method, train, test, seed)
    seconds = time.perf_counter() - started
    scores = told.pop("scores")
    sizes = {"n_train": len(train), "n_test": len(test), "n_features": train.shape[1]}
    return {**metrics(is_anomaly, scores), **sizes, **told, "fit_seconds": round(seconds, 2)}


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", help="names without their number; all by default")
    arguments = parser.parse_args()
    paths = sorted(
        (data_folder() / "tabular").glob("*.npz"), key=lambda p: int(p.stem.split("_")[0])
    )
    unknown = set(arguments.sets or ()) - {path.stem.split("_", 1)[1] for path in paths}
    if unknown:
        parser.error(f"--sets must name sets of {data_folder() / 'tabular'}, got {min(unknown)}")
    rows, values = [], {}
    for path in paths:
        name = path.stem.split("_", 1)[1]
        if arguments.sets and name not in arguments.sets:
            continue
        runs = {
            method: [
                run_once(
                    "tabular",
                    {"set": name, "method": method, "seed": seed},
                    partial(measure, path, method, seed),
                )
                for seed in arguments.seeds
            ]
            for method in METHODS
        }
        auroc = [float(np.mean([run["auroc"] for run in runs[m]])) for m in METHODS]
        auprc = [float(np.mean([run["auprc"] for run in runs[m]])) for m in METHODS]
        ebgan = runs["EBGAN"]
        active = float(np.mean([run["hinge_active"] for run in ebgan]))
        mark = " *" if name in DEVELOPMENT else ""
        cells = [f"{a:.3f} / {p:.3f}" for a, p in zip(auroc, auprc, strict=True)]
        rows.append(
            [name + mark, ebgan[0]["n_features"], *cells, ebgan[0]["hinge_weight"], f"{active:.2f}"]
        )
        values[name] = (auroc, auprc)
    for title, chosen in (
        ("**mean, all**", list(values)),
        ("**mean, without ***", [name for name in values if name not in DEVELOPMENT]),
    ):
        if chosen:
            means = np.mean([values[name] for name in chosen], axis=0).T
            cells = [f"{a:.3f} / {p:.3f}" for a, p in means]
            rows.append([f"{title} ({len(chosen)})", "", *cells, "", ""])
    print(f"\nAUROC / average precision, mean over seeds {arguments.seeds}; * development set\n")
    header = ["set", "columns", *METHODS, "hinge weight", "active share"]
    print(markdown(header, rows))


if __name__ == "__main__":
    main()

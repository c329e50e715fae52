"""How far energies should be relative to an image's complexity: `complexity_exponent` compared.

    python -m benchmarks.images.exponents

Trains on development cases, with an adversary, without and not at all, with half of the usual
updates and several classes held out at once, scores every model with each exponent, keeps one
JSON for each model under ``benchmarks/results/exponents``, and writes the table beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import RESULTS, markdown, metrics, result_path, run_once
from benchmarks.images.datasets import Array, development_part, load
from benchmarks.images.energies import GAMES
from benchmarks.images.methods import METHODS, UNTRAINED_ROWS
from ebgan_detect import EBGANDetector
from ebgan_detect.files import write_atomically

CASES = (
    ("held out", "mnist", (1, 9)),
    ("held out", "fashion-mnist", (1, 3)),
    ("held out", "fashion-mnist", (0, 2, 4)),
    ("one class", "mnist", (9,)),
    ("one class", "fashion-mnist", (2,)),
)
"""Protocol, set and classes, all of them development cases."""
EXPONENTS = (0.0, 0.25, 0.5, 1.0)
UPDATES = 1500


class HalfTheUpdates(EBGANDetector):
    """The default detector at half the cost."""

    def _defaults(self, *, is_image: bool) -> dict[str, Any]:
        return super()._defaults(is_image=is_image) | {"max_updates": UPDATES}


def by_exponent(detector: EBGANDetector, images: Array) -> dict[str, Array]:
    """Energies of images relative to each power of their complexity."""
    complexity = detector.model_.complexity
    assert complexity is not None
    with torch.inference_mode():
        blocks = torch.from_numpy(images).split(1000)
        factors = torch.cat([complexity(detector.model_.scale(block)) for block in blocks])
    relative = factors.numpy() ** (-1 / float(complexity.exponent))
    plain = detector.energy(images) / factors.numpy()
    return {str(exponent): plain * relative**-exponent for exponent in EXPONENTS}


def measure(
    protocol: str, name: str, classes: tuple[int, ...], game: str, seed: int
) -> dict[str, Any]:
    """Train one model, and judge it with each exponent."""
    images = development_part(load(name))
    is_class, is_test = (
        np.isin(labels, classes) for labels in (images.train_labels, images.test_labels)
    )
    one = protocol == "one class"
    normal = images.train[is_class if one else ~is_class]
    detector = HalfTheUpdates(**GAMES[game], random_state=seed)
    detector.fit(normal[:UNTRAINED_ROWS] if game == "untrained" else normal)
    energies = by_exponent(detector, images.test)
    kinds = {str(k): images.test_labels == k for k in classes}
    abnormal = {"all others": ~is_test} if one else kinds
    judged = is_test if one else ~is_test
    found = {
        kind: {
            exponent: metrics(anomalies[judged | anomalies], -values[judged | anomalies])
            for exponent, values in energies.items()
        }
        for kind, anomalies in abnormal.items()
    }
    return {"anomalies": found, "used": images.used, "updates": UPDATES}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each kind of anomaly and game, a column for each exponent; means over seeds."""
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for run in runs:
        one = run["protocol"] == "one class"
        metric = "auroc" if one else "auprc"
        for kind, by in run["anomalies"].items():
            what = run["classes"] if one else kind
            case = f"{run['set']} {what} {run['protocol']}, {metric.upper()}"
            values = {exponent: some[metric] for exponent, some in by.items()}
            rows.setdefault((case, run["game"]), []).append(values)
    told = [
        [case, METHODS[game].title]
        + [f"{np.mean([v[str(exponent)] for v in values]):.3f}" for exponent in EXPONENTS]
        for (case, game), values in rows.items()
    ]
    return markdown(["development case", "game", *map(str, EXPONENTS)], told)


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--stored", action="store_true", help="make the table of stored runs only")
    given = parser.parse_args()
    tasks = {
        partial(measure, protocol, name, classes, game, seed): {
            "set": name,
            "protocol": protocol,
            "classes": " ".join(map(str, classes)),
            "game": game,
            "seed": seed,
        }
        for seed in given.seeds
        for game in given.games
        for protocol, name, classes in CASES
    }
    if given.stored:
        tasks = {t: s for t, s in tasks.items() if result_path("exponents", s).exists()}
    runs = []
    for task, settings in tqdm(tasks.items(), unit="model"):
        runs.append(run_once("exponents", settings, task))
        text = f"# Energies relative to complexity, by exponent\n\n{table(runs)}\n"
        write_atomically(RESULTS / "exponents.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()

"""How energies should be relative to an image's complexity: ways to divide them compared.

    python -m benchmarks.images.exponents

Trains on development cases, with an adversary, without and not at all, with half of the usual
updates and several classes held out at once, scores every model in each way, keeps one JSON for
each model under ``benchmarks/results/exponents``, and writes the table beside them. A way has an
exponent, and a share of training images: their energies are divided, those of more detailed
images are not divided further.
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
from benchmarks.images import corruptions
from benchmarks.images.datasets import Array, development_part, load
from benchmarks.images.energies import GAMES
from benchmarks.images.methods import METHODS, UNTRAINED_ROWS
from ebgan_detect import EBGANDetector
from ebgan_detect.complexity import FLOOR, total_variation
from ebgan_detect.files import write_atomically

CASES = (
    ("held out", "mnist", (1, 9)),
    ("held out", "fashion-mnist", (1, 3)),
    ("held out", "fashion-mnist", (0, 2, 4)),
    ("one class", "mnist", (9,)),
    ("one class", "fashion-mnist", (2,)),
)
"""Protocol, set and classes, all of them development cases."""
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
N_MADE = 2000
UPDATES = 1500


class HalfTheUpdates(EBGANDetector):
    """The default detector at half the cost."""

    def _defaults(self, *, is_image: bool) -> dict[str, Any]:
        return super()._defaults(is_image=is_image) | {"max_updates": UPDATES}


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
    with torch.inference_mode():
        blocks = map(detector.model_.scale, torch.from_numpy(images).split(1000))
        return np.concatenate([total_variation(block).double().numpy() for block in blocks])


def by_way(detector: EBGANDetector, normal: Array, images: Array) -> dict[str, Array]:
    """Energies of images, divided in each way."""
    every = factors(detector, normal, images)
    plain = detector.energy(images)
    return {name: plain * factor for name, factor in every.items()}


def measure(
    protocol: str, name: str, classes: tuple[int, ...], game: str, seed: int
) -> dict[str, Any]:
    """Train one model, and judge it in each way."""
    images = development_part(load(name))
    is_class, is_test = (
        np.isin(labels, classes) for labels in (images.train_labels, images.test_labels)
    )
    one = protocol == "one class"
    normal = images.train[is_class if one else ~is_class]
    judged = images.test[is_test if one else ~is_test]
    detector = HalfTheUpdates(**GAMES[game], random_state=seed, complexity_exponent=0.0)
    detector.fit(normal[:UNTRAINED_ROWS] if game == "untrained" else normal)
    kinds = {str(k): images.test[images.test_labels == k] for k in classes}
    abnormal = {"all others": images.test[~is_test]} if one else kinds
    rng = np.random.default_rng(0)
    shape = judged.shape[1:]
    some = judged[:N_MADE]
    abnormal |= {
        "black": corruptions.constant([0], shape),
        "near-black": corruptions.constant(range(1, 16), shape),
        "constant": corruptions.constant(range(16, 256), shape),
        "blurred": corruptions.blurred(some),
        "uniform noise": corruptions.uniform_noise(N_MADE, shape, rng),
        "Gaussian noise": corruptions.gaussian_noise(N_MADE, shape, rng),
        "shuffled pixels": corruptions.shuffled(some, rng),
    }
    usual = by_way(detector, normal, judged)
    found = {}
    for kind, anomalies in abnormal.items():
        is_anomaly = np.repeat([False, True], [len(judged), len(anomalies)])
        found[kind] = {
            way: metrics(is_anomaly, -np.concatenate([usual[way], energies]))
            for way, energies in by_way(detector, normal, anomalies).items()
        }
    return {"anomalies": found, "used": images.used, "updates": UPDATES}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each kind of anomaly and game, a column for each way; means over seeds."""
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for run in runs:
        for kind, by in run["anomalies"].items():
            held_out = kind.isdigit()
            metric = "auprc" if held_out else "auroc"
            what = kind if held_out else run["classes"]
            against = "" if held_out else f", {kind}"
            case = f"{run['set']} {what} {run['protocol']}{against}, {metric.upper()}"
            values = {way: some[metric] for way, some in by.items()}
            rows.setdefault((case, run["game"]), []).append(values)
    told = [
        [case, METHODS[game].title] + [f"{np.mean([v[way] for v in values]):.3f}" for way in WAYS]
        for (case, game), values in rows.items()
    ]
    return markdown(["development case", "game", *WAYS], told)


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
        text = f"# Energies relative to complexity, by exponent and share\n\n{table(runs)}\n"
        write_atomically(RESULTS / "exponents.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()

"""Ways to make one energy of a network's errors, compared on development cases.

Trains on development cases, with an adversary, without and not at all, with half of the usual
updates and several classes held out at once, scores every model in each way, and keeps one JSON
for each model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import RESULTS, markdown, metrics, result_path, run_once
from benchmarks.images import corruptions
from benchmarks.images.datasets import Array, development_part, load
from benchmarks.images.methods import METHODS, UNTRAINED, UNTRAINED_ROWS
from ebgan_detect import EBGANDetector
from ebgan_detect.data import as_rows
from ebgan_detect.files import write_atomically
from ebgan_detect.training import resolve_device

Case = tuple[str, str, tuple[int, ...]]
"""Protocol, set and classes."""
ByWay = Callable[[EBGANDetector, Array, Array], dict[str, Array]]
"""From a detector, training images and images to these images' energies in each way."""

GAMES: dict[str, dict[str, Any]] = {
    "EBGAN": {"noise": 0.0},
    "control": {"adversarial": False},
    "untrained": UNTRAINED,
}
"""Parameters of what is compared; noise became a default after the ways had been chosen."""
CASES: tuple[Case, ...] = (
    ("held out", "mnist", (1, 9)),
    ("held out", "fashion-mnist", (1, 3)),
    ("held out", "fashion-mnist", (0, 2, 4)),
    ("one class", "mnist", (9,)),
    ("one class", "fashion-mnist", (2,)),
)
N_MADE = 2000
UPDATES = 1500


def of_images(
    detector: EBGANDetector, images: Array, function: Callable[[torch.Tensor], torch.Tensor]
) -> Array:
    """A function of raw images, where and as the detector scores them."""
    device = resolve_device(detector.device)
    return torch.cat(list(detector.model_.stream(as_rows(images), function, device))).numpy()


class HalfTheUpdates(EBGANDetector):
    """The default detector at half the cost."""

    def _defaults(self, *, is_image: bool) -> dict[str, Any]:
        return super()._defaults(is_image=is_image) | {"max_updates": UPDATES}


def measure(by_way: ByWay, case: Case, game: str, seed: int) -> dict[str, Any]:
    """Train one model, and judge it in each way."""
    protocol, name, classes = case
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


def table(runs: Sequence[dict[str, Any]], ways: Sequence[str]) -> str:
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
        [case, METHODS[game].title] + [f"{np.mean([v[way] for v in values]):.3f}" for way in ways]
        for (case, game), values in rows.items()
    ]
    return markdown(["development case", "game", *ways], told)


def compare(
    title: str, benchmark: str, ways: Sequence[str], by_way: ByWay, cases: Sequence[Case] = CASES
) -> None:
    """Run what is missing, and write the table beside the folder of the runs."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--stored", action="store_true", help="make the table of stored runs only")
    given = parser.parse_args()
    tasks = {
        partial(measure, by_way, (protocol, name, classes), game, seed): {
            "set": name,
            "protocol": protocol,
            "classes": " ".join(map(str, classes)),
            "game": game,
            "seed": seed,
        }
        for seed in given.seeds
        for game in given.games
        for protocol, name, classes in cases
    }
    if given.stored:
        tasks = {t: s for t, s in tasks.items() if result_path(benchmark, s).exists()}
    runs = []
    for task, settings in tqdm(tasks.items(), unit="model"):
        runs.append(run_once(benchmark, settings, task))
        text = f"# {title}\n\n{table(runs, ways)}\n"
        write_atomically(RESULTS / f"{benchmark}.md", text.encode())
    print(text)

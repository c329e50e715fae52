"""What to score with: errors of the input, of its code, or both, of the same trained networks.

    python -m benchmarks.images.energies

Trains on development cases, with an adversary and without, scores every model in each way, keeps
one JSON for each model under ``benchmarks/results/energies``, and writes the table beside them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import RESULTS, markdown, metrics, run_once
from benchmarks.images.datasets import Array, development_part, load
from ebgan_detect import EBGANDetector
from ebgan_detect.files import write_atomically
from ebgan_detect.losses import reconstruction_energy
from ebgan_detect.objectives import AutoEncoderObjective

CASES = (
    *(("heldout-digit", "mnist", digit) for digit in (9, 1)),
    *(("heldout-digit", "fashion-mnist", label) for label in range(5)),
    ("one-class", "mnist", 9),
    ("one-class", "fashion-mnist", 2),
)
"""Protocol, set and class, all of them development cases."""
SPACES = {"input": "input", "code": "code alone", "joint": "joint"}
BLOCK = 500


def trained(**settings: Any) -> EBGANDetector:
    """A detector of the normal rows of a development case."""
    images = development_part(load(settings["set"]))
    is_case = images.train_labels == settings["case"]
    normal = images.train[is_case if settings["protocol"] == "one-class" else ~is_case]
    detector = EBGANDetector(
        adversarial=settings["adversarial"], random_state=settings["seed"], verbose=1
    )
    return detector.fit(normal)


@torch.inference_mode()
def energies(detector: EBGANDetector, images: Array) -> dict[str, Array]:
    """Energies of images in each space, averaged over states as the detector does."""
    game = detector.model_.members[0]
    assert isinstance(game, AutoEncoderObjective)
    found = {}
    for space in SPACES:
        if space != "code":
            game.energy_space = space
        parts = []
        for block in torch.from_numpy(images).split(BLOCK):
            x = detector.model_.scale(block)
            parts.append(_code_error(game, x) if space == "code" else game.energy(x))
        found[space] = torch.cat(parts).numpy()
    return found


def _code_error(game: AutoEncoderObjective, x: torch.Tensor) -> torch.Tensor:
    """Mean squared distance between the codes of rows and of their reconstructions."""
    errors = []
    for encoder, decoder in [(game.encoder, game.decoder), *(s.children() for s in game.earlier)]:
        code = encoder(x)
        errors.append(reconstruction_energy(code, encoder(decoder(code))).double())
    return torch.stack(errors).mean(dim=0)


def measure(**settings: Any) -> dict[str, Any]:
    """Train one model, and judge it in each space."""
    start = time.process_time()
    detector = trained(**settings)
    seconds = time.process_time() - start
    images = development_part(load(settings["set"]))
    is_case = images.test_labels == settings["case"]
    is_anomaly = ~is_case if settings["protocol"] == "one-class" else is_case
    scored = energies(detector, images.test)
    return {
        "spaces": {space: metrics(is_anomaly, -values) for space, values in scored.items()},
        "fit_cpu_seconds": round(seconds, 1),
        "used": images.used,
    }


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each case and game, the mean over its seeds in each space."""
    rows = []
    for case in dict.fromkeys((r["protocol"], r["set"], r["case"], r["adversarial"]) for r in runs):
        protocol, name, label, adversarial = case
        some = [r for r in runs if (r["protocol"], r["set"], r["case"], r["adversarial"]) == case]
        metric = "auroc" if protocol == "one-class" else "auprc"
        cells = [np.mean([r["spaces"][space][metric] for r in some]) for space in SPACES]
        rows.append(
            [
                f"{name} {label}, {protocol}, {metric.upper()}",
                "EBGAN" if adversarial else "no adversary",
                " ".join(str(r["seed"]) for r in some),
                *(f"{value:.3f}" for value in cells),
            ]
        )
    return markdown(["development case", "game", "seeds", *SPACES.values()], rows)


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    wanted = [
        (case, adversarial, seed)
        for seed in given.seeds
        for case in CASES
        for adversarial in (True, False)
    ]
    runs = []
    for (protocol, name, label), adversarial, seed in tqdm(wanted, unit="model"):
        settings = {
            "protocol": protocol,
            "set": name,
            "case": label,
            "adversarial": adversarial,
            "seed": seed,
        }
        runs.append(
            run_once("energies", settings, partial(measure, **settings), results=given.results)
        )
    text = f"# What to score with\n\n{table(runs)}\n"
    write_atomically(given.results / "energies.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()

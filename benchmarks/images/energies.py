"""What else could be scored with: errors of the input, of its code, and of both.

    python -m benchmarks.images.energies

Trains on development cases, with an adversary, without and not at all, scores every model in each
way, keeps one JSON for each model under ``benchmarks/results/energies``, and writes the table
beside them.
Plain squared errors all of them; the detector's are the input's, relative to the image's
complexity. ``benchmarks/RESULTS.md`` says why not the code's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import RESULTS, markdown, metrics, result_path, run_once
from benchmarks.images.datasets import Array, development_part, load
from benchmarks.images.methods import METHODS, UNTRAINED_ROWS
from benchmarks.images.ways import GAMES, of_images
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
SPACES = {"input": "input", "code": "code", "joint": "input times code"}


def trained(**settings: Any) -> EBGANDetector:
    """A detector of the normal rows of a development case."""
    images = development_part(load(settings["set"]))
    is_case = images.train_labels == settings["case"]
    normal = images.train[is_case if settings["protocol"] == "one-class" else ~is_case]
    detector = EBGANDetector(
        **GAMES[settings["game"]], complexity_exponent=0.0, random_state=settings["seed"]
    )
    return detector.fit(normal[:UNTRAINED_ROWS] if settings["game"] == "untrained" else normal)


def energies(detector: EBGANDetector, images: Array) -> dict[str, Array]:
    """Errors of images in each space, averaged over the states that the detector averages."""
    game = detector.model_.members[0]
    assert isinstance(game, AutoEncoderObjective)
    states = [(game.encoder, game.decoder), *map(tuple, game.earlier)]

    def errors(raw: torch.Tensor) -> torch.Tensor:
        x = detector.model_.scale(raw)
        by_state = []
        for encoder, decoder in states:
            code = encoder(x)
            rebuilt = decoder(code)
            of_input = reconstruction_energy(x, rebuilt).double()
            of_code = reconstruction_energy(code, encoder(rebuilt)).double()
            by_state.append(torch.stack([of_input, of_code, of_input * of_code], dim=1))
        return torch.stack(by_state).mean(dim=0)

    return dict(zip(SPACES, of_images(detector, images, errors).T, strict=True))


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
    """A row for each case and game, with the means over its seeds."""
    by_case: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        key = tuple(run[name] for name in ("protocol", "set", "case", "game"))
        by_case.setdefault(key, []).append(run)
    rows = []
    for (protocol, name, label, game), some in by_case.items():
        metric = "auroc" if protocol == "one-class" else "auprc"
        case = "one class" if protocol == "one-class" else "held out"
        rows.append(
            [
                f"{name} {label} {case}, {metric.upper()}",
                METHODS[game].title,
                " ".join(str(run["seed"]) for run in some),
                *(f"{np.mean([run['spaces'][s][metric] for run in some]):.3f}" for s in SPACES),
            ]
        )
    return markdown(["development case", "game", "seeds", *SPACES.values()], rows)


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--stored", action="store_true", help="make the table of stored runs only")
    given = parser.parse_args()
    wanted = [
        {"protocol": protocol, "set": name, "case": label, "game": game, "seed": seed}
        for (protocol, name, label) in CASES
        for game in GAMES
        for seed in given.seeds
    ]
    if given.stored:
        wanted = [settings for settings in wanted if result_path("energies", settings).exists()]
    runs = [
        run_once("energies", settings, partial(measure, **settings))
        for settings in tqdm(wanted, unit="model")
    ]
    text = f"# What else could be scored with\n\n{table(runs)}\n"
    write_atomically(RESULTS / "energies.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()

"""Networks of the paper's widths on images of 64, 128 and 256 pixels: speed and memory.

    python -m benchmarks.large_images             # on a GPU where there is one
    python -m benchmarks.large_images --sides 64

Each size trains in a fresh process, an epoch to warm up and then epochs that are timed, and
scores in another.
The images are random; what they show does not change what the networks cost. Each size is
one JSON file, and is not measured again where that exists. On a CPU a few steps must do, and
rates are those per second of processor time: other work on the machine does not count then, and
a second thread counts twice. Scoring is that of one state; the default for images averages over
five, and takes five times as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import markdown, run_once, watched_memory
from ebgan_detect import Callback, EBGANDetector, load, save

WIDTHS = {64: (64, 128, 256), 128: (64, 128, 256, 512), 256: (64, 128, 256, 512)}
"""Channels of the encoder's levels by side: the paper's models for each size [pixels]."""


def budget() -> dict[str, Any]:
    """What is run on this kind of device: enough steps for a steady figure, or a few."""
    if torch.cuda.is_available():
        return {"device": "cuda", "batch_size": 128, "steps": 20, "epochs": 5, "scored": 4096}
    return {"device": "cpu", "batch_size": 16, "steps": 2, "epochs": 1, "scored": 32}


class Clock(Callback):
    """Notes when epochs end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_epoch_end(self, run: Any) -> None:
        """Note the time."""
        self.times.append(now())


def now() -> float:
    """Seconds on a clock that suits the device."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def images(n: int, side: int) -> NDArray[np.uint8]:
    """Colourful noise."""
    return np.random.default_rng(0).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def measure_training(
    path: str, side: int, *, batch_size: int, steps: int, epochs: int
) -> dict[str, Any]:
    """Images trained in a second, one epoch left out, and the memory of the whole fit."""
    n = batch_size * steps * 10 // 9 + 1  # a tenth calibrates
    clock = Clock()
    detector = EBGANDetector(
        hidden_sizes=WIDTHS[side],
        n_snapshots=1,
        margin=0.05,  # a given margin spares the pilot
        false_alarm_rate=0.5,
        batch_size=batch_size,
        max_epochs=1 + epochs,
        callbacks=[clock],
        random_state=0,
    )
    rows = images(n, side)
    with watched_memory() as memory:
        detector.fit(rows)
    timed = (n - len(detector.calibration_energies_)) // batch_size * epochs
    save(detector, path)
    return {
        "precision": detector.settings_["precision"],
        "weights": sum(p.numel() for p in detector.model_.parameters()),
        "steps_timed": timed,
        "images_per_second_training": timed * batch_size / (clock.times[-1] - clock.times[0]),
        "peak_bytes_training": memory["peak_bytes"],
    }


def measure_scoring(path: str, side: int, *, scored: int) -> dict[str, Any]:
    """Images scored in a second, and the memory that takes beside model and images."""
    detector, rows = load(path), images(scored, side)
    with watched_memory() as memory:
        detector.energy(rows[:8])
        started = now()
        detector.energy(rows)
        seconds = now() - started
    return {
        "images_per_second_scoring": scored / seconds,
        "peak_bytes_scoring": memory["peak_bytes"],
    }


def in_fresh_process(function: str, *arguments: Any, **options: Any) -> dict[str, Any]:
    """Call a function of this module in a new interpreter, so that no other memory is counted."""
    code = (
        "import json, warnings; warnings.simplefilter('ignore'); "
        "import benchmarks.large_images as module; "
        f"print(json.dumps(module.{function}(*{arguments!r}, **{options!r})))"
    )
    output = subprocess.check_output([sys.executable, "-c", code])
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured


def measure(side: int, *, scored: int, **budget: int) -> dict[str, Any]:
    """Train one size, save it, load it elsewhere and score."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.ebgan"
        trained = in_fresh_process("measure_training", path, side, **budget)
        return trained | in_fresh_process("measure_scoring", path, side, scored=scored)


def main() -> None:
    """Measure the sizes asked for, and print all of them as one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", choices=list(WIDTHS), default=list(WIDTHS))
    sides = parser.parse_args().sides
    options = budget()
    kind = options.pop("device")
    rows: list[list[Any]] = []
    for side in sides:
        settings = {"side": side, "kind": kind, **options}
        run = run_once("large_images", settings, partial(measure, side, **options))
        rows.append(
            [
                side,
                "-".join(f"{width}c4s2" for width in WIDTHS[side]),
                f"{run['weights'] / 1e6:.1f} M",
                run["precision"],
                run["batch_size"],
                f"{run['images_per_second_training']:.3g}",
                f"{run['peak_bytes_training'] / 1e9:.2f}",
                f"{run['images_per_second_scoring']:.3g}",
                f"{run['peak_bytes_scoring'] / 1e9:.2f}",
            ]
        )
    header = ["pixels", "encoder", "weights", "precision", "batch"]
    header += ["images/s training", "peak GB", "images/s scoring", "peak GB"]
    print(markdown(header, rows))


if __name__ == "__main__":
    main()

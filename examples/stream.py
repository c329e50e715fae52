"""Rows that do not fit into memory, and rows that keep coming.

A file larger than memory is opened as a memory map, and `fit` and `score_samples` read it a few
rows at a time. A stream is learnt batch by batch with `partial_fit`, after a first `fit` on what
there was; the batch that is next is scored before it is learnt.

    python -m examples.stream --rows 2000000 --output build/stream
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ebgan_detect import EBGANDetector

COLUMNS = 16
RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(4, COLUMNS))


def sensors(n: int, drift: float = 0.0) -> np.ndarray:
    """Readings of sensors that share four causes; a drift bends how they share them."""
    causes = RNG.normal(size=(n, 4))
    bent = MIXING + drift * np.roll(MIXING, 1, axis=0)
    return (causes @ bent + 0.1 * RNG.normal(size=(n, COLUMNS))).astype(np.float32)


def main() -> None:
    """Fit a memory map, score it, then follow a stream that drifts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000, help="in the file")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batches", type=int, default=5, help="of the stream")
    parser.add_argument("--output", type=Path, default=Path("build/stream"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    path = arguments.output / "sensors.npy"
    written = np.lib.format.open_memmap(path, "w+", np.float32, (arguments.rows, COLUMNS))
    for start in range(0, arguments.rows, 50_000):
        written[start : start + 50_000] = sensors(min(50_000, arguments.rows - start))
    written.flush()

    rows = np.load(path, mmap_mode="r")
    detector = EBGANDetector(max_epochs=arguments.epochs, random_state=0).fit(rows)
    outliers = np.mean(detector.predict(rows) == -1)
    print(f"{len(rows)} rows ({rows.nbytes / 1e6:.0f} MB) in {path}, fitted without loading it")
    print(f"called outliers: {outliers:.1%}; asked for: {detector.false_alarm_rate:.0%}\n")

    print("| batch | drift | called outliers before learning it | after |")
    print("| --- | --- | --- | --- |")
    for number in range(arguments.batches):
        drift = 0.1 * number
        batch, later = sensors(5000, drift), sensors(2000, drift)
        before = np.mean(detector.predict(batch) == -1)
        after = np.mean(detector.partial_fit(batch).predict(later) == -1)
        print(f"| {number} | {drift:.2f} | {before:.1%} | {after:.1%} |")


if __name__ == "__main__":
    main()

"""Several processes train one detector, each on a device of its own.

Each takes its share of every batch, and the training is that of one process: rounding apart,
the energies are the same. On a machine with GPUs each process has one.

    python -m examples.together --devices 2
    torchrun --nproc-per-node 2 -m examples.together
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lightning_fabric import Fabric
from sklearn.datasets import load_digits

from ebgan_detect import EBGANDetector, save
from ebgan_detect.distributed import train_together

BATCH = 64


def main() -> None:
    """Train together, then let the first process train alone, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    started = int(os.environ.get("LOCAL_WORLD_SIZE", "2"))  # by torchrun
    parser.add_argument("--devices", type=int, default=started)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("build/together"))
    arguments = parser.parse_args()

    fabric = Fabric(devices=arguments.devices, strategy="ddp")
    fabric.launch()
    images = load_digits().images
    settings = {"max_epochs": arguments.epochs, "random_state": 0}
    with train_together(fabric):
        share = BATCH // fabric.world_size
        detector = EBGANDetector(batch_size=share, **settings).fit(images)
    if not fabric.is_global_zero:
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    save(detector, arguments.output / "model.ebgan")
    alone = EBGANDetector(batch_size=BATCH, **settings).fit(images)

    print("| processes | rows of each in a batch | mean energy |\n| --- | --- | --- |")
    for size, rows, each in ((fabric.world_size, share, detector), (1, BATCH, alone)):
        print(f"| {size} | {rows} | {each.energy(images).mean():.6f} |")


if __name__ == "__main__":
    main()

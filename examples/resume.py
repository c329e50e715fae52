"""Training that was cut off goes on where it stopped, to the same weights bit for bit.

With `checkpoint=` the whole state of the training is kept after every epoch, in one sealed file
for each member that is replaced in one step. The same `fit` on the same rows takes it up.

    python -m examples.resume --output build/resume
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from ebgan_detect import Callback, EBGANDetector


class PowerCut(Callback):
    """Ends the program's training as a crash would, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step_end(self, run: Any) -> None:
        """Fail in the epoch after the given one; callbacks see the training under way."""
        if run.epoch == self.epoch:
            raise RuntimeError(f"power cut after epoch {run.epoch} of {run.max_epochs}")


def main() -> None:
    """Train with a crash and a resume, train without, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("build/resume"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.output / "checkpoints", ignore_errors=True)

    images = load_digits().images
    settings = {"max_epochs": arguments.epochs, "random_state": 0}
    kept: dict[str, Any] = {**settings, "checkpoint": arguments.output / "checkpoints"}
    try:
        EBGANDetector(**kept, callbacks=[PowerCut(arguments.epochs // 2)]).fit(images)
    except RuntimeError as error:
        print(error)
    resumed = EBGANDetector(**kept).fit(images)
    straight = EBGANDetector(**settings).fit(images)

    print("\n| training | epochs | mean energy |\n| --- | --- | --- |")
    for name, detector in {"cut off and resumed": resumed, "in one go": straight}.items():
        print(f"| {name} | {detector.n_iter_} | {detector.energy(images).mean():.8f} |")
    same = np.array_equal(resumed.energy(images), straight.energy(images))
    print(f"\nenergies of all {len(images)} images are {'' if same else 'not '}equal bit for bit")


if __name__ == "__main__":
    main()

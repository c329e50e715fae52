"""How much energy the pilot gives turned images: what the rule for the hinge goes by.

    python -m benchmarks.images.turned

Prints, and writes to ``benchmarks/results/turned.json``, by what a quarter turn multiplies the
energy of training images after the pilot's updates, for sets of many kinds and of one.
"""

from __future__ import annotations

import argparse
import copy
import json
from typing import NoReturn

from sklearn.datasets import load_digits

from benchmarks.common import RESULTS, device_name, markdown
from benchmarks.images.datasets import Array, development_part, load
from ebgan_detect import EBGANDetector
from ebgan_detect.base import MemberPlan
from ebgan_detect.files import write_atomically
from ebgan_detect.networks import Networks
from ebgan_detect.objectives import AutoEncoderObjective


class _Measured(Exception):
    """Carries a ratio out of a fit that goes no further than its pilot."""


class PilotOnly(EBGANDetector):
    """A detector whose fit ends with the pilot."""

    def _terms(self, plan: MemberPlan, networks: Networks) -> NoReturn:
        pilot = plan.pilot(AutoEncoderObjective(copy.deepcopy(networks)))
        raise _Measured(pilot.turned_ratio())


def ratio(images: Array, seed: int, **parameters: object) -> float:
    """Energy of turned images over that of the images, to a pilot with these parameters."""
    try:
        PilotOnly(random_state=seed, **parameters).fit(images)
    except _Measured as measured:
        return round(float(measured.args[0]), 3)
    raise RuntimeError("the pilot did not run")


def sets() -> dict[str, Array]:
    """Normal rows of the development cases, the two whole sets, and a set of tiny pictures."""
    found = {}
    for name, classes in (("mnist", (1, 9)), ("fashion-mnist", range(5))):
        part = development_part(load(name))
        if name == "mnist":
            found |= {f"mnist without the {k}": part.train[part.train_labels != k] for k in classes}
        found[f"{name}, all"] = part.train
        found |= {f"{name}, {k} only": part.train[part.train_labels == k] for k in classes}
    images, labels = load_digits(return_X_y=True)
    return found | {"8x8 digits without the 9": images[labels != 9].reshape(-1, 8, 8)}


def main() -> None:
    """Measure every set with two seeds."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    found = {name: [ratio(images, seed) for seed in (0, 1)] for name, images in sets().items()}
    print(markdown(["images", "seed 0", "seed 1"], [[name, *both] for name, both in found.items()]))
    told = {"ratios": found, "device": device_name()}
    write_atomically(RESULTS / "turned.json", (json.dumps(told, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

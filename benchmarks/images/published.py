"""Published figures that the tables stand beside, each with how it is known.

`READ` was read in the source named, `MEMORY` is recalled: check it before quoting it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

READ, MEMORY = "read", "memory"


@dataclass(frozen=True)
class Published:
    """A method's figures by case (digit, class or outlier set), and how they are known."""

    method: str
    figures: Mapping[str, float]
    known: str


def _digits(method: str, known: str, *figures: float) -> Published:
    return Published(method, dict(zip("14579", figures, strict=True)), known)


HELDOUT_DIGIT = (
    _digits("VAE", READ, 0.063, 0.337, 0.325, 0.148, 0.104),
    _digits("MEG", READ, 0.281, 0.401, 0.402, 0.290, 0.342),
    _digits("BiGAN-sigma", READ, 0.287, 0.443, 0.514, 0.347, 0.307),
    _digits("latent EBM", READ, 0.336, 0.630, 0.619, 0.463, 0.413),
    _digits("HVAE", READ, 0.494, 0.920, 0.913, 0.680, 0.791),
    _digits("joint latent EBM (ICCV 2023)", READ, 0.722, 0.949, 0.980, 0.941, 0.935),
    _digits("NAE", MEMORY, 0.802, 0.648, 0.716, 0.789, 0.441),
    _digits("MPDR-R", MEMORY, 0.844, 0.711, 0.757, 0.850, 0.569),
)
"""AUPRC on MNIST by digit; the anomaly's share is about 10 %."""

ONE_CLASS: dict[str, tuple[Published, ...]] = {
    "mnist": (
        Published("OCGAN, MemAE", {"mean": 0.975}, READ),
        Published("Deep SVDD", {"mean": 0.948}, READ),
        Published("with pretext tasks (ESAD, GOAD)", {"mean": 0.985}, READ),
    ),
    "fashion-mnist": (
        Published("best without pretext task", {"mean": 0.912}, READ),
        Published("best without pretext task", {"mean": 0.928}, MEMORY),
        Published("with pretext tasks (ESAD, GOAD)", {"mean": 0.940}, READ),
    ),
    "cifar-10": (
        Published("OCGAN (all of CIFAR-10)", {"mean": 0.657}, READ),
        Published("Deep SVDD (all of CIFAR-10)", {"mean": 0.648}, READ),
        Published("PLAD (all of CIFAR-10)", {"mean": 0.751}, READ),
        Published("with pretext tasks (ESAD, GOAD; all of CIFAR-10)", {"mean": 0.882}, READ),
    ),
}
"""AUROC by set, mean over its ten classes."""

OUT_OF_MANIFOLD: dict[str, tuple[Published, ...]] = {
    "mnist": (
        Published(
            "AUPR of MPDR-S",
            {"omniglot": 0.994, "fashion-mnist": 0.999, "constant (levels 16…255)": 1.0},
            MEMORY,
        ),
        Published("AUPR of NAE", {"omniglot": 0.997}, MEMORY),
        Published(
            "AUPR of a plain autoencoder",
            {"omniglot": 0.947, "constant (levels 16…255)": 0.954},
            MEMORY,
        ),
    ),
    "fashion-mnist": (),
    "cifar-10": (
        Published(
            "NAE (all of CIFAR-10)",
            {"constant (levels 16…255)": 0.963, "fashion-mnist": 0.819, "uniform noise": 1.0},
            READ,
        ),
    ),
}
"""AUROC, unless the method's name says AUPR, by set and outliers."""

AIMS: dict[str, dict[str, float]] = {
    "heldout-digit": {"1": 0.722, "4": 0.949, "5": 0.980, "7": 0.941, "9": 0.935},
    "one-class": {"mnist": 0.975, "fashion-mnist": 0.928, "cifar-10": 0.657},
    "mnist": dict.fromkeys(
        ["omniglot", "inverted", "constant (levels 16…255)", "fashion-mnist"], 0.995
    ),
    "cifar-10": {"constant (levels 16…255)": 0.963, "fashion-mnist": 0.819},
}
"""Figures to beat: by protocol, or by trained set where outliers of other kinds are scored."""

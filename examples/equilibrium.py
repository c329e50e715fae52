"""Play the paper's game to its equilibrium, and see what that does to a detector.

On two bumps of one feature and a ring of two: the game exactly as in theorems 1 and 2 (no
replay, no noise, full hinge, a fixed margin), its logistic counterpart, and the detector's
defaults. Prints the value of the game against its margin, the distance of generated rows to
the data, the logistic discriminator's probabilities, and how well points beside the data are
told from data.

    python -m examples.equilibrium --output build/equilibrium
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ebgan_detect import EBGANDetector, TrainingHealthWarning
from ebgan_detect.baselines import GANDetector
from ebgan_detect.diagnostics import EquilibriumRecorder, equilibrium, maximum_mean_discrepancy
from ebgan_detect.plotting import EnergySurfaceDisplay, EquilibriumDisplay
from examples.energy_surfaces import beside, save

Array = NDArray[np.float64]

ROWS = 2000
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
# What theorems 1 and 2 ask for. A code wider than the rows leaves the energy free; the
# generator is free enough with two latents.
PAPER: dict[str, Any] = {
    "hinge_weight": 1.0,
    "replay_size": 0,
    "noise": 0.0,
    "margin": 1.0,
    "pull_away_weight": 0.0,
    "hidden_sizes": (64, 64),
    "code_dim": 32,
    "latent_dim": 2,
}

LOGISTIC: dict[str, Any] = {
    "hidden_sizes": (64, 64),
    "latent_dim": 2,
    "learning_rate": 1e-3,
    "learning_rate_schedule": "linear",
}


def bumps(n: int, seed: int) -> Array:
    """Rows of shape (n, 1) around -1.5 and 1.5."""
    rng = np.random.default_rng(seed)
    return (rng.choice([-1.5, 1.5], n) + rng.normal(0, 0.3, n))[:, None]


def ring(n: int, seed: int) -> Array:
    """Rows of shape (n, 2) around a circle of radius 1."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, n), rng.normal(1, 0.1, n)
    return np.c_[np.cos(angle), np.sin(angle)] * radius[:, None]


DATA = {"bumps": bumps, "ring": ring}


def auroc(detector: Any, rows: Array, points: Array) -> float:
    """How well points beside the data are told from rows."""
    labels = np.repeat([0, 1], [len(rows), len(points)])
    return float(roc_auc_score(labels, detector.energy(np.concatenate([rows, points]))))


HEADER = (
    "data, seed",
    "V / margin",
    "energy: real, generated, background",
    "squared MMD",
    "logistic: D(x), D(G(z))",
    "its squared MMD",
    "AUROC: paper",
    "logistic",
    "default",
)


def play(name: str, epochs: int, seed: int) -> tuple[dict[str, Any], EquilibriumRecorder, Array]:
    """Train the three detectors, print a line of the table."""
    rows, test = DATA[name](ROWS, seed), DATA[name](ROWS, seed + 1000)
    points = beside(rows, ROWS, seed)
    recorder = EquilibriumRecorder(every=max(1, epochs // 50))
    brief = {"max_epochs": epochs, "random_state": seed}
    detectors = {
        "paper": EBGANDetector(**PAPER, **brief, callbacks=[recorder]).fit(rows),
        "logistic": GANDetector(**LOGISTIC, **brief).fit(rows),
        "default": EBGANDetector(**brief).fit(rows),
    }
    end = equilibrium(detectors["paper"], test, max_rows=ROWS, random_state=seed)
    start = {name: values[0] for name, values in recorder.history.items()}
    logistic = detectors["logistic"]
    likely = [logistic.history_[f"probability_{kind}"][-1] for kind in ("real", "generated")]
    distance = maximum_mean_discrepancy(test, logistic.sample(ROWS, random_state=seed))
    told_apart = [auroc(detector, test, points) for detector in detectors.values()]
    cells = [
        f"{name}, {seed}",
        f"{start['value'] / start['margin']:.3f} → {end.value / end.margin:.3f}",
        f"{end.energy_real:.3f}, {end.energy_generated:.3f}, {end.energy_background:.3f}",
        f"{start['discrepancy']:.4f} → {end.discrepancy:.4f}",
        "{:.3f}, {:.3f}".format(*likely),
        f"{distance:.4f}",
        *(f"{value:.3f}" for value in told_apart),
    ]
    print(f"| {' | '.join(cells)} |", flush=True)
    return detectors, recorder, test


def draw_line(axis: Any, detectors: dict[str, Any], rows: Array) -> None:
    """Energies over the one feature, the data, and what the paper's generator makes of it."""
    bins = np.linspace(rows.min() - 1, rows.max() + 1, 60)
    samples = detectors["paper"].sample(len(rows), random_state=0)
    axis.hist(rows[:, 0], bins, density=True, color="0.8", label="data")
    axis.hist(samples[:, 0], bins, density=True, histtype="step", color=ORANGE, label="generated")
    energies = axis.twinx()
    for label, color in (("paper", BLUE), ("default", GREEN)):
        energies.plot(bins, detectors[label].energy(bins[:, None]), color=color)
        axis.plot([], [], color=color, label=f"energy, {label}")
    energies.set(yscale="log", ylabel="energy [scaled unit²]")
    axis.set(xlabel="x0", ylabel="density", ylim=(0, 1.2))
    axis.legend(frameon=False, fontsize="x-small", ncols=2, loc="upper center")


def picture(results: dict[str, tuple[dict[str, Any], EquilibriumRecorder, Array]]) -> Any:
    """The way to the equilibrium, and below it the energies at its end beside the defaults'."""
    figure, axes = plt.subplots(3, 3, figsize=(11, 8.6), layout="constrained")
    for line, (name, (_, recorder, _)) in zip(axes, results.items(), strict=False):
        EquilibriumDisplay.from_recorder(recorder, ax=line)
        line[0].set_title(name, fontsize=10)
    detectors, _, rows = results["bumps"]
    draw_line(axes[2, 0], detectors, rows)
    axes[2, 0].set_title("bumps, at the end", fontsize=10)
    detectors, _, rows = results["ring"]
    for axis, label in zip(axes[2, 1:], ("paper", "default"), strict=True):
        EnergySurfaceDisplay.from_estimator(detectors[label], rows[:200], ax=axis)
        axis.set_title(f"ring, at the end: {label}", fontsize=10)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, draw the way and the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("build/equilibrium"))
    options = parser.parse_args(arguments)
    mpl.use("Agg")
    warnings.simplefilter(
        "ignore", TrainingHealthWarning
    )  # at equilibrium nothing separates real from generated rows
    options.output.mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    first: dict[str, tuple[dict[str, Any], EquilibriumRecorder, Array]] = {}
    for name in DATA:
        for seed in options.seeds:
            played = play(name, options.epochs, seed)
            first.setdefault(name, played)
    figure = picture(first)
    save(figure, options.output / "equilibrium.png")
    print(f"\npicture of seed {options.seeds[0]} in {options.output}")


if __name__ == "__main__":
    main()

"""Watch an adversary shape the energy of the plane around a parabola, a spiral and two rings.

Trains an EBGAN with the pulling-away term on rows near each curve, and the same autoencoder
without adversary beside it. Prints how much higher the energy is beside the curve than on it,
and draws the energy, generated rows and their way there as a picture and an animation.

    python -m examples.energy_surfaces --output build/surfaces
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from ebgan_detect import Callback, EBGANDetector, TrainingHealthWarning

Array = NDArray[np.float64]

CURVES = ("parabola", "spiral", "rings")
ROWS, HELD_OUT = 2000, 1000
BESIDE = 0.15
"""Points at least this far from every row count as beside the curve [standard deviations]."""
# A code wider than the plane can copy it: only the adversary keeps the energy up off the curve.
SETTINGS: dict[str, Any] = {"scaling": "none", "noise": 0.0, "code_dim": 64}
# Chosen on seed 0 among seven pairs, by the picture and by points beside the curve; the figures
# are those of other seeds.
ADVERSARY: dict[str, Any] = {"margin": 0.03, "hinge_weight": 0.3, "pull_away_weight": 0.1}
RESOLUTION = 90
COLOURS = np.geomspace(1e-5, 10, 25)
WHITE, ORANGE = "white", "#E69F00"  # Okabe and Ito's orange, told apart with any colour vision


def curve(name: str, n: int, seed: int) -> Array:
    """Rows of shape (n, 2) around a curve, columns of mean 0 and variance 1."""
    rng = np.random.default_rng(seed)
    share = rng.random(n)
    if name == "parabola":
        rows = np.c_[2 * share - 1, (2 * share - 1) ** 2]
    elif name == "spiral":
        angle = 3.5 * np.pi * np.sqrt(0.05 + 0.95 * share)
        rows = np.c_[np.cos(angle), np.sin(angle)] * angle[:, None] / 10
    else:
        angle, radius = 2 * np.pi * share, np.where(rng.random(n) < 0.3, 0.4, 1.0)
        rows = np.c_[np.cos(angle), np.sin(angle)] * radius[:, None]
    rows += rng.normal(0, 0.01, rows.shape)
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def beside(rows: Array, n: int, seed: int) -> Array:
    """Points spread evenly over the plane around rows, but for those near a row."""
    rim = 0.2 * np.ptp(rows, axis=0)
    rng = np.random.default_rng(seed)
    points = rng.uniform(rows.min(axis=0) - rim, rows.max(axis=0) + rim, (n, rows.shape[1]))
    distances = NearestNeighbors(n_neighbors=1).fit(rows).kneighbors(points)[0][:, 0]
    return points[distances > BESIDE]


def contrast(on: Array, off: Array) -> list[float]:
    """Median energies on and off the curve, ratios of medians and of edges, and AUROC.

    The edges are what 19 of 20 points beside the curve exceed, and 19 of 20 rows do not.
    """
    medians = [np.median(on), np.median(off)]
    labels = np.repeat([0, 1], [len(on), len(off)])
    auroc = roc_auc_score(labels, np.r_[on, off])
    edges = np.quantile(off, 0.05) / np.quantile(on, 0.95)
    return [*medians, medians[1] / medians[0], edges, auroc]


class Film(Callback):
    """Keep the energy of the plane and what the generator makes of the same latents."""

    def __init__(self, plane: Array, latent_dim: int, n_samples: int = 200) -> None:
        self.plane = torch.from_numpy(plane).float()
        rng = torch.Generator().manual_seed(0)
        self.latents = torch.randn((n_samples, latent_dim), generator=rng)
        self.energies: list[Array] = []
        self.samples: list[Array] = []

    def on_train_begin(self, run: Any) -> None:
        """The first picture, before any update."""
        self.on_epoch_end(run)

    @torch.no_grad()
    def on_epoch_end(self, run: Any) -> None:
        """One more picture. Rows are not scaled here, so the game takes the plane as it is."""
        game = copy.deepcopy(run.objective).cpu().eval()
        self.energies.append(game.energy(self.plane).numpy())
        self.samples.append(game.generator(self.latents).numpy().astype(float))


def grid(rows: Array) -> tuple[Array, Array]:
    """A grid of the plane around rows."""
    rim = 0.2 * np.ptp(rows, axis=0)
    sides = np.linspace(rows.min(axis=0) - rim, rows.max(axis=0) + rim, RESOLUTION)
    first, second = np.meshgrid(*sides.T)
    return first, second


def draw_energy(axis: Any, plane: tuple[Array, Array], energies: Array, rows: Array) -> Any:
    """Filled contours of the energy on the common scale, with rows as dots."""
    clipped = energies.reshape(plane[0].shape).clip(COLOURS[0], COLOURS[-1])
    drawn = axis.contourf(*plane, clipped, COLOURS, norm="log", cmap="viridis")
    axis.scatter(*rows[:250].T, s=1.5, color=WHITE, linewidths=0)
    axis.set(xticks=[], yticks=[], xlim=plane[0][0, [0, -1]], ylim=plane[1][[0, -1], 0])
    return drawn


def draw_samples(axis: Any, film: Film, frame: int, since: int = 0, n_paths: int = 5) -> None:
    """Generated rows at one epoch, and the way that some of them have come."""
    samples = np.stack(film.samples[since : frame + 1])
    axis.plot(*samples[:, :n_paths].transpose(2, 0, 1), color=ORANGE, linewidth=0.7)
    axis.scatter(*samples[-1].T, s=4, color=ORANGE, linewidths=0)


def train(name: str, epochs: int, seed: int) -> tuple[dict[str, Any], Film, Array]:
    """Both detectors, the film of the game, and the rows."""
    rows = curve(name, ROWS + HELD_OUT, seed)
    settings = {**SETTINGS, "max_epochs": epochs, "random_state": seed}
    film = Film(np.c_[tuple(side.ravel() for side in grid(rows[:ROWS]))], latent_dim=32)
    detectors = {
        "EBGAN-PT": EBGANDetector(**settings, **ADVERSARY, latent_dim=32, callbacks=[film]),
        "same autoencoder, no adversary": EBGANDetector(**settings, adversarial=False),
    }
    return {name: d.fit(rows[:ROWS]) for name, d in detectors.items()}, film, rows


def picture(results: dict[str, tuple[dict[str, Any], Film, Array]]) -> Any:
    """Three epochs of each game, and its control."""
    figure, axes = plt.subplots(
        len(results), 4, figsize=(10.4, 2.5 * len(results)), layout="constrained", squeeze=False
    )
    for line, (name, (detectors, film, rows)) in zip(axes, results.items(), strict=True):
        plane = grid(rows[:ROWS])
        last = len(film.energies) - 1
        for axis, frame in zip(line, sorted({min(1, last), last // 6, last}), strict=False):
            drawn = draw_energy(axis, plane, film.energies[frame], rows)
            draw_samples(axis, film, frame)
            axis.set_title(f"EBGAN-PT, epoch {frame}", fontsize=10)
        control = detectors["same autoencoder, no adversary"]
        points = np.c_[plane[0].ravel(), plane[1].ravel()]
        draw_energy(line[3], plane, control.energy(points), rows)
        line[3].set_title("no adversary", fontsize=10)
        line[0].set_ylabel(name)
    figure.supxlabel("white: data; orange: generated rows, and the way of five", fontsize=9)
    bar = figure.colorbar(drawn, ax=axes, label="energy [squared standard deviations]", aspect=40)
    bar.set_ticks(10.0 ** np.arange(-5, 2))
    bar.ax.minorticks_off()
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a picture with a palette, which is a third of the size."""
    with BytesIO() as buffer:
        figure.savefig(buffer, dpi=80)
        Image.open(buffer).convert("RGB").quantize(128).save(path, optimize=True)
    plt.close(figure)


def animation(results: dict[str, tuple[dict[str, Any], Film, Array]], path: Path) -> None:
    """The three games side by side, a frame an epoch."""
    figure, axes = plt.subplots(
        1, len(results), figsize=(2.4 * len(results), 2.6), layout="constrained", squeeze=False
    )
    n_frames = min(len(film.energies) for _, film, _ in results.values())

    def draw(frame: int) -> None:
        for axis, (name, (_, film, rows)) in zip(axes[0], results.items(), strict=True):
            axis.clear()
            draw_energy(axis, grid(rows[:ROWS]), film.energies[frame], rows)
            draw_samples(axis, film, frame, since=max(0, frame - 2), n_paths=len(film.latents))
            axis.set_title(f"{name}, epoch {frame}", fontsize=9)

    # Much happens in the first epochs and little later on.
    frames = np.unique((np.linspace(0, 1, 30) ** 2 * (n_frames - 1)).round().astype(int)).tolist()
    film = FuncAnimation(figure, draw, frames=[*frames, *[frames[-1]] * 8])
    film.save(path, PillowWriter(fps=6), dpi=66)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=CURVES)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("build/surfaces"))
    options = parser.parse_args(arguments)
    mpl.use("Agg")
    warnings.simplefilter("ignore", TrainingHealthWarning)  # brief games may not be healthy yet
    options.output.mkdir(parents=True, exist_ok=True)
    results = {}
    print("| curve | detector | energy on it | beside it | ratio | ratio of edges | AUROC |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.curves:
        figures: dict[str, list[list[float]]] = {}
        for seed in options.seeds:
            trained = train(name, options.epochs, seed)
            results.setdefault(name, trained)
            detectors, _, rows = trained
            points = beside(rows, 4000, seed)
            for label, detector in detectors.items():
                line = contrast(detector.energy(rows[ROWS:]), detector.energy(points))
                figures.setdefault(label, []).append(line)
        for label, lines in figures.items():
            on, off, medians, edges, auroc = np.mean(lines, axis=0)
            print(
                f"| {name} | {label} | {on:.1e} | {off:.1e} | {medians:.0f} | {edges:.1f} | "
                f"{auroc:.4f} |"
            )
    figure = picture(results)
    save(figure, options.output / "energy_surfaces.png")
    animation(results, options.output / "energy_surfaces.gif")
    print(f"\nmean over seeds {options.seeds}; pictures in {options.output}")


if __name__ == "__main__":
    main()

"""Eight ways to shape an energy, on the same spiral, side by side.

k-means and PCA limit where the energy can be low by their form; denoising and contraction make
it flat at the rows and curved around them; a discriminator learns it from what a generator
makes. The autoencoders all have the same networks. Prints how the energy beside the curve
compares with that on it, and draws the energies on one scale.

    python -m examples.energy_gallery --output build/gallery
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch.func import jvp

from ebgan_detect import EBGANDetector, TrainingHealthWarning
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector
from ebgan_detect.networks import mlp_networks
from examples.energy_surfaces import (
    ADVERSARY,
    CURVES,
    HELD_OUT,
    ORANGE,
    ROWS,
    beside,
    contrast,
    curve,
    draw_energy,
    grid,
    save,
)

Array = NDArray[np.float64]
Energy = Callable[[Array], Array]

NETWORKS: dict[str, Any] = {"scaling": "none", "hidden_sizes": (96, 96), "code_dim": 64}
NOISE = 0.2
"""Largest standard deviation of the denoising autoencoder's noise [standard deviations]."""
CONTRACTION = 1e-3
"""Weight of the contractive autoencoder's penalty."""


def k_means(rows: Array, n_clusters: int, seed: int) -> Energy:
    """Mean squared distance to the nearest centre."""
    centres = KMeans(n_clusters, n_init=4, random_state=seed).fit(rows)
    return lambda points: centres.transform(points).min(axis=1) ** 2 / points.shape[1]


def principal_component(rows: Array) -> Energy:
    """Mean squared distance to the line through the rows."""
    line = PCA(1).fit(rows)
    return lambda points: ((points - line.inverse_transform(line.transform(points))) ** 2).mean(
        axis=1
    )


def contractive(rows: Array, epochs: int, seed: int) -> Energy:
    """Reconstruction error of an autoencoder whose code is punished for following its input.

    The penalty is the squared Frobenius norm of the code's Jacobian (Rifai et al. 2011).
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        networks = mlp_networks(
            (2,), hidden_sizes=(96, 96), code_dim=64, latent_dim=1, bounded=False
        )
    autoencoder = torch.nn.Sequential(networks.encoder, torch.nn.Tanh(), networks.decoder)
    optimizer = torch.optim.Adam(autoencoder.parameters(), 1e-3)
    data, rng = torch.from_numpy(rows).float(), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for part in torch.randperm(len(data), generator=rng).split(128):
            batch = data[part]
            loss = (autoencoder(batch) - batch).square().mean()
            for axis in torch.eye(2):
                change = jvp(autoencoder[:2], (batch,), (axis.expand_as(batch),))[1]
                loss = loss + CONTRACTION * change.square().sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def energy(points: Array) -> Array:
        x = torch.from_numpy(points).float()
        return (autoencoder(x) - x).square().mean(dim=1).double().numpy()

    return energy


def gallery(rows: Array, epochs: int, seed: int) -> dict[str, Energy]:
    """Energies by title, each a function of points [squared standard deviations]."""
    brief = {"max_epochs": epochs, "random_state": seed}
    plain = AutoEncoderDetector(**NETWORKS, **brief, noise=0.0)
    denoising = AutoEncoderDetector(**NETWORKS, **brief, noise=NOISE)
    adversaries = {
        weight: EBGANDetector(
            **NETWORKS, **brief, noise=0.0, **{**ADVERSARY, "pull_away_weight": weight}
        )
        for weight in (0.0, ADVERSARY["pull_away_weight"])
    }
    logistic = GANDetector(scaling="none", hidden_sizes=(96, 96), learning_rate=1e-3, **brief).fit(
        rows
    )
    without, with_term = (detector.fit(rows).energy for detector in adversaries.values())
    return {
        "k-means, 24 centres": k_means(rows, min(24, len(rows)), seed),
        "PCA, 1 component": principal_component(rows),
        "autoencoder": plain.fit(rows).energy,
        "denoising autoencoder": denoising.fit(rows).energy,
        "contractive autoencoder": contractive(rows, epochs, seed),
        # The energy is minus the logit; this is the loss that goes with it, which is never < 0.
        "GAN, minus log D(x)": lambda points: np.logaddexp(0, logistic.energy(points)),
        "EBGAN": without,
        "EBGAN-PT": with_term,
    }


def picture(energies: dict[str, Energy], rows: Array) -> Any:
    """One panel for each energy, on one scale, with what 19 of 20 held-out rows stay below."""
    figure, axes = plt.subplots(2, 4, figsize=(10.4, 5.2), layout="constrained")
    plane = grid(rows[:ROWS])
    points = np.c_[plane[0].ravel(), plane[1].ravel()]
    for axis, (title, energy) in zip(axes.flat, energies.items(), strict=True):
        values = energy(points)
        drawn = draw_energy(axis, plane, values, rows)
        threshold = np.quantile(energy(rows[ROWS:]), 0.95)
        if values.min() < threshold < values.max():
            shaped = values.reshape(plane[0].shape)
            axis.contour(*plane, shaped, [threshold], colors=ORANGE, linewidths=1.2)
        axis.set_title(title, fontsize=10)
    bar = figure.colorbar(drawn, ax=axes, label="energy [squared standard deviations]", aspect=40)
    bar.set_ticks(10.0 ** np.arange(-5, 2))
    bar.ax.minorticks_off()
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curve", choices=CURVES, default="spiral")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("build/gallery"))
    options = parser.parse_args(arguments)
    mpl.use("Agg")
    warnings.simplefilter(
        "ignore", TrainingHealthWarning
    )  # without its pulling-away term the generator may collapse
    options.output.mkdir(parents=True, exist_ok=True)
    rows = curve(options.curve, ROWS + HELD_OUT, options.seed)
    points = beside(rows, 4000, options.seed)
    energies = gallery(rows[:ROWS], options.epochs, options.seed)
    print("| energy | on the curve | beside it | ratio | ratio of edges | AUROC |")
    print("| --- | --- | --- | --- | --- | --- |")
    for title, energy in energies.items():
        on, off, medians, edges, auroc = contrast(energy(rows[ROWS:]), energy(points))
        print(f"| {title} | {on:.1e} | {off:.1e} | {medians:.1f} | {edges:.2f} | {auroc:.4f} |")
    figure = picture(energies, rows)
    save(figure, options.output / "energy_gallery.png")
    print(f"\npicture in {options.output}")


if __name__ == "__main__":
    main()

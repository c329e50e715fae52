"""A folder of pictures from end to end: read, resize, fit, score, show where it is abnormal.

    python -m examples.image_folder --normal photos/good --test photos/new --side 128

Without folders it draws its own: woven cloth, and cloth with a stain or a torn thread.
A folder too large for memory goes to `fit` as `torchvision.datasets.ImageFolder(folder,
transform)` instead: pictures are then read as they are needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from ebgan_detect import EBGANDetector, save
from ebgan_detect.datafiles import ReadOptions, read_rows, write_table
from ebgan_detect.plotting import EnergyMapDisplay


def draw_cloth(folder: Path, n: int, seed: int, *, share_broken: float) -> None:
    """Write pictures of woven cloth; broken ones have it in their name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    across = np.arange(64)
    for k in range(n):
        turns, tint = across / rng.uniform(9, 11), rng.normal(0, 4, 3)
        warp, weft = (np.sin(2 * np.pi * (turns + rng.random())) for _ in range(2))
        weave = weft[:, None] * warp
        cloth = np.array([150, 130, 90]) + tint + 40 * weave[..., None]
        broken = rng.random() < share_broken
        if broken:
            row, column = rng.integers(12, 52, 2)
            if rng.random() < 0.5:
                cloth[np.hypot(across[:, None] - row, across - column) < 7] *= 0.45
            else:
                cloth[row - 1 : row + 2, column - 10 : column + 10] = 225
        cloth += rng.normal(0, 4, cloth.shape)
        picture = Image.fromarray(cloth.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{'broken' if broken else 'good'}_{k:03d}.png")


def main() -> None:
    """Fit on normal/, score test/, write scores, model and pictures of the worst."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--normal", type=Path, help="folder of normal pictures")
    parser.add_argument("--test", type=Path, help="folder of pictures to score")
    parser.add_argument("--side", type=int, default=32, help="pixels that pictures are resized to")
    parser.add_argument("--pictures", type=int, default=400, help="to draw, without folders")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("build/image_folder"))
    arguments = parser.parse_args()
    mpl.use("Agg")
    output, normal, test = arguments.output, arguments.normal, arguments.test
    if (normal is None) != (test is None):
        parser.error("give both --normal and --test, or neither for drawn cloth")
    if normal is None or test is None:
        normal, test = output / "normal", output / "test"
        draw_cloth(normal, arguments.pictures, 0, share_broken=0)
        draw_cloth(test, 40, 1, share_broken=0.3)

    size = ReadOptions(size=(arguments.side, arguments.side))
    train, new = read_rows(normal, size), read_rows(test, size)
    detector = EBGANDetector(max_epochs=arguments.epochs, batch_size=32, random_state=0)
    detector.fit(train.values)
    energies, p_values = detector.energy(new.values), detector.p_values(new.values)
    order = np.argsort(-energies)

    print(f"{len(train.names)} pictures of shape {detector.input_shape_} trained\n")
    print("| picture | energy | p-value | outlier |\n| --- | --- | --- | --- |")
    for k in order[:12]:
        outlier = "yes" if energies[k] > -detector.offset_ else "no"
        print(f"| {new.names[k]} | {energies[k]:.4g} | {p_values[k]:.3f} | {outlier} |")
    output.mkdir(parents=True, exist_ok=True)
    columns = {"picture": new.names, "energy": energies, "p_value": p_values}
    write_table(output / "scores.csv", {name: of_all[order] for name, of_all in columns.items()})
    save(detector, output / "model.ebgan")
    ends = np.r_[order[:3], order[3:][-2:]]
    shown = EnergyMapDisplay.from_estimator(detector, new.values[ends])
    shown.figure_.savefig(output / "maps.png", dpi=80)
    plt.close(shown.figure_)
    print(f"\nscores, model and energy maps in {output}")


if __name__ == "__main__":
    main()

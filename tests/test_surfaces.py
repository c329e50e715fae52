"""Energies in the plane: what the adversary adds to the same autoencoder."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from ebgan_detect import EBGANDetector
from examples import energy_gallery, energy_surfaces, equilibrium
from examples.energy_surfaces import (
    ADVERSARY,
    CURVES,
    HELD_OUT,
    ROWS,
    SETTINGS,
    beside,
    contrast,
    curve,
)


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_standardised_and_points_lie_beside_them(name):
    rows = curve(name, 500, 0)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=0), 1)
    points = beside(rows, 300, 0)
    distances = np.linalg.norm(points[:, None] - rows, axis=2).min(axis=1)
    assert 100 < len(points) < 300
    assert distances.min() > 0.15


def test_contrast_of_energies_worked_out_by_hand():
    on, off = np.full(40, 2.0), np.r_[np.full(20, 1.0), np.full(380, 8.0)]
    medians_on, medians_off, ratio, edges, auroc = contrast(on, off)
    assert (medians_on, medians_off, ratio) == (2, 8, 4)
    assert edges == pytest.approx(np.quantile(off, 0.05) / 2)
    assert auroc == pytest.approx(0.95)


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
@pytest.mark.filterwarnings("ignore::ebgan_detect.TrainingHealthWarning")  # not its subject
def test_adversary_raises_the_energy_beside_the_spiral():
    rows = curve("spiral", ROWS + HELD_OUT, 1)
    points = beside(rows, 4000, 1)
    brief = {**SETTINGS, "max_epochs": 60, "random_state": 1}
    detectors = {
        "adversary": EBGANDetector(**brief, **ADVERSARY),
        "plain": EBGANDetector(**brief, adversarial=False),
        "untrained": EBGANDetector(
            **{**brief, "max_epochs": 1, "learning_rate": 1e-30}, adversarial=False
        ),
    }
    found = {
        name: contrast(*map(detector.fit(rows[:ROWS]).energy, (rows[ROWS:], points)))
        for name, detector in detectors.items()
    }
    for name, (_, off, ratio, edges, auroc) in found.items():
        line = f"{name}: beside {off:.2g}, ratio {ratio:.0f}, edges {edges:.2f}, AUROC {auroc:.4f}"
        print(line)  # noqa: T201 - `pytest -rP` shows it
    _, off, ratio, edges, auroc = np.transpose(list(found.values()))
    assert ratio[0] > max(500, ratio[1])
    assert edges[0] > max(8, edges[1]) > 1 > edges[2]
    # The plain autoencoder tells the points apart too, but by a hundredth of the energy.
    assert off[0] > 20 * off[1]
    assert auroc[0] > 0.998 > auroc[2]
    assert auroc[0] >= auroc[1]


# --- the examples, at a reduced budget ----------------------------------------------------------


def shows_something(path):
    """Whether a picture has colours, and is small enough for the README."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), float)
    return np.ptp(pixels, axis=2).max() > 50 and path.stat().st_size < 200_000


def table(printed):
    """Cells of a printed Markdown table, without its header."""
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines() if line[:1] == "|"]
    return lines[2:]


@pytest.mark.usefixtures("figures_closed")
def test_surfaces_are_drawn_and_animated(tmp_path, capsys):
    options = ["--curves", "rings", "--epochs", "2", "--seeds", "0", "--output", str(tmp_path)]
    energy_surfaces.main(options)
    rows = table(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [
        ["rings", "EBGAN-PT"],
        ["rings", "same autoencoder, no adversary"],
    ]
    assert shows_something(tmp_path / "energy_surfaces.png")
    with Image.open(tmp_path / "energy_surfaces.gif") as film:
        frames = []
        for frame in range(film.n_frames):
            film.seek(frame)
            frames.append(np.asarray(film.convert("L"), float))
    assert len({frame.tobytes() for frame in frames}) == 3  # before training and two epochs
    assert (tmp_path / "energy_surfaces.gif").stat().st_size < 1_000_000


@pytest.mark.usefixtures("figures_closed")
# torch's forward derivatives are themselves written with its deprecated scripting.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_gallery_shows_eight_energies(tmp_path, capsys):
    energy_gallery.main(["--epochs", "1", "--output", str(tmp_path)])
    rows = table(capsys.readouterr().out)
    assert len({row[0] for row in rows}) == 8
    numbers = np.array([[float(cell) for cell in row[1:]] for row in rows])
    assert (numbers >= 0).all()
    assert shows_something(tmp_path / "energy_gallery.png")


@pytest.mark.usefixtures("figures_closed")
def test_equilibrium_prints_the_way_of_both_games(tmp_path, capsys):
    equilibrium.main(["--epochs", "1", "--seeds", "0", "--output", str(tmp_path)])
    rows = table(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["bumps, 0", "ring, 0"]
    for row in rows:
        assert len(re.findall(r"-?\d+\.\d{3,4}\b", " ".join(row))) == 13
    assert shows_something(tmp_path / "equilibrium.png")

"""Displays: what is drawn is what was given or computed."""

from __future__ import annotations

import builtins
import itertools
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from matplotlib.colors import to_rgba
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

from ebgan_detect import (
    EBGANDetector,
    EBGANError,
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
)
from ebgan_detect.plotting import (
    EnergyHistogramDisplay,
    EnergyMapDisplay,
    EnergySurfaceDisplay,
    SampleGridDisplay,
    TrainingHistoryDisplay,
)

pytestmark = pytest.mark.usefixtures("figures")
DIGITS = load_digits().images[:200]
NAMES = ["speed", "load"]
# A given margin spares the pilot training.
SMALL = {"hidden_sizes": (16,), "margin": 0.3, "random_state": 0}


@pytest.fixture(scope="module")
def ring():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 300)
    return np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.05, (300, 2))


@pytest.fixture(scope="module")
def digits_detector():
    return EBGANDetector(**SMALL, max_epochs=3, n_estimators=2).fit(DIGITS)


@pytest.fixture(scope="module")
def colour_images():
    return np.random.default_rng(0).uniform(0, 255, (60, 3, 8, 8))


@pytest.fixture(scope="module")
def colour_detector(colour_images):
    return EBGANDetector(**SMALL, max_epochs=1).fit(colour_images)


@pytest.fixture(scope="module")
def ring_detector(ring):
    return EBGANDetector(**SMALL, max_epochs=20).fit(ring)


@pytest.fixture(scope="module")
def plain_detector(ring):
    return EBGANDetector(**SMALL, max_epochs=3, adversarial=False).fit(ring)


@pytest.fixture(scope="module")
def wide_table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(5, 2, (200, 13)), columns=[f"sensor {j}" for j in range(13)])


@pytest.fixture(scope="module")
def wide_detector(wide_table):
    return EBGANDetector(**SMALL, max_epochs=2).fit(wide_table)


def lines_of(axis):
    """Data of all lines of an Axes."""
    return [line.get_xydata() for line in axis.get_lines()]


# --- all displays ---------------------------------------------------------------------------


def test_import_leaves_matplotlib_alone():
    code = "import sys, ebgan_detect.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_matplotlib_is_named_before_any_work(monkeypatch, ring, ring_detector):
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    monkeypatch.setattr(EBGANDetector, "energy", None)
    with pytest.raises(MissingDependencyError, match=r"needs matplotlib: .*ebgan-detect\[plot\]"):
        EnergyHistogramDisplay.from_estimator(ring_detector, ring)
    with pytest.raises(MissingDependencyError, match="matplotlib"):
        EnergyHistogramDisplay(energies=np.ones(3), threshold=1.0).plot()


@pytest.mark.parametrize(
    "draw",
    [
        TrainingHistoryDisplay.from_estimator,
        SampleGridDisplay.from_estimator,
        lambda detector: EnergyHistogramDisplay.from_estimator(detector, np.ones((4, 2))),
        lambda detector: EnergyMapDisplay.from_estimator(detector, np.ones((4, 2))),
        lambda detector: EnergySurfaceDisplay.from_estimator(detector, np.eye(2)),
    ],
)
def test_estimator_must_be_a_fitted_detector(draw, ring):
    with pytest.raises(NotFittedError):
        draw(EBGANDetector())
    with pytest.raises(InvalidParameterError, match=r"estimator must .* got IsolationForest"):
        draw(IsolationForest(n_estimators=2).fit(ring))


@pytest.mark.parametrize("n_axes", [1, 4])
def test_ax_must_hold_one_axes_for_each_panel(n_axes, ring_detector):
    _, axes = plt.subplots(1, n_axes)
    with pytest.raises(InvalidParameterError, match=rf"ax must .* 3 panels, got {n_axes}"):
        TrainingHistoryDisplay.from_estimator(ring_detector, ax=axes)


def test_given_axes_are_drawn_on(ring, ring_detector, digits_detector):
    figure, axes = plt.subplots(2, 3)
    history = TrainingHistoryDisplay.from_estimator(ring_detector, ax=axes[0])
    histogram = EnergyHistogramDisplay.from_estimator(ring_detector, ring, ax=axes[1, 0])
    surface = EnergySurfaceDisplay.from_estimator(
        ring_detector, ring, grid_resolution=5, ax=axes[1, 1]
    )
    grid = SampleGridDisplay.from_estimator(digits_detector, n_samples=2, ax=axes[1, 2])
    assert list(history.ax_) == list(axes[0])
    assert [d.ax_ for d in (histogram, surface, grid)] == list(axes[1])
    assert {d.figure_ for d in (history, histogram, surface, grid)} == {figure}
    assert plt.get_fignums() == [figure.number]


def test_plot_draws_again(ring, ring_detector):
    display = EnergyHistogramDisplay.from_estimator(ring_detector, ring)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first


# --- training history -----------------------------------------------------------------------


def test_history_draws_every_member(digits_detector):
    display = TrainingHistoryDisplay.from_estimator(digits_detector)
    history = {name: np.array(values) for name, values in digits_detector.history_.items()}
    expected = [
        ("energy_real", "energy_generated", "margin"),
        ("loss_discriminator", "loss_generator"),
        ("pull_away", "hinge_active"),
    ]
    for axis, names in zip(display.ax_, expected, strict=True):
        drawn = lines_of(axis)
        assert len(drawn) == 2 * len(names) == 2 * len(axis.get_legend().get_texts())
        wanted = [
            np.c_[history["epoch"], history[name]][history["member"] == member]
            for name in names
            for member in (0, 1)
        ]
        np.testing.assert_array_equal(drawn, wanted)
        assert axis.get_xlabel() == "epoch"
    assert [axis.get_yscale() for axis in display.ax_] == ["log", "log", "linear"]


def test_history_without_adversary_has_no_generator_panels(plain_detector):
    display = TrainingHistoryDisplay.from_estimator(plain_detector, log_scale=False)
    assert len(display.ax_) == 2
    ((energies,), (losses,)) = (lines_of(axis) for axis in display.ax_)
    np.testing.assert_array_equal(energies[:, 1], plain_detector.history_["energy_real"])
    np.testing.assert_array_equal(losses[:, 1], plain_detector.history_["loss_discriminator"])
    assert display.ax_[0].get_yscale() == "linear"


def test_history_of_one_epoch_is_visible(colour_detector):
    display = TrainingHistoryDisplay.from_estimator(colour_detector)
    assert all(line.get_marker() == "o" for axis in display.ax_ for line in axis.get_lines())


def test_history_refuses_a_scale_that_is_no_bool(ring_detector):
    with pytest.raises(InvalidParameterError, match="log_scale must be True or False, got 'log'"):
        TrainingHistoryDisplay.from_estimator(ring_detector, log_scale="log")


# --- energy histogram -----------------------------------------------------------------------


def heights(patch, bins):
    """Heights of the bins of one stepped outline."""
    return patch.get_xy()[1 : 2 * bins : 2, 1]


def test_histogram_draws_energies_and_threshold(ring, ring_detector):
    display = EnergyHistogramDisplay.from_estimator(ring_detector, ring, bins=20)
    (patch,) = display.ax_.patches
    energies = ring_detector.energy(ring)
    edges = np.geomspace(energies.min(), energies.max(), 21)
    expected = np.histogram(energies.clip(edges[0], edges[-1]), edges)[0] / len(ring)
    np.testing.assert_allclose(heights(patch, 20), expected)
    assert expected.sum() == pytest.approx(1)
    assert set(display.line_.get_xdata()) == {-ring_detector.offset_}
    assert display.ax_.get_xscale() == "log"


@pytest.mark.parametrize(("anomaly", "normal"), [(1, 0), (-1, 1), (True, False)])
def test_histogram_splits_by_either_kind_of_label(anomaly, normal, ring, ring_detector):
    rows = np.r_[ring[:90], np.full((10, 2), 5.0)]
    y = [normal] * 90 + [anomaly] * 10
    display = EnergyHistogramDisplay.from_estimator(ring_detector, rows, y, bins=30)
    np.testing.assert_array_equal(display.is_anomaly, np.arange(100) >= 90)
    for patch in display.ax_.patches:
        assert heights(patch, 30).sum() == pytest.approx(1)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels[:2] == ["normal (n = 90)", "anomaly (n = 10)"]
    blue, orange = (patch.get_edgecolor() for patch in display.ax_.patches)
    assert (blue, orange) == (to_rgba("#0072B2"), to_rgba("#D55E00"))


@pytest.mark.parametrize(("y", "all_anomalous"), [([0, 0], False), ([-1, -1], True)])
def test_histogram_takes_one_kind_of_rows(y, all_anomalous, ring, ring_detector):
    display = EnergyHistogramDisplay.from_estimator(ring_detector, ring[:2], y)
    assert display.is_anomaly.tolist() == [all_anomalous] * 2


@pytest.mark.parametrize(
    ("y", "problem"),
    [
        ([1, 1], r"got \[1\]; where only one kind"),
        ([0, 2], r"got \[0, 2\]"),
        ([0, -1], r"got \[-1, 0\]"),
        (["a", "b"], r"got \['a', 'b'\]"),
        ([None, None], r"y must hold numbers or bool, got others"),
        ([1], r"y must have shape \(2,\).* got \(1,\)"),
        ([[0], [1]], r"y must have shape \(2,\).* got \(2, 1\)"),
    ],
)
def test_histogram_refuses_labels_of_no_kind(y, problem, ring, ring_detector):
    with pytest.raises(InvalidInputError, match=problem):
        EnergyHistogramDisplay.from_estimator(ring_detector, ring[:2], y)


@pytest.mark.parametrize("highest", [0.02, 0.07, 0.4, 4.0])
def test_histogram_labels_energies_of_few_decades_legibly(highest):
    energies = np.geomspace(5e-3, highest, 100)
    axis = EnergyHistogramDisplay(energies=energies, threshold=0.01).plot().ax_.xaxis
    axis.figure.canvas.draw()
    shown = [label for label in axis.get_ticklabels(which="both") if label.get_text()]
    low, high = axis.get_view_interval()
    boxes = [label.get_window_extent() for label in shown if low <= label.get_position()[0] <= high]
    boxes.sort(key=lambda box: box.x0)
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_histogram_counts_infinite_energies_without_drawing_them():
    display = EnergyHistogramDisplay(energies=np.array([1.0, 2, 3, np.inf]), threshold=2.5).plot()
    assert heights(display.ax_.patches[0], 50).sum() == pytest.approx(0.75)
    assert "n = 4, 1 infinite" in display.ax_.get_legend().get_texts()[0].get_text()
    with pytest.raises(InvalidInputError, match="finite value, got none among 2"):
        EnergyHistogramDisplay(energies=np.array([np.inf, np.inf]), threshold=1.0).plot()


@pytest.mark.parametrize("energies", [[0.0, 0.0], [0.0, 1.0, 2.0], [0.3]])
@pytest.mark.parametrize("log_scale", [False, True])
def test_histogram_keeps_zeros_and_equal_energies(energies, log_scale):
    display = EnergyHistogramDisplay(
        energies=np.array(energies), threshold=0.5, bins=7, log_scale=log_scale
    ).plot()
    assert heights(display.ax_.patches[0], 7).sum() == pytest.approx(1)


@pytest.mark.parametrize("option", [{"bins": 0}, {"bins": 2.5}, {"log_scale": 1}])
def test_histogram_refuses_options(option, ring, ring_detector):
    ((name, value),) = option.items()
    with pytest.raises(InvalidParameterError, match=f"{name} must be .*, got {value}"):
        EnergyHistogramDisplay.from_estimator(ring_detector, ring, **option)


# --- energy map -----------------------------------------------------------------------------


def test_map_draws_grey_images(digits_detector):
    rows = DIGITS[:5]
    display = EnergyMapDisplay.from_estimator(digits_detector, rows)
    assert display.ax_.shape == (3, 5)
    pictures = [[axis.images[0] for axis in row] for row in display.ax_]
    np.testing.assert_allclose([p.get_array() for p in pictures[0]], rows / 16)
    np.testing.assert_allclose(
        [p.get_array() for p in pictures[1]],
        (digits_detector.reconstruct(rows) / 16).clip(0, 1),
    )
    maps = np.array([p.get_array() for p in pictures[2]])
    energies = digits_detector.energy(rows)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), energies)
    assert {p.get_clim() for p in pictures[2]} == {(0, maps.max())}
    assert [a.get_title() for a in display.ax_[0]] == [f"energy {e:.3g}" for e in energies]
    assert [a.get_ylabel() for a in display.ax_[:, 0]] == ["input", "reconstruction", "energy map"]


def test_map_draws_coloured_images(colour_images, colour_detector):
    display = EnergyMapDisplay.from_estimator(colour_detector, torch.from_numpy(colour_images[:2]))
    shown = display.ax_[0, 1].images[0].get_array()
    low, high = colour_images[:2].min(), colour_images[:2].max()
    np.testing.assert_allclose(shown, (np.moveaxis(colour_images[1], 0, -1) - low) / (high - low))
    drawn = display.ax_[2, 1].images[0].get_array()
    assert drawn.shape == (8, 8)
    assert drawn.mean() == pytest.approx(colour_detector.energy(colour_images[1:2])[0])


def test_map_takes_one_channel_and_constant_images():
    images = np.full((1, 1, 2, 3), 7.0)
    display = EnergyMapDisplay(X=images, reconstructions=images, energy_maps=0 * images).plot()
    assert [axis.images[0].get_array().shape for axis in display.ax_.flat] == [(2, 3)] * 3


@pytest.mark.parametrize("max_features", [1, 4, 20])
def test_map_of_an_infinite_energy_is_infinite_and_drawn(max_features, wide_table, wide_detector):
    rows = np.asarray(wide_table)[:2] * [[1e200], [1]]
    rows = pd.DataFrame(rows, columns=wide_detector.feature_names_in_)
    energy, split = wide_detector.energy(rows), wide_detector.energy_map(rows)
    assert np.isposinf([energy[0], *split[0]]).all()
    np.testing.assert_allclose(split.mean(axis=1), energy)
    display = EnergyMapDisplay.from_estimator(wide_detector, rows, max_features=max_features)
    display.figure_.canvas.draw()
    for axis, is_infinite in zip(display.ax_, (True, False), strict=True):
        assert all((" infinite" in text.get_text()) == is_infinite for text in axis.texts)
        assert 0 < max(bar.get_width() for bar in axis.patches) < axis.get_xlim()[1]
    assert display.ax_[0].get_title() == "energy inf"


def test_map_of_one_infinite_part_shows_the_others_to_scale():
    rows, parts = np.ones((1, 3)), np.array([[6.0, np.inf, 3.0]])
    display = EnergyMapDisplay(X=rows, reconstructions=rows, energy_maps=parts).plot()
    (axis,) = display.ax_
    assert [bar.get_width() for bar in axis.patches] == [2, 2, 1]
    assert [" infinite" in text.get_text() for text in axis.texts] == [True, False, False]


@pytest.mark.parametrize("name", ["cost ($) per $", r"$\frac$", "x" * 300])
def test_names_of_columns_are_drawn_as_they_are(name):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 2)), columns=[name, "b"])
    detector = EBGANDetector(**SMALL, max_epochs=1).fit(table)
    shown = name if len(name) < 40 else "x" * 39 + "…"
    bars = EnergyMapDisplay.from_estimator(detector, table[:1])
    drawn = {label.get_text(): label for label in bars.ax_[0].get_yticklabels()}
    plane = EnergySurfaceDisplay.from_estimator(detector, table, grid_resolution=5)
    assert plane.ax_.get_xlabel() == shown
    for label in (drawn[shown], plane.ax_.xaxis.label, plane.ax_.yaxis.label):
        assert not label.get_parse_math()
    for display in (bars, plane):
        display.figure_.draw_without_rendering()


@pytest.mark.parametrize("max_features", [1, 10, 13, 20])
def test_map_bars_of_a_table_sum_to_the_energy(max_features, wide_table, wide_detector):
    rows = wide_table.iloc[:3]
    display = EnergyMapDisplay.from_estimator(wide_detector, rows, max_features=max_features)
    assert display.ax_.shape == (3,)
    n_bars = min(max_features, 13)
    for k, axis in enumerate(display.ax_):
        widths = [bar.get_width() for bar in axis.patches]
        assert len(widths) == n_bars
        assert sum(widths) == pytest.approx(wide_detector.energy(rows)[k])
        labels = [label.get_text() for label in axis.get_yticklabels()]
        if max_features < 13:
            assert labels[-1] == f"{13 - (max_features - 1)} others"
        else:
            largest = wide_detector.energy_map(rows)[k].argmax()
            assert widths == sorted(widths, reverse=True)
            assert labels[0] == f"sensor {largest}"
            expected = wide_detector.reconstruct(rows)[k, largest]
            assert axis.texts[0].get_text() == (
                f" {rows.iloc[k, largest]:.4g}, expected {expected:.4g}"
            )
    assert len(display.figure_.axes) == 3


def test_map_names_columns_without_names_and_draws_one_row(ring, plain_detector):
    display = EnergyMapDisplay.from_estimator(plain_detector, ring[:1])
    assert {label.get_text() for label in display.ax_[0].get_yticklabels()} == {"x0", "x1"}


def test_map_refuses_what_it_cannot_draw(digits_detector):
    with pytest.raises(InvalidInputError, match="at most 16 rows to be drawn, got 17"):
        EnergyMapDisplay.from_estimator(digits_detector, DIGITS[:17])
    with pytest.raises(InvalidInputError, match=r"rows of shape \(8, 7\)"):
        EnergyMapDisplay.from_estimator(digits_detector, DIGITS[:2, :, 1:])
    with pytest.raises(InvalidParameterError, match="max_features must be an int >= 1, got 0"):
        EnergyMapDisplay.from_estimator(digits_detector, DIGITS[:2], max_features=0)
    two = np.zeros((1, 2, 8, 8))
    with pytest.raises(InvalidInputError, match="1 or 3 channels to be drawn, got 2"):
        EnergyMapDisplay(X=two, reconstructions=two, energy_maps=two).plot()


# --- sample grid ----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (7, 3, 3), (9, 3, 3), (10, 3, 4)])
def test_grid_draws_every_sample(n, rows, columns, digits_detector):
    display = SampleGridDisplay.from_estimator(digits_detector, n_samples=n, random_state=3)
    samples = digits_detector.sample(n, random_state=3)
    np.testing.assert_array_equal(display.samples, samples)
    image = np.ma.filled(display.image_.get_array(), np.nan)
    assert image.shape == (9 * rows - 1, 9 * columns - 1)
    scaled = (samples - samples.min()) / (samples.max() - samples.min())
    for k in range(n):
        top, left = 9 * (k // columns), 9 * (k % columns)
        np.testing.assert_allclose(image[top : top + 8, left : left + 8], scaled[k])
    assert np.isfinite(image).sum() == 64 * n


def test_grid_draws_colours_on_white(colour_detector):
    display = SampleGridDisplay.from_estimator(colour_detector, n_samples=3, random_state=0)
    image = display.image_.get_array()
    assert image.shape == (17, 17, 3)
    assert (image[8] == 1).all()
    assert (image[9:, 9:] == 1).all()


def test_grid_refuses_tables_and_detectors_without_generator(ring_detector):
    with pytest.raises(InvalidParameterError, match=r"images, .* got one fitted .* \(2,\)"):
        SampleGridDisplay.from_estimator(ring_detector)
    plain = EBGANDetector(**SMALL, max_epochs=1, adversarial=False).fit(DIGITS[:60])
    with pytest.raises(InvalidParameterError, match="needs a game with a generator"):
        SampleGridDisplay.from_estimator(plain)


def test_grid_refuses_no_samples(digits_detector):
    with pytest.raises(InvalidParameterError, match="n_samples must be an int >= 1, got 0"):
        SampleGridDisplay.from_estimator(digits_detector, n_samples=0)


# --- energy surface -------------------------------------------------------------------------


def test_surface_draws_energies_points_and_threshold(ring, ring_detector):
    display = EnergySurfaceDisplay.from_estimator(ring_detector, ring, grid_resolution=30, eps=0.5)
    plane = np.c_[display.xx0.ravel(), display.xx1.ravel()]
    np.testing.assert_array_equal(display.energies.ravel(), ring_detector.energy(plane))
    np.testing.assert_allclose(plane.min(axis=0), ring.min(axis=0) - 0.5)
    np.testing.assert_allclose(plane.max(axis=0), ring.max(axis=0) + 0.5)
    (points,) = (c for c in display.ax_.collections if c.get_label() == "rows")
    np.testing.assert_array_equal(points.get_offsets(), ring)
    assert display.contour_.levels.tolist() == [-ring_detector.offset_]
    assert display.surface_.levels[-1] == pytest.approx(display.energies.max())
    assert display.ax_.get_xlabel() == "x0"


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_surface_keeps_the_names_of_a_frame(frame, ring):
    table = frame(dict(zip(NAMES, ring.T, strict=True)))
    detector = EBGANDetector(**SMALL, max_epochs=1, adversarial=False).fit(table)
    display = EnergySurfaceDisplay.from_estimator(detector, table, grid_resolution=4)
    assert [display.ax_.get_xlabel(), display.ax_.get_ylabel()] == NAMES


def test_surface_rim_is_a_quarter_of_the_range_or_one(plain_detector):
    rows = np.array([[0.0, 5.0], [8.0, 5.0]])
    display = EnergySurfaceDisplay.from_estimator(plain_detector, rows, grid_resolution=2)
    assert np.unique(display.xx0).tolist() == [-2, 10]
    assert np.unique(display.xx1).tolist() == [4, 6]


@pytest.mark.parametrize("energy", [0.0, 1.0, np.inf])
def test_surface_draws_a_flat_energy_without_threshold(energy):
    xx0, xx1 = np.meshgrid([0.0, 1.0], [0.0, 1.0])
    display = EnergySurfaceDisplay(
        xx0=xx0, xx1=xx1, energies=np.full((2, 2), energy), points=np.eye(2), threshold=0.5
    ).plot()
    display.figure_.canvas.draw()
    assert display.contour_ is None


@pytest.mark.parametrize(
    ("rows", "options", "problem"),
    [
        (np.ones((3, 5)), {}, r"shape \(n, 2\) .* got \(3, 5\)"),
        (np.ones((3, 2, 2)), {}, r"shape \(n, 2\) .* got \(3, 2, 2\)"),
        (np.array([[0.0, np.nan]]), {}, "NaN or infinity"),
        (np.eye(2), {"grid_resolution": 1}, "grid_resolution must be an int >= 2, got 1"),
        (np.eye(2), {"eps": 0}, "eps must be None or a float > 0, got 0"),
    ],
)
def test_surface_refuses_bad_input(rows, options, problem, plain_detector):
    with pytest.raises(EBGANError, match=problem):
        EnergySurfaceDisplay.from_estimator(plain_detector, rows, **options)


def test_any_object_with_the_methods_can_be_drawn(ring):
    # A served model has the detector's methods, but is no estimator that was fitted here.
    served = SimpleNamespace(energy=lambda rows: np.linspace(1, 2, len(rows)), offset_=-1.5)
    display = EnergyHistogramDisplay.from_estimator(served, ring)
    assert display.threshold == 1.5

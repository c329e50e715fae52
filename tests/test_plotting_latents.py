"""Rows from given latents, and the pictures of walks and sums of latents."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

from ebgan_detect import EBGANDetector, InvalidInputError, InvalidParameterError
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.plotting import (
    LatentArithmeticDisplay,
    LatentWalkDisplay,
    SampleGridDisplay,
    spherical_walk,
)

pytestmark = pytest.mark.usefixtures("figures")
DIGITS = load_digits().images[:100]
LATENT_DIM = 6
# A given margin spares the pilot training.
SMALL = {
    "hidden_sizes": (8,),
    "latent_dim": LATENT_DIM,
    "margin": 0.3,
    "max_epochs": 1,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def detector():
    return EBGANDetector(**SMALL).fit(DIGITS)


@pytest.fixture(scope="module")
def ensemble():
    return EBGANDetector(**SMALL, n_estimators=2).fit(DIGITS)


@pytest.fixture(scope="module")
def colour_detector():
    return EBGANDetector(**SMALL).fit(np.random.default_rng(0).uniform(0, 255, (80, 3, 8, 8)))


@pytest.fixture(scope="module")
def table_detector():
    return EBGANDetector(**SMALL).fit(DIGITS.reshape(-1, 64))


@pytest.fixture(scope="module")
def control():
    return EBGANDetector(**SMALL, adversarial=False).fit(DIGITS)


# --- generate -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["detector", "colour_detector", "table_detector"])
def test_generate_of_drawn_latents_is_what_sample_returns(kind, request):
    fitted = request.getfixturevalue(kind)
    latents = fitted.draw_latents(70, random_state=3)
    assert latents.shape == (70, LATENT_DIM)
    assert latents.dtype == np.float64
    rows = fitted.generate(latents)
    assert rows.shape == (70, *fitted.input_shape_)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, fitted.sample(70, random_state=3))
    assert not np.array_equal(latents, fitted.draw_latents(70, random_state=4))


@pytest.mark.parametrize("kind", [VAEDetector, GANDetector])
def test_every_detector_with_a_generator_takes_latents(kind):
    fitted = kind(hidden_sizes=(8,), max_epochs=1, random_state=0).fit(DIGITS)
    latents = fitted.draw_latents(4, random_state=3)
    np.testing.assert_array_equal(fitted.generate(latents), fitted.sample(4, random_state=3))
    walk = LatentWalkDisplay.from_estimator(fitted, latents.reshape(2, 2, -1), n_steps=2)
    np.testing.assert_allclose(walk.samples.reshape(4, 8, 8), fitted.generate(latents), rtol=1e-5)


def test_generated_row_depends_on_its_own_latent_alone(detector):
    latents = detector.draw_latents(9, random_state=0)
    rows = detector.generate(latents)
    np.testing.assert_array_equal(detector.generate(latents[::-1]), rows[::-1])
    np.testing.assert_array_equal(detector.generate(latents[4:5]), rows[4:5])
    assert len(np.unique(rows.reshape(9, -1), axis=0)) == 9


def test_generate_is_the_generator_in_the_fitted_unit(detector):
    """Digits are 0...16; the generator's sigmoid is 0...1."""
    latents = detector.draw_latents(5, random_state=0)
    with torch.inference_mode():
        generator = detector.model_.games()[0].generator
        plain = generator(torch.from_numpy(latents).float()).double().numpy()
    np.testing.assert_allclose(detector.generate(latents), 16 * plain[:, 0], rtol=1e-5)


def test_each_member_has_its_own_generator_and_share_of_the_samples(ensemble):
    latents = ensemble.draw_latents(7, random_state=0)
    samples = ensemble.sample(7, random_state=0)
    np.testing.assert_array_equal(ensemble.generate(latents[:4]), samples[:4])
    np.testing.assert_array_equal(ensemble.generate(latents[4:], member=1), samples[4:])
    assert not np.allclose(ensemble.generate(latents[4:], member=0), samples[4:], atol=0.1)
    only = ensemble.draw_latents(1, random_state=0)
    np.testing.assert_array_equal(ensemble.generate(only), ensemble.sample(1, random_state=0))


@pytest.mark.parametrize("kind", [np.float32, "list", "tensor"])
def test_latents_come_as_arrays_of_any_kind(kind, detector):
    latents = detector.draw_latents(3, random_state=0)
    given = {"list": latents.tolist(), "tensor": torch.from_numpy(latents)}
    other = given[kind] if isinstance(kind, str) else latents.astype(kind)
    np.testing.assert_array_equal(detector.generate(other), detector.generate(latents))


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((2, 5)), r"latents must have shape \(n, 6\), got \(2, 5\); draw_latents"),
        (np.zeros((2, 6, 1)), r"latents must have shape \(n, 6\), got \(2, 6, 1\)"),
        (np.zeros(6), "Expected 2D array, got 1D"),
        (np.zeros((0, 6)), "0 sample"),
        (np.full((1, 6), np.nan), "NaN or infinity"),
        (np.full((1, 6), np.inf), "NaN or infinity"),
        ([["a"] * 6], "strings"),
    ],
)
def test_unusable_latents_are_refused(latents, message, detector):
    with pytest.raises(InvalidInputError, match=message):
        detector.generate(latents)


@pytest.mark.parametrize("member", [2, -1, 0.0, True, None])
def test_members_that_are_not_there_are_refused(member, ensemble):
    with pytest.raises(
        InvalidParameterError, match=f"member must be an int from 0 to 1, .*{member}"
    ):
        ensemble.generate(np.zeros((1, LATENT_DIM)), member=member)


def test_generating_needs_a_fitted_generator(control):
    for call in (control.sample, control.draw_latents, lambda: control.generate(np.zeros((1, 6)))):
        with pytest.raises(InvalidParameterError, match="needs a game with a generator"):
            call()
    for call in (EBGANDetector().draw_latents, lambda: EBGANDetector().generate(np.zeros((1, 6)))):
        with pytest.raises(NotFittedError):
            call()
    with pytest.raises(InvalidParameterError, match="n_samples must be an int >= 1, got 0"):
        control.draw_latents(0)


# --- walks ----------------------------------------------------------------------------------

vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3).map(np.array)


@given(vectors, vectors, st.integers(2, 9))
def test_walk_keeps_its_ends_and_turns_evenly(start, stop, n_steps):
    walk = spherical_walk(start, stop, n_steps)
    assert walk.shape == (n_steps, 3)
    np.testing.assert_allclose(walk[[0, -1]], [start, stop], atol=1e-9)
    product = np.linalg.norm(start) * np.linalg.norm(stop)
    if product < 0.1 or abs(start @ stop) > 0.99 * product:
        return
    unit = start / np.linalg.norm(start), stop / np.linalg.norm(stop)
    directions = spherical_walk(*unit, n_steps)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-9)
    cosines = (directions[1:] * directions[:-1]).sum(axis=1)
    np.testing.assert_allclose(cosines, cosines[0], rtol=1e-9)


@pytest.mark.parametrize("stop", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_walk_without_a_single_arc_is_straight(stop):
    walk = spherical_walk([1.0, 0.0], stop, 3)
    np.testing.assert_allclose(walk[1], np.mean([[1.0, 0.0], stop], axis=0))


def test_walk_stays_as_long_as_latents_are():
    ends = np.random.default_rng(0).normal(size=(2, 400))
    lengths = np.linalg.norm(spherical_walk(*ends, 11), axis=1)
    assert (abs(lengths / 20 - 1) < 0.1).all()
    assert np.linalg.norm(ends.mean(axis=0)) < 15  # a straight line leaves the shell


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0], 1), "n_steps must be an int >= 2, got 1"),
        (([1.0], [1.0, 2.0], 3), r"one shape \(latent_dim,\), got \(1,\) and \(2,\)"),
        (([[1.0]], [[1.0]], 3), r"got \(1, 1\) and \(1, 1\)"),
    ],
)
def test_walk_refuses_bad_ends(arguments, message):
    with pytest.raises((InvalidInputError, InvalidParameterError), match=message):
        spherical_walk(*arguments)


def test_walk_display_draws_every_step(detector):
    display = LatentWalkDisplay.from_estimator(detector, n_walks=3, n_steps=4, random_state=5)
    assert display.latents.shape == (3, 4, LATENT_DIM)
    ends = detector.draw_latents(6, random_state=5).reshape(3, 2, LATENT_DIM)
    np.testing.assert_allclose(display.latents[:, [0, -1]], ends, atol=1e-12)
    np.testing.assert_array_equal(display.samples[1], detector.generate(display.latents[1]))
    drawn = np.asarray(display.image_.get_array())
    assert drawn.shape == (3 * 9 - 1, 4 * 9 - 1)
    low, high = display.samples.min(), display.samples.max()
    for walk, step in [(0, 0), (2, 3), (1, 2)]:
        tile = drawn[9 * walk : 9 * walk + 8, 9 * step : 9 * step + 8]
        np.testing.assert_allclose(tile, (display.samples[walk, step] - low) / (high - low))
    assert display.plot() is display


def test_walk_display_takes_ends_members_colours_and_axes(ensemble, colour_detector):
    ends = np.random.default_rng(0).normal(size=(2, 2, LATENT_DIM))
    first, second = (
        LatentWalkDisplay.from_estimator(ensemble, ends, n_steps=3, member=k) for k in (0, 1)
    )
    np.testing.assert_array_equal(first.latents, second.latents)
    np.testing.assert_array_equal(
        second.samples.reshape(6, 8, 8),
        ensemble.generate(second.latents.reshape(6, LATENT_DIM), member=1),
    )
    _, ax = plt.subplots()
    coloured = LatentWalkDisplay.from_estimator(colour_detector, ends, n_steps=3, ax=ax)
    assert coloured.ax_ is ax
    assert coloured.samples.shape == (2, 3, 3, 8, 8)
    assert np.asarray(coloured.image_.get_array()).shape == (17, 26, 3)


# --- arithmetic -----------------------------------------------------------------------------


def test_arithmetic_adds_mean_latents(detector):
    latents = detector.draw_latents(7, random_state=0)
    groups = latents[:3], latents[3:5], latents[5:]
    display = LatentArithmeticDisplay.from_estimator(detector, *groups)
    expected = latents[:3].mean(axis=0) - latents[3:5].mean(axis=0) + latents[5:].mean(axis=0)
    np.testing.assert_allclose(display.latent, expected)
    np.testing.assert_allclose(display.result, detector.generate(expected[None])[0])
    np.testing.assert_allclose(display.means[1], detector.generate([groups[1].mean(axis=0)])[0])
    np.testing.assert_array_equal(display.groups[2], detector.generate(groups[2]))
    assert [axis.get_title() for axis in display.ax_] == list(display.titles)
    panels = [np.asarray(axis.images[0].get_array()) for axis in display.ax_]
    assert {panel.shape for panel in panels} == {(4 * 9 - 1, 8)}
    every = np.concatenate([*display.groups, display.means, display.result[None]])
    scaled = (display.result - every.min()) / (every.max() - every.min())
    np.testing.assert_allclose(panels[3][-8:], scaled)
    assert np.isnan(panels[3][:-8]).all()
    assert np.isnan(panels[1][:8]).all()


def test_arithmetic_of_one_latent_with_itself_gives_it_back(ensemble):
    latent = ensemble.draw_latents(1, random_state=0)
    display = LatentArithmeticDisplay.from_estimator(ensemble, latent, latent, latent, member=1)
    np.testing.assert_allclose(display.latent, latent[0])
    np.testing.assert_allclose(display.result, ensemble.generate(latent, member=1)[0])


def test_arithmetic_of_colours_is_blank_in_white(colour_detector):
    latents = colour_detector.draw_latents(4, random_state=0)
    display = LatentArithmeticDisplay.from_estimator(
        colour_detector, latents[:2], latents[2:3], latents[3:], titles=("a", "b", "c", "d")
    )
    panel = np.asarray(display.ax_[1].images[0].get_array())
    assert panel.shape == (26, 8, 3)
    assert (panel[:8] == 1).all()
    assert display.ax_[3].get_title() == "d"


# --- refused --------------------------------------------------------------------------------


def latents_of(n):
    return np.zeros((n, LATENT_DIM))


def arithmetic(fitted, **options):
    return LatentArithmeticDisplay.from_estimator(fitted, *[latents_of(2)] * 3, **options)


@pytest.mark.parametrize("draw", [LatentWalkDisplay.from_estimator, arithmetic])
def test_displays_need_a_fitted_generator_of_images(draw, detector, table_detector, control):
    with pytest.raises(NotFittedError):
        draw(EBGANDetector())
    with pytest.raises(InvalidParameterError, match=r"estimator must .* got IsolationForest"):
        draw(IsolationForest(n_estimators=2).fit(DIGITS.reshape(-1, 64)))
    with pytest.raises(InvalidParameterError, match="has generate, got AutoEncoderDetector"):
        draw(AutoEncoderDetector(hidden_sizes=(8,), max_epochs=1).fit(DIGITS))
    with pytest.raises(InvalidParameterError, match=r"fitted on images, .* shape \(64,\)"):
        draw(table_detector)
    with pytest.raises(InvalidParameterError, match="needs a game with a generator"):
        draw(control)
    with pytest.raises(InvalidParameterError, match="member must be an int from 0 to 0, got 1"):
        draw(detector, member=1)


@pytest.mark.parametrize(
    ("ends", "options", "message"),
    [
        (None, {"n_walks": 0}, "n_walks must be an int >= 1, got 0"),
        (None, {"n_steps": 1}, "n_steps must be an int >= 2, got 1"),
        (latents_of(2), {}, r"ends must have shape \(n_walks, 2, latent_dim\), got \(2, 6\)"),
        (np.zeros((0, 2, 6)), {}, r"ends must have shape .* got \(0, 2, 6\)"),
        (np.zeros((1, 2, 5)), {}, r"latents must have shape \(n, 6\)"),
        (np.full((1, 2, 6), np.nan), {}, "NaN or infinity"),
    ],
)
def test_walk_display_refuses(ends, options, message, detector):
    with pytest.raises((InvalidInputError, InvalidParameterError), match=message):
        LatentWalkDisplay.from_estimator(detector, ends, **options)


def test_arithmetic_refuses(detector):
    with pytest.raises(InvalidParameterError, match=r"titles must be four, .* got 2"):
        arithmetic(detector, titles=("a", "b"))
    with pytest.raises(InvalidInputError, match="0 sample"):
        LatentArithmeticDisplay.from_estimator(
            detector, latents_of(1), latents_of(0), latents_of(1)
        )
    with pytest.raises(InvalidParameterError, match="4 panels, got 1"):
        arithmetic(detector, ax=plt.figure().subplots())


def test_grid_of_samples_still_draws(detector):
    grid = SampleGridDisplay.from_estimator(detector, n_samples=6, random_state=0)
    assert np.asarray(grid.image_.get_array()).shape == (17, 26)

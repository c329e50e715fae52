"""Diagnostics: oracles, hand-made games whose answer is known, and the paper's theorems."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from ebgan_detect import (
    Callback,
    EBGANDetector,
    InvalidInputError,
    InvalidParameterError,
    TrainingHealthWarning,
)
from ebgan_detect.baselines import GANDetector
from ebgan_detect.diagnostics import (
    EquilibriumRecorder,
    discrepancy,
    equilibrium,
    game_value,
    maximum_mean_discrepancy,
    median_distance,
)
from ebgan_detect.plotting import EquilibriumDisplay
from examples.equilibrium import DATA, LOGISTIC, PAPER
from tests import oracles

pytestmark = pytest.mark.usefixtures("figures")
BRIEF = {"hidden_sizes": (16,), "margin": 0.3, "max_epochs": 3, "random_state": 0}


def oracle_discrepancy(x, y, bandwidth):
    """Gretton et al. 2012, lemma 6: pairs of different rows within, all pairs across."""

    def kernel(a, b):
        square = math.fsum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True))
        return math.exp(-square / (2 * bandwidth**2))

    def within(rows):
        n = len(rows)
        pairs = [kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j]
        return math.fsum(pairs) / (n * (n - 1))

    across = math.fsum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.normal(3, 2, (300, 2)) @ np.array([[1, 0.7], [0, 0.7]])


@pytest.fixture(scope="module")
def detector(table):
    return EBGANDetector(**BRIEF).fit(table)


# --- maximum mean discrepancy -----------------------------------------------------------------


@given(
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    d=st.integers(1, 4),
    bandwidth=st.floats(0.1, 10),
    shift=st.floats(-1e4, 1e4),
    seed=st.integers(0, 99),
)
def test_discrepancy_equals_the_oracle(n, m, d, bandwidth, shift, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(shift, 1, (n, d)), rng.normal(shift + 0.5, 2, (m, d))
    got = maximum_mean_discrepancy(x, y, bandwidth=bandwidth)
    # The shifts cost the inputs themselves four digits; rows near each other lose no more.
    assert got == pytest.approx(oracle_discrepancy(x, y, bandwidth), abs=1e-9)


def test_discrepancy_is_symmetric_and_blind_to_order_and_unit(np_rng):
    x, y = np_rng.normal(0, 1, (40, 3)), np_rng.normal(1, 1, (30, 3))
    value = maximum_mean_discrepancy(x, y)
    assert value > 0.05
    for again in (
        maximum_mean_discrepancy(y, x),
        maximum_mean_discrepancy(x[::-1], np_rng.permutation(y)),
        maximum_mean_discrepancy(1e3 * x - 7, 1e3 * y - 7),
        maximum_mean_discrepancy(x.reshape(40, 3, 1), y.reshape(30, 1, 3)),
    ):
        assert again == pytest.approx(value)


def test_discrepancy_has_no_bias_and_grows_with_distance(np_rng):
    same = [
        maximum_mean_discrepancy(*np_rng.normal(0, 1, (2, 20, 2)), bandwidth=1.0)
        for _ in range(400)
    ]
    # The biased estimator, which counts pairs of a row with itself, has mean 0.07 here.
    assert abs(np.mean(same)) < 4 * np.std(same) / 20 < 0.01
    assert min(same) < 0
    x, y = np_rng.normal(0, 1, (2, 200, 2))
    values = [maximum_mean_discrepancy(x, y + far, bandwidth=1.0) for far in (0, 0.5, 1, 4)]
    assert values == sorted(values)


def test_discrepancy_needs_no_whole_kernel_matrix(np_rng, monkeypatch):
    x, y = np_rng.normal(0, 1, (3000, 1)), np_rng.normal(0.1, 1, (3000, 1))
    tracemalloc.start()
    value = maximum_mean_discrepancy(x, y, bandwidth=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(x) * len(y) == 72_000_000
    monkeypatch.setattr(discrepancy, "KERNEL_ENTRIES", 2**14)
    assert maximum_mean_discrepancy(x, y, bandwidth=1.0) == pytest.approx(value, rel=1e-9)


def test_median_distance_is_that_of_all_pairs_that_differ(np_rng):
    x = np_rng.normal(size=(31, 2))
    pairs = [math.dist(x[i], x[j]) for i in range(31) for j in range(i)]
    assert median_distance(x) == pytest.approx(np.median(pairs))
    # With two thirds of the rows equal, most of the distances are 0.
    assert median_distance([[0.0]] * 20 + [[2.0]]) == pytest.approx(2.0)
    assert median_distance(np.ones((5, 2))) == 1.0
    many = np_rng.normal(size=(5000, 1))
    assert median_distance(many) == pytest.approx(2**0.5 * 0.6745, rel=0.1)


@pytest.mark.parametrize(
    ("x", "y", "bandwidth", "problem"),
    [
        (np.ones((1, 2)), np.ones((3, 2)), None, r"x must have shape \(n, ...\) .* got \(1, 2\)"),
        (np.ones((3, 2)), np.ones(3), None, r"y must have shape .* got \(3,\)"),
        (np.ones((3, 2)), np.ones((3, 4)), None, "y must have as many values .* 2, got 4"),
        (np.ones((3, 2)), np.full((3, 2), np.nan), None, "y must hold finite numbers"),
        (np.ones((3, 2)), np.ones((3, 2)), 0, "bandwidth must be None or a float > 0, got 0"),
    ],
)
def test_discrepancy_refuses_bad_input(x, y, bandwidth, problem):
    with pytest.raises((InvalidInputError, InvalidParameterError), match=problem):
        maximum_mean_discrepancy(x, y, bandwidth=bandwidth)


# --- value of the game ------------------------------------------------------------------------


def test_value_equals_the_oracle_and_the_margin_for_a_dead_discriminator(np_rng):
    energy_real, energy_generated = np_rng.gamma(1, 1, 50), np_rng.gamma(2, 1, 30)
    expected = oracles.discriminator_loss(energy_real, energy_generated, 1.5)
    assert game_value(energy_real, energy_generated, margin=1.5) == pytest.approx(expected)
    assert game_value(np.zeros(4), np.zeros(9), margin=1.5) == 1.5


@pytest.mark.parametrize(
    ("energies", "margin", "problem"),
    [
        (([1.0], [1.0]), 0.0, "margin must be a float > 0, got 0"),
        (([], [1.0]), 1.0, "energy_real must have shape"),
        (([1.0], [[1.0]]), 1.0, r"energy_generated must have shape .* got \(1, 1\)"),
    ],
)
def test_value_refuses_bad_input(energies, margin, problem):
    with pytest.raises((InvalidInputError, InvalidParameterError), match=problem):
        game_value(*energies, margin=margin)


# --- equilibrium of a detector ----------------------------------------------------------------


class Constant(nn.Module):
    """A generator that makes one row whatever its latents."""

    def __init__(self, row):
        super().__init__()
        self.row = nn.Parameter(torch.tensor(row))

    def forward(self, latents):
        return self.row + 0 * latents[:, :1]


def constant_networks(shape):
    """Encoder and decoder as they come, generated rows at (1, 2)."""
    return nn.Linear(2, 1), nn.Linear(1, 2), Constant([1.0, 2.0])


def test_measurements_of_a_known_generator(table, unchanged_global_random_state):
    still = {"max_epochs": 1, "learning_rate": 1e-30, "random_state": 0}
    detector = EBGANDetector(architecture=constant_networks, margin=4.0, **still).fit(table)
    measured = equilibrium(detector, table, random_state=0)
    scaler = detector.model_.scaler
    mean, std = scaler.shift.numpy(), scaler.scale.numpy()
    scaled, row = (table - mean) / std, np.array([1.0, 2.0])
    energy_real, energy_generated = detector.energy(table), detector.energy([row * std + mean])[0]
    assert measured.epoch == 1
    assert measured.margin == 4.0
    assert measured.energy_real == pytest.approx(energy_real.mean(), rel=1e-5)
    assert measured.energy_generated == pytest.approx(energy_generated, rel=1e-5)
    value = oracles.discriminator_loss(energy_real, [energy_generated], 4.0)
    assert measured.value == pytest.approx(value, rel=1e-5)
    expected = oracle_discrepancy(scaled[:80], np.tile(row, (80, 1)), median_distance(scaled[:80]))
    found = equilibrium(detector, table[:80], random_state=0).discrepancy
    assert found == pytest.approx(expected, rel=1e-5)
    with pytest.raises(FrozenInstanceError):
        measured.value = 0.0


def test_background_is_the_box_of_the_data_and_its_rim(table):
    still = {"max_epochs": 1, "learning_rate": 1e-30, "random_state": 0, "margin": 1.0}

    def networks(shape):
        # An encoder that forgets its input: the energy of a row is its mean square.
        encoder, decoder, generator = nn.Linear(2, 1), nn.Linear(1, 2), nn.Linear(2, 2)
        for module in (encoder, decoder):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        return encoder, decoder, generator

    detector = EBGANDetector(architecture=networks, latent_dim=2, **still).fit(table)
    scaler = detector.model_.scaler
    scaled = (table - scaler.shift.numpy()) / scaler.scale.numpy()
    low, high = scaled.min(axis=0), scaled.max(axis=0)
    low, high = low - (high - low) / 4, high + (high - low) / 4
    expected = np.mean((high**3 - low**3) / (3 * (high - low)))  # mean of t^2 over the box
    measured = equilibrium(detector, table, random_state=0)
    assert measured.energy_background == pytest.approx(expected, rel=0.2)


def test_an_ensemble_gives_the_mean_over_its_games(table):
    detector = EBGANDetector(**BRIEF, n_estimators=2).fit(table)
    both = equilibrium(detector, table, random_state=0)
    members = list(detector.model_.members)
    apart = []
    for member in members:
        detector.model_.members = nn.ModuleList([member])
        apart.append(equilibrium(detector, table, random_state=0).energy_real)
    assert apart[0] != pytest.approx(apart[1], rel=1e-3)
    assert both.energy_real == pytest.approx(np.mean(apart))


def test_max_rows_and_seed_choose_the_rows(table, detector):
    few = [equilibrium(detector, table, max_rows=5, random_state=seed) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]


def test_equilibrium_refuses_what_has_none(table, detector):
    with pytest.raises(NotFittedError):
        equilibrium(EBGANDetector(), table)
    plain = EBGANDetector(**BRIEF, adversarial=False).fit(table)
    with pytest.raises(InvalidParameterError, match="AutoEncoderObjective; use EBGAN"):
        equilibrium(plain, table)
    with pytest.raises(InvalidInputError, match="at least two rows, got 1"):
        equilibrium(detector, table[:1])
    with pytest.raises(InvalidInputError, match="expecting 2 features"):
        equilibrium(detector, np.ones((5, 3)))
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        equilibrium(detector, [[0.0, np.nan], [0.0, 0.0]])
    with pytest.raises(InvalidParameterError, match="max_rows must be an int >= 2, got 1"):
        equilibrium(detector, table, max_rows=1)


# --- recorder ---------------------------------------------------------------------------------


class LastRows(Callback):
    """Keep the training rows and the game."""

    def on_train_begin(self, run):
        self.rows, self.objective = run.rows.scaled.clone(), run.objective


def test_recorder_leaves_training_as_it_is(table, detector, unchanged_global_random_state):
    recorded = EBGANDetector(**BRIEF, callbacks=[EquilibriumRecorder()]).fit(table)
    for before, after in zip(
        detector.model_.state_dict().values(), recorded.model_.state_dict().values(), strict=True
    ):
        assert torch.equal(before, after)


def test_recorder_measures_before_training_and_after_epochs(table):
    recorder, last = EquilibriumRecorder(every=2), LastRows()
    EBGANDetector(**BRIEF, n_estimators=2, callbacks=[recorder, last]).fit(table)
    history = recorder.history
    assert history["epoch"] == [0, 2, 3] * 2
    assert history["member"] == [0] * 3 + [1] * 3
    assert history["margin"] == pytest.approx([0.3] * 6)
    assert len({len(column) for column in history.values()}) == 1
    with torch.no_grad():
        energy = last.objective.energy(last.rows).mean()
    assert history["energy_real"][-1] == pytest.approx(float(energy))
    untrained = EBGANDetector(**{**BRIEF, "max_epochs": 1, "learning_rate": 1e-30}).fit(table)
    at_start = equilibrium(untrained, table).energy_real
    assert history["energy_real"][0] == pytest.approx(at_start, rel=0.1)
    assert history["energy_real"][2] < 0.95 * history["energy_real"][0]


def test_recorder_of_a_single_row_knows_no_distance(table):
    recorder = EquilibriumRecorder()
    detector = EBGANDetector(**BRIEF).fit(table)
    before = len(detector.history_["epoch"])
    detector.set_params(callbacks=[recorder], calibration_fraction=0)
    detector._settled["calibration_fraction"] = 0
    detector.partial_fit(table[:1] + 1)
    assert len(detector.history_["epoch"]) == before + 1
    assert np.isnan(recorder.history["discrepancy"]).all()
    assert np.isfinite(recorder.history["energy_real"]).all()


def test_recorder_is_copied_with_its_detector(table):
    recorder = EquilibriumRecorder(max_rows=10)
    copied = clone(EBGANDetector(**BRIEF, callbacks=[recorder])).fit(table)
    assert recorder.history == {}
    assert copied.callbacks[0].history["epoch"] == [0, 1, 2, 3]


def test_recorder_refuses_a_game_without_adversary_before_it_trains(table):
    plain = EBGANDetector(**BRIEF, adversarial=False, callbacks=[EquilibriumRecorder()])
    with pytest.raises(InvalidParameterError, match="got the game AutoEncoderObjective"):
        plain.fit(table)
    with pytest.raises(InvalidParameterError, match=r"every must .* got 0\nmax_rows must .* got 1"):
        EquilibriumRecorder(every=0, max_rows=1)


# --- display ----------------------------------------------------------------------------------


def test_display_draws_every_record(table):
    recorder = EquilibriumRecorder(max_rows=50)
    EBGANDetector(**BRIEF, n_estimators=2, callbacks=[recorder]).fit(table)
    display = EquilibriumDisplay.from_recorder(recorder)
    names = [
        ("value", "margin"),
        ("energy_real", "energy_generated", "energy_background", "margin"),
        ("discrepancy",),
    ]
    for axis, drawn in zip(display.ax_, names, strict=True):
        lines = [line.get_xydata() for line in axis.get_lines()]
        wanted = [
            np.c_[recorder.history["epoch"][part], recorder.history[name][part]]
            for name in drawn
            for part in (slice(0, 4), slice(4, 8))
        ]
        np.testing.assert_array_equal(lines[: len(wanted)], wanted)
    assert len(lines) == 3  # the last panel has a line at 0
    display.figure_.canvas.draw()


def test_display_refuses_what_has_recorded_nothing(detector):
    with pytest.raises(InvalidInputError, match="recorder must have recorded a training"):
        EquilibriumDisplay.from_recorder(EquilibriumRecorder())
    with pytest.raises(InvalidParameterError, match="EquilibriumRecorder, got EBGANDetector"):
        EquilibriumDisplay.from_recorder(detector)


# --- theory -----------------------------------------------------------------------------------


def test_value_alone_is_fooled_by_a_dead_discriminator(table):
    def networks(shape):
        encoder, decoder = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        for module in (encoder, decoder):
            nn.init.eye_(module.weight)
        return encoder, decoder, Constant([3.0, 3.0])

    still = {"max_epochs": 1, "learning_rate": 1e-30, "random_state": 0}
    detector = EBGANDetector(architecture=networks, margin=1.0, **still).fit(table)
    dead = equilibrium(detector, table, random_state=0)
    assert dead.value == dead.margin == 1.0
    assert dead.energy_real == dead.energy_generated == dead.energy_background == 0
    assert dead.discrepancy > 0.5


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
@pytest.mark.parametrize("name", ["bumps", "ring"])
def test_paper_game_settles_as_theorems_1_and_2_say(name):
    recorder = EquilibriumRecorder(every=100)
    detector = EBGANDetector(**PAPER, max_epochs=100, random_state=0, callbacks=[recorder])
    detector.fit(DATA[name](2000, 0))
    end = equilibrium(detector, DATA[name](1000, 1), random_state=0)
    assert end.value == pytest.approx(end.margin, rel=0.1)
    assert recorder.history["value"][0] > 1.2 * end.margin
    # The two distributions: unbiased estimates scatter by some 0.002 around 0 here.
    assert end.discrepancy < 0.1 * recorder.history["discrepancy"][0]
    assert recorder.history["discrepancy"][0] > 0.05
    # Not because the discriminator is dead, nor because nothing was learnt.
    assert end.energy_background > 0.1 * end.margin
    assert end.energy_real < 0.5 * end.margin
    assert end.energy_generated - end.energy_real < 0.2 * end.margin


@pytest.mark.parametrize("name", ["bumps", "ring"])
def test_logistic_discriminator_settles_at_one_half(name):
    rows = DATA[name](2000, 0)
    detector = GANDetector(**LOGISTIC, max_epochs=100, random_state=0)
    with pytest.warns(TrainingHealthWarning, match="no longer tells them apart"):
        detector.fit(rows)
    for kind in ("real", "generated"):
        probability = detector.history_[f"probability_{kind}"]
        assert probability[-1] == pytest.approx(0.5, abs=0.05)
    assert maximum_mean_discrepancy(rows[:1000], detector.sample(1000, random_state=0)) < 0.02

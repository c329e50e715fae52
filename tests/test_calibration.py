"""`calibrate`: threshold and p-values from other rows than a part of the fitted ones."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from tables import SMALL, ring

from ebgan_detect import (
    CalibrationWarning,
    EBGANDetector,
    InvalidInputError,
    InvalidParameterError,
    load,
    save,
)
from ebgan_detect.thresholds import conformal_p_values, conformal_threshold, contamination_offset


@pytest.fixture
def fitted():
    return EBGANDetector(**SMALL).fit(ring(400))


@pytest.fixture(scope="module")
def others():
    """Rows that are further from the ring than the fitted ones."""
    return ring(700, seed=1) + np.random.default_rng(2).normal(0, 0.3, (700, 2))


def test_threshold_and_p_values_are_those_of_the_rows_given(fitted, others):
    before = fitted.energy(others)
    assert (fitted.predict(others) < 0).mean() > 0.2
    assert fitted.calibrate(others[:300]) is fitted
    np.testing.assert_array_equal(fitted.energy(others), before)
    np.testing.assert_array_equal(fitted.calibration_energies_, np.sort(before[:300]))
    assert fitted.offset_ == -conformal_threshold(before[:300], 0.05)
    expected = conformal_p_values(np.sort(before[:300]), before)
    np.testing.assert_array_equal(fitted.p_values(others), expected)
    assert (fitted.predict(others[300:]) < 0).mean() < 0.1


def test_another_rate_or_contamination_counts_from_then_on(fitted, others):
    energies = fitted.energy(others)
    fitted.set_params(false_alarm_rate=0.2)
    assert fitted.calibrate(others).offset_ == -conformal_threshold(energies, 0.2)
    fitted.set_params(contamination=0.3)
    assert fitted.calibrate(others).offset_ == contamination_offset(-energies, 0.3)


def test_a_loaded_detector_can_be_calibrated_and_saved(fitted, others, tmp_path):
    save(fitted, tmp_path / "model.ebgan")
    loaded = load(tmp_path / "model.ebgan").calibrate(others)
    save(loaded, tmp_path / "model.ebgan")
    again = load(tmp_path / "model.ebgan")
    assert again.offset_ == fitted.calibrate(others).offset_
    np.testing.assert_array_equal(again.p_values(others), fitted.p_values(others))


@pytest.mark.parametrize("fraction", [0.0, 0.1])
@pytest.mark.filterwarnings("ignore::ebgan_detect.CalibrationWarning")
def test_later_calls_add_to_these_rows(others, fraction):
    detector = EBGANDetector(calibration_fraction=fraction, **SMALL).fit(ring(400))
    detector.calibrate(others)
    detector.partial_fit(ring(900, seed=3))
    kept = detector._calibration_rows.values
    assert (kept[:, None] == others).all(-1).any(0).all()
    # With no share to calibrate, what trains cannot stand beside what did not.
    n_added = len(kept) - len(others)
    assert n_added == 0 if fraction == 0 else 50 < n_added < 150
    assert len(detector.calibration_energies_) == len(kept)


def test_what_cannot_be_used_leaves_the_detector_as_it_was(fitted, others):
    before = fitted.offset_, fitted.p_values(others)
    for rows in (others[:, :1], np.full((3, 2), np.nan), others[:0]):
        with pytest.raises(InvalidInputError):
            fitted.calibrate(rows)
    with pytest.raises(InvalidParameterError, match="false_alarm_rate must be"):
        fitted.set_params(false_alarm_rate=2).calibrate(others)
    fitted.set_params(false_alarm_rate=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CalibrationWarning):
            fitted.calibrate(others[:5])
    assert fitted.model_.games()[0].optimizers
    assert fitted.offset_ == before[0]
    np.testing.assert_array_equal(fitted.p_values(others), before[1])
    with pytest.raises(NotFittedError):
        EBGANDetector().calibrate(others)

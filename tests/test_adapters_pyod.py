"""The library's detectors inside PyOD itself."""

import joblib
import numpy as np
import pytest
from pyod.models.knn import KNN
from pyod.models.lscp import LSCP
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

from ebgan_detect import EBGANDetector, InvalidInputError, InvalidParameterError
from ebgan_detect.adapters import PyODDetector
from ebgan_detect.baselines import AutoEncoderDetector

FAST = EBGANDetector(max_epochs=2, random_state=0)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return np.r_[rng.normal(size=(380, 4)), rng.uniform(-9, 9, (20, 4))]


@pytest.fixture(scope="module")
def fitted(rows):
    return PyODDetector(FAST, contamination=0.05).fit(rows)


def test_scores_are_the_detectors_energies(fitted, rows):
    own = clone(FAST).fit(rows)
    np.testing.assert_array_equal(fitted.decision_scores_, own.energy(rows))
    np.testing.assert_array_equal(fitted.decision_function(rows), fitted.decision_scores_)
    np.testing.assert_array_equal(fitted.detector_.p_values(rows), own.p_values(rows))


def test_labels_are_the_share_of_largest_energies(fitted, rows):
    assert fitted.labels_.sum() == 20
    assert fitted.decision_scores_[fitted.labels_ == 0].max() <= fitted.threshold_
    np.testing.assert_array_equal(fitted.predict(rows), fitted.labels_)


def test_sense_is_pyods(fitted, rows):
    # The opposite of scikit-learn's: an outlier scores high and is a 1.
    far = np.stack([rows[0], rows[0] + 100])
    low, high = fitted.decision_function(far)
    assert low < high
    assert fitted.predict(far)[1] == 1
    assert fitted.detector_.predict(far)[1] == -1


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_probabilities_order_as_energies_do(fitted, rows, method):
    probability = fitted.predict_proba(rows, method=method)
    assert probability.shape == (400, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)
    by_energy = probability[np.argsort(fitted.decision_scores_), 1]
    assert (np.diff(by_energy) >= 0).all()
    assert by_energy[0] < by_energy[-1]


def test_confidence_and_rejection_work(fitted, rows):
    labels, confidence = fitted.predict(rows, return_confidence=True)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    rejecting = fitted.predict_with_rejection(rows, T=5, c_r=0.05)
    kept = rejecting != -2
    assert kept.any()
    np.testing.assert_array_equal(rejecting[kept], labels[kept])


def test_energy_that_overflows_is_the_largest_and_surely_abnormal(fitted):
    far = np.full((1, 4), 1e30)
    assert np.isinf(fitted.detector_.energy(far)).all()
    assert np.isfinite(fitted.decision_function(far)).all()
    assert fitted.predict(far) == 1
    assert fitted.predict_proba(far)[0, 1] == 1.0


def test_images_and_other_detectors_are_taken():
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    detector = PyODDetector(AutoEncoderDetector(max_epochs=1, random_state=0)).fit(images)
    assert detector.labels_.sum() == 6
    assert detector.predict_proba(images).shape == (60, 2)


def test_detector_given_stays_unfitted(fitted):
    assert not hasattr(FAST, "model_")
    assert fitted.detector is FAST


def test_parameters_are_reached_through_the_adapter(fitted):
    copy = clone(fitted).set_params(detector__max_epochs=1, contamination=0.2)
    assert copy.detector.max_epochs == 1
    assert copy.contamination == 0.2
    assert FAST.max_epochs == 2
    assert not hasattr(copy, "detector_")


def test_default_is_the_default_detector(rows, monkeypatch):
    monkeypatch.setattr(EBGANDetector, "fit", lambda self, X: pytest.fail(str(self.get_params())))
    with pytest.raises(pytest.fail.Exception) as failed:
        PyODDetector().fit(rows)
    assert str(EBGANDetector().get_params()) in str(failed.value)


def test_pyods_ensemble_takes_it(rows):
    ensemble = LSCP([PyODDetector(FAST), KNN()], n_bins=2, random_state=0).fit(rows)
    assert ensemble.decision_function(rows).shape == (400,)
    assert ensemble.labels_[380:].mean() > ensemble.labels_[:380].mean()


def test_joblib_file_scores_alike(fitted, rows, tmp_path):
    joblib.dump(fitted, tmp_path / "detector.joblib")
    again = joblib.load(tmp_path / "detector.joblib")
    np.testing.assert_array_equal(again.decision_function(rows), fitted.decision_scores_)
    assert again.threshold_ == fitted.threshold_


def test_failed_fit_leaves_the_earlier_one(rows):
    detector = PyODDetector(FAST).fit(rows)
    before = detector.decision_function(rows)
    with pytest.raises(InvalidInputError, match="row 381"):
        detector.fit(np.where(rows > 8, np.nan, rows))
    np.testing.assert_array_equal(detector.decision_function(rows), before)


def test_foreign_detector_is_refused(rows):
    with pytest.raises(InvalidParameterError, match="detector must be None or a detector of ebgan"):
        PyODDetector(IsolationForest()).fit(rows)


def test_unfitted_detector_says_so(rows):
    with pytest.raises(NotFittedError):
        PyODDetector().decision_function(rows)


def test_contamination_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"contamination must be in \(0, 0.5\]"):
        PyODDetector(contamination=0.7)

"""`EBGANDetector` as a user meets it."""

import copy
import pickle  # noqa: TID251 - scikit-learn's tools pickle estimators
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from tables import SMALL, ring
from torch import nn

from ebgan_detect import (
    CalibrationWarning,
    Callback,
    EBGANDetector,
    EBGANWarning,
    InputRangeWarning,
    InvalidInputError,
    InvalidParameterError,
)
from ebgan_detect.networks import mlp_networks
from ebgan_detect.partition import row_positions


@pytest.fixture(scope="module")
def fitted(table) -> EBGANDetector:
    return EBGANDetector(**SMALL).fit(table)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return (load_digits().images * 15.9375).astype(np.uint8)


@pytest.fixture(scope="module")
def image_detector(images) -> EBGANDetector:
    return EBGANDetector(max_epochs=2, random_state=0).fit(images)


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"),
    list(estimator_checks_generator(EBGANDetector(max_epochs=3))),
    ids=lambda value: getattr(getattr(value, "func", value), "__name__", "ebgan"),
)
def test_estimator_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)


# --- what the adversary is for --------------------------------------------------------------


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
def test_adversary_beats_its_control_and_the_untrained_network(images):
    labels = load_digits().target

    def auroc(digit, **parameters):
        normal, abnormal = images[labels != digit], images[labels == digit]
        test = np.concatenate([normal[1::2], abnormal])
        is_anomaly = np.arange(len(test)) >= len(normal[1::2])
        detector = EBGANDetector(**{"max_epochs": 60, "random_state": 0} | parameters)
        return roc_auc_score(is_anomaly, detector.fit(normal[::2]).energy(test))

    # Mean of two digits: a 1 has little ink, which alone lowers any energy or lifts it.
    # When this was written: 0.85 for EBGAN, 0.72 for the control, 0.57 untrained.
    control, brief = {"adversarial": False}, {"max_epochs": 1, "learning_rate": 1e-30}
    ebgan, plain, untrained = (
        np.mean([auroc(digit, **parameters) for digit in (0, 1)])
        for parameters in ({}, control, control | brief)
    )
    assert ebgan > plain + 0.05
    assert ebgan > untrained + 0.1


# --- scores ---------------------------------------------------------------------------------


def test_scores_are_negative_energies_and_maps_average_to_them(image_detector, images):
    x = images[:50]
    energy = image_detector.energy(x)
    np.testing.assert_array_equal(image_detector.score_samples(x), -energy)
    split = image_detector.energy_map(x)
    assert split.shape == x.shape
    np.testing.assert_allclose(split.mean(axis=(1, 2)), energy, rtol=1e-12)


def test_outputs_are_all_answers_from_one_pass(fitted, table, monkeypatch):
    methods = {
        "energy": fitted.energy,
        "score": fitted.score_samples,
        "decision": fitted.decision_function,
        "label": fitted.predict,
        "p_value": fitted.p_values,
    }
    expected = {name: method(table) for name, method in methods.items()}
    passes = []
    forward = type(fitted.model_).forward
    monkeypatch.setattr(
        type(fitted.model_), "forward", lambda *args: passes.append(1) or forward(*args)
    )
    found = fitted.outputs(table)
    assert len(passes) == 1
    assert list(found) == list(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])
        assert values.dtype == expected[name].dtype == (np.int64 if name == "label" else np.float64)
    assert list(fitted.outputs(table, "label", "score")) == ["label", "score"]
    with pytest.raises(InvalidParameterError, match=r"names must be among .*'p_value'.*'scores'"):
        fitted.outputs(table, "scores")


def test_energy_is_the_error_of_the_reconstruction(fitted, table):
    scaler = fitted.model_.scaler
    scaled, made = scaler(torch.tensor(table)), scaler(torch.tensor(fitted.reconstruct(table)))
    expected = (scaled - made).double().square().mean(dim=1)
    np.testing.assert_allclose(fitted.energy(table), expected, rtol=1e-4, atol=1e-9)


def test_decision_function_is_the_score_above_the_offset(fitted, table):
    decision = fitted.decision_function(table)
    np.testing.assert_array_equal(decision, fitted.score_samples(table) - fitted.offset_)
    np.testing.assert_array_equal(fitted.predict(table), np.where(decision >= 0, 1, -1))
    assert fitted.predict(table).dtype == np.int64


@pytest.mark.parametrize("kind", ["table", "images"])
def test_scores_depend_on_neither_batch_nor_order(kind, request):
    detector = request.getfixturevalue("fitted" if kind == "table" else "image_detector")
    x = request.getfixturevalue(kind)[:130]
    whole = detector.score_samples(x)
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_array_equal(detector.score_samples(x[order]), whole[order])
    np.testing.assert_array_equal(detector.score_samples(x[7:8]), whole[7:8])
    np.testing.assert_array_equal(detector.score_samples(x[3:77]), whole[3:77])


def test_scoring_makes_one_pass_without_gradient(fitted, table, monkeypatch):
    calls = []
    encoder = fitted.model_.members[0].encoder
    handle = encoder.register_forward_hook(
        lambda module, args, output: calls.append((len(output), output.requires_grad))
    )
    fitted.score_samples(table)
    handle.remove()
    assert sum(n for n, _ in calls) == -(-len(table) // 32) * 32
    assert not any(gradient for _, gradient in calls)


def test_far_finite_row_has_infinite_energy_and_is_an_outlier(fitted):
    x = np.full((1, 2), 1e300)
    assert fitted.energy(x)[0] == np.inf
    assert fitted.predict(x)[0] == -1
    assert fitted.p_values(x)[0] == 1 / (len(fitted.calibration_energies_) + 1)


def test_ensemble_averages_its_members(table):
    detector = EBGANDetector(n_estimators=2, **SMALL).fit(table)
    assert len(detector.model_.members) == 2
    scaled = detector.model_.scale(torch.tensor(table))
    with torch.no_grad():
        energies = [member.energy(scaled) for member in detector.model_.members]
    assert not torch.equal(*energies)
    np.testing.assert_allclose(detector.energy(table), sum(energies) / 2, rtol=1e-6)
    assert sorted(set(detector.history_["member"])) == [0, 1]
    assert detector.sample(5, random_state=0).shape == (5, 2)


# --- threshold and p-values -----------------------------------------------------------------


def test_false_alarms_keep_their_rate_and_p_values_are_valid_over_seeds():
    alarms, small = [], []
    for seed in range(8):
        detector = EBGANDetector(**SMALL | {"random_state": seed}).fit(ring(700, seed))
        fresh = ring(2000, seed + 100)
        alarms.append(np.mean(detector.predict(fresh) == -1))
        small.append([np.mean(detector.p_values(fresh) <= level) for level in (0.05, 0.2, 0.5)])
    # The rate of one fit varies with its 70 calibration rows: Beta(4, 67) has spread 0.027.
    assert np.mean(alarms) <= 0.05 + 3 * 0.027 / np.sqrt(8)
    for level, observed in zip((0.05, 0.2, 0.5), np.mean(small, axis=0), strict=True):
        spread = np.sqrt(level * (1 - level) / 70 / 8)
        assert observed <= level + 3 * spread


def test_conformal_offset_comes_from_calibration_rows_alone(fitted, table):
    calibration = fitted.calibration_energies_
    assert len(calibration) == 60
    rank = int(np.ceil(61 * 0.95))
    assert fitted.offset_ == -np.sort(calibration)[rank - 1]


def test_contamination_marks_that_share_of_all_fitted_rows(table):
    detector = EBGANDetector(contamination=0.2, **SMALL).fit(table)
    assert np.mean(detector.predict(table) == -1) == pytest.approx(0.2)
    assert detector.offset_ == np.percentile(detector.score_samples(table), 20)


def test_too_few_calibration_rows_warn_and_take_the_largest_energy():
    with pytest.warns(CalibrationWarning, match=r"needs 19 calibration rows, got 13"):
        detector = EBGANDetector(**SMALL).fit(ring(40))
    assert detector.offset_ == -detector.calibration_energies_.max()
    assert np.isfinite(detector.offset_)


@pytest.mark.parametrize(("n", "parameters"), [(60, {"calibration_fraction": 0}), (1, {})])
def test_calibration_on_training_rows_warns(n, parameters, table):
    detector = EBGANDetector(**SMALL, **parameters)
    with pytest.warns(CalibrationWarning, match="come from rows that were trained on"):
        detector.fit(table[:n])
    assert len(detector.calibration_energies_) == n


def test_calibration_rows_touch_neither_scaling_nor_weights(table):
    """Training on the training rows alone, given as such, ends in the same network."""
    detector = EBGANDetector(**SMALL).fit(table)
    training, validation, calibration = detector._partition.divide(
        row_positions([table], detector._seed)
    )
    assert len(validation) == 0
    np.testing.assert_allclose(detector.model_.scaler.shift, table[training].mean(axis=0))
    np.testing.assert_array_equal(
        detector.calibration_energies_, np.sort(detector.energy(table[calibration]))
    )
    alone = EBGANDetector(calibration_fraction=0, **SMALL)
    with pytest.warns(CalibrationWarning, match="rows that were trained on"):
        alone.fit(table[training])
    np.testing.assert_array_equal(alone.energy(table), detector.energy(table))


def test_separation_keeps_the_best_epoch_and_sets_rows_aside(table):
    detector = EBGANDetector(keep_state="separation", **SMALL | {"max_epochs": 6}).fit(table)
    criterion = detector.history_["criterion"]
    assert len(criterion) == 6
    assert all(0 <= value <= 1 for value in criterion)
    part = detector._partition
    assert part.validation_below > part.calibration_below


def test_average_state_differs_from_the_final_one(table, fitted):
    averaged = EBGANDetector(keep_state="average", **SMALL).fit(table)
    assert not np.array_equal(averaged.energy(table), fitted.energy(table))
    assert averaged.history_["energy_real"] == fitted.history_["energy_real"]


# --- margin ---------------------------------------------------------------------------------


def test_automatic_margin_is_a_multiple_of_the_pilots_energy_and_stays_fixed(fitted):
    assert len(set(fitted.history_["margin"])) == 1
    assert fitted.margin_ > 0
    assert np.isnan(EBGANDetector(adversarial=False, **SMALL).fit(ring(100)).margin_)


@pytest.mark.parametrize(
    ("margin", "ends"), [(0.5, (0.5, 0.5)), ((0.2, 1.0), (0.2, 1.0)), (lambda p: 2 + p, (2, 3))]
)
def test_margin_follows_what_is_asked(margin, ends, table):
    margins = (
        EBGANDetector(margin=margin, **SMALL | {"max_epochs": 10}).fit(table).history_["margin"]
    )
    step = (ends[1] - ends[0]) / 10
    assert margins[0] == pytest.approx(ends[0] + step / 2, abs=step + 1e-6)
    assert margins[-1] == pytest.approx(ends[1] - step / 2, abs=step + 1e-6)


@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, "x", None])
def test_margin_callable_must_return_a_margin(value, table):
    with pytest.raises(InvalidParameterError, match=r"margin must return a float > 0, got"):
        EBGANDetector(margin=lambda p: value, **SMALL).fit(table)


# --- reproducibility ------------------------------------------------------------------------


def test_generator_steps_by_its_own_rate(table):
    def weights(rate, epochs, player):
        options = SMALL | {"generator_rate": rate, "max_epochs": epochs}
        game = EBGANDetector(**options).fit(table).model_.members[0]
        return torch.nn.utils.parameters_to_vector(getattr(game, player).parameters())

    first, later = (weights(1e-30, epochs, "generator") for epochs in (1, 2))
    assert torch.equal(first, later)
    assert not torch.equal(*(weights(1e-30, epochs, "encoder") for epochs in (1, 2)))
    assert not torch.equal(weights(1.0, 1, "generator"), weights(2.0, 1, "generator"))


def test_same_seed_gives_the_same_scores_also_on_refit(table, fitted):
    again = EBGANDetector(**SMALL).fit(table)
    np.testing.assert_array_equal(again.score_samples(table), fitted.score_samples(table))
    np.testing.assert_array_equal(
        again.fit(table).score_samples(table), fitted.score_samples(table)
    )
    other = EBGANDetector(**SMALL | {"random_state": 1}).fit(table)
    assert not np.array_equal(other.score_samples(table), fitted.score_samples(table))


def dropping(shape):
    """Networks with dropout, which draws from torch's global generator."""
    made = mlp_networks(shape, hidden_sizes=(8,), code_dim=2, latent_dim=32, bounded=False)
    return nn.Sequential(made.encoder, nn.Dropout()), made.decoder, made.generator


@pytest.mark.usefixtures("unchanged_global_random_state")
@pytest.mark.parametrize("architecture", ["mlp", dropping])
def test_fits_in_threads_are_reproducible(architecture, table):
    def energies(_=None):
        return EBGANDetector(architecture=architecture, **SMALL).fit(table).energy(table)

    alone = energies()
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(energies, range(6)):
            np.testing.assert_array_equal(found, alone)


def hooked(shape):
    """Networks with a hook that draws from torch's global generator."""
    made = mlp_networks(shape, hidden_sizes=(8,), code_dim=2, latent_dim=32, bounded=False)
    made.encoder.register_forward_hook(
        lambda module, _, code: code + torch.randn_like(code) if module.training else code
    )
    return made


@pytest.mark.usefixtures("unchanged_global_random_state")
def test_hooks_that_draw_are_reproducible(table):
    first, again = (EBGANDetector(architecture=hooked, **SMALL).fit(table) for _ in range(2))
    np.testing.assert_array_equal(first.energy(table), again.energy(table))


def test_callback_may_wait_for_a_fit_in_another_thread(table):
    energies = []

    class Wait(Callback):
        def on_epoch_end(self, run):
            energies.append(pool.submit(fitted_elsewhere).result(timeout=60))

        on_step_end = on_epoch_end

    def fitted_elsewhere():
        return EBGANDetector(margin=1.0, **SMALL).fit(table[:50]).energy(table)

    with ThreadPoolExecutor(1) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        brief = {**SMALL, "max_epochs": 1, "callbacks": [Wait()], "margin": 1.0}
        EBGANDetector(architecture=dropping, **brief).fit(table[:150])
    assert len(energies) == 2
    np.testing.assert_array_equal(*energies)


@pytest.mark.parametrize("random_state", [-1, 2**32, "x", 0.5, True, np.random.default_rng(0)])
def test_random_state_that_is_none_raises(random_state, table, fitted):
    with pytest.raises(InvalidParameterError, match="random_state must be None, an int from 0"):
        EBGANDetector(random_state=random_state).fit(table)
    with pytest.raises(InvalidParameterError, match="random_state must be None, an int from 0"):
        fitted.sample(2, random_state=random_state)


def test_global_random_states_are_untouched(table):
    numpy_before, torch_before = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    EBGANDetector(**SMALL | {"random_state": 3}).fit(table).sample(4, random_state=0)
    assert torch.equal(torch.get_rng_state(), torch_before)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(numpy_before, after, strict=True))


def test_constructor_only_stores_its_parameters():
    detector = EBGANDetector()
    assert set(vars(detector)) == set(detector.get_params())


# --- input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8, ">f8"])
def test_numeric_types_of_equal_values_score_alike(dtype):
    x = np.random.default_rng(0).integers(0, 200, (300, 3))
    detector = EBGANDetector(**SMALL).fit(x)
    np.testing.assert_array_equal(
        detector.score_samples(x.astype(dtype)), detector.score_samples(x)
    )


def test_input_kinds_score_alike(fitted, table, tmp_path):
    expected = fitted.score_samples(table)
    mapped = np.memmap(tmp_path / "x.dat", np.float64, "w+", shape=table.shape)
    mapped[:] = table
    dataset = torch.utils.data.TensorDataset(torch.tensor(table), torch.zeros(len(table)))
    for x in (table.tolist(), torch.tensor(table), mapped, dataset, pd.DataFrame(table)):
        if isinstance(x, pd.DataFrame):
            x = x.to_numpy()
        np.testing.assert_array_equal(fitted.score_samples(x), expected)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_feature_names_are_kept_and_checked(frame, table):
    x = frame({"first": table[:, 0], "second": table[:, 1]})
    detector = EBGANDetector(**SMALL).fit(x)
    assert detector.feature_names_in_.tolist() == ["first", "second"]
    detector.score_samples(x)
    with pytest.raises(InvalidInputError, match="feature names should match"):
        detector.score_samples(x[["second", "first"]])


def test_input_is_never_changed(table):
    before = table.copy()
    tensor = torch.tensor(table)
    detector = EBGANDetector(**SMALL).fit(table)
    detector.fit(tensor)
    detector.energy_map(tensor)
    detector.reconstruct(table)
    np.testing.assert_array_equal(table, before)
    np.testing.assert_array_equal(tensor.numpy(), before)


def test_uint8_images_and_their_float_values_score_alike(image_detector, images):
    np.testing.assert_array_equal(
        image_detector.score_samples(images[:70].astype(np.float64)),
        image_detector.score_samples(images[:70]),
    )


@pytest.mark.parametrize("method", ["score_samples", "energy_map", "partial_fit"])
def test_images_of_another_range_warn(method, image_detector, images):
    detector = copy.deepcopy(image_detector)
    with pytest.warns(InputRangeWarning, match=r"0 to 255\), got values up to 1") as caught:
        getattr(detector, method)(images[:50] / 255.0)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32])
def test_bytes_after_images_in_the_unit_interval_warn(dtype, images):
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(images[:100] / 255)
    with pytest.warns(InputRangeWarning, match=r"got values up to 255"):
        detector.energy(images[:50].astype(dtype))


@pytest.mark.filterwarnings("error")
def test_dark_bytes_after_bytes_are_in_the_same_unit(image_detector, images):
    dark = np.full_like(images[:30], 3, dtype=np.uint8)
    assert np.isfinite(image_detector.energy(dark)).all()
    copy.deepcopy(image_detector).partial_fit(dark)


class Counting(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images
        self.reads = 0

    def __len__(self):
        return 60

    def __getitem__(self, index):
        self.reads += 1
        return self.images[index].astype(np.float32)


def test_scoring_reads_every_image_once(image_detector, images):
    dataset = Counting(images)
    image_detector.energy(dataset)
    assert dataset.reads == 60 + 1  # one tells the shape


def test_fitting_reads_every_image_once_if_memory_holds_them(images, monkeypatch):
    fits, reads = [], []
    for held in (2**31, 60 * 64 * 4, 60 * 64 * 4 - 1):
        monkeypatch.setattr("ebgan_detect.data.HELD_BYTES", held)
        dataset = Counting(images)
        detector = EBGANDetector(max_epochs=1, random_state=0).fit(dataset)
        fits.append(detector.energy(images[:20]))
        reads.append(dataset.reads)
        detector.partial_fit(dataset)
        assert dataset.reads <= 2 * reads[-1]
    assert reads[0] == reads[1] == 60 + 1
    assert reads[2] > 3 * 60
    np.testing.assert_array_equal(fits[0], fits[2])


@pytest.mark.parametrize("shape", [(60, 12, 12, 3), (60, 12, 12, 1)])
def test_images_with_channels_last_warn(shape, np_rng):
    x = np_rng.integers(0, 256, shape, dtype=np.uint8)
    with pytest.warns(EBGANWarning, match="channels last.*moveaxis") as caught:
        EBGANDetector(max_epochs=1, margin=1.0, random_state=0).fit(x)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((1, 257, 257), "resize them, or give architecture='mlp'"),
        ((2, 400, 200), "resize them, or give architecture='mlp'"),
        ((2048, 7, 7), "resize them, or give architecture='mlp'"),
        ((300, 400, 3), "resize them and put channels first"),
        ((200, 200, 3), "put channels first: np.moveaxis"),
    ],
)
def test_images_too_large_for_any_default_network_are_refused(shape, remedy, np_rng):
    x = np.broadcast_to(np.float32(np_rng.uniform()), (60, *shape))
    with pytest.raises(InvalidInputError, match=rf"8 to 256 pixels a side .*; {remedy}"):
        EBGANDetector(max_epochs=1).fit(x)


def test_long_series_of_a_few_channels_are_not(np_rng):
    x = np_rng.normal(size=(60, 1000, 6))
    detector = EBGANDetector(max_epochs=1, margin=1.0, hidden_sizes=(4,), random_state=0).fit(x)
    assert detector.settings_["architecture"] == "mlp"


def test_columns_that_a_few_codes_dwarf_are_named(table):
    frame = pd.DataFrame(table, columns=["x", "y"])
    frame.iloc[::97, 1] = -9999
    with pytest.warns(InputRangeWarning, match=r"got column 'y', where the standard dev") as caught:
        EBGANDetector(**SMALL).fit(frame)
    assert [warning.filename for warning in caught] == [__file__]
    frame["z"] = 1e3 * frame["y"] + frame["x"]
    with pytest.warns(InputRangeWarning, match=r"column 'z', where, as in 1 other, the standard"):
        EBGANDetector(**SMALL).fit(frame)
    # Scaled otherwise, or a few values beside one that is usual, they are no surprise.
    EBGANDetector(scaling="none", **SMALL).fit(frame)
    EBGANDetector(**SMALL).fit(np.c_[table, frame["y"] == -9999])


def test_series_of_three_channels_do_not_warn(np_rng):
    x = np_rng.normal(size=(60, 20, 3))
    EBGANDetector(max_epochs=1, margin=1.0, hidden_sizes=(8,), random_state=0).fit(x)


@pytest.mark.parametrize("shape", [(60, 3, 9, 11), (60, 12, 10), (60, 2, 4, 5)])
def test_image_shapes_come_back_as_they_went_in(shape):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(x)
    assert detector.input_shape_ == shape[1:]
    assert detector.reconstruct(x).shape == shape
    assert detector.energy_map(x).shape == shape
    assert detector.sample(3, random_state=0).shape == (3, *shape[1:])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[0.0, np.nan]]), "contains NaN or infinity.*row 0"),
        (np.array([[0.0, 1.0], [np.inf, 1.0]]), "contains NaN or infinity.*row 1"),
        (np.empty((0, 2)), r"0 sample\(s\)"),
        (np.zeros((3, 3)), "X has 3 features, but EBGANDetector is expecting 2"),
        (np.zeros((3, 2, 2)), r"rows of shape \(2, 2\).*expecting rows of shape \(2,\)"),
        (np.zeros(2), "Expected 2D array, got 1D array"),
        ([["a", "b"]], "numeric"),
    ],
    ids=["nan", "infinity", "empty", "columns", "rank", "one-d", "text"],
)
def test_bad_input_is_refused_before_any_work(fitted, x, message):
    with pytest.raises(InvalidInputError, match=message):
        fitted.score_samples(x)


def test_unfitted_detector_says_so(table):
    for method in ("energy", "energy_map", "predict", "p_values", "reconstruct"):
        with pytest.raises(NotFittedError):
            getattr(EBGANDetector(), method)(table)
    with pytest.raises(NotFittedError):
        EBGANDetector().sample(1)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (5, 3), (300, 1)])
def test_tiny_inputs_work(shape):
    x = np.random.default_rng(0).normal(size=shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        detector = EBGANDetector(**SMALL).fit(x)
    assert np.isfinite(detector.score_samples(x)).all()


def test_constant_columns_are_harmless(table):
    detector = EBGANDetector(**SMALL).fit(np.c_[table, np.full(len(table), 7.0)])
    assert np.isfinite(detector.energy([[0.0, 0.0, 7.0], [0.0, 0.0, 8.0]])).all()


def test_large_offsets_of_columns_lose_nothing(table, fitted):
    shifted = EBGANDetector(**SMALL).fit(table * 2**-4 + 2.0**20)
    assert roc_auc_score(
        np.r_[np.zeros(600), np.ones(600)],
        shifted.energy(np.r_[table, table * 0.2] * 2**-4 + 2.0**20),
    ) == pytest.approx(
        roc_auc_score(np.r_[np.zeros(600), np.ones(600)], fitted.energy(np.r_[table, table * 0.2])),
        abs=0.05,
    )


# --- parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("contamination", 0.7, r"'auto' or a float in \(0, 0.5\], got 0.7"),
        ("margin", -1.0, r"margin must be .*, got -1.0"),
        ("architecture", "cnn", r"architecture must be .*, got 'cnn'"),
        ("n_estimators", 0, r"n_estimators must be an int >= 1, got 0"),
        ("device", "tpu", r"device must be 'auto' or one .*, got 'tpu'"),
        ("hidden_sizes", (0,), r"hidden_sizes must be .*, got \(0,\)"),
        ("max_epochs", True, r"max_epochs must be .*, got True"),
    ],
)
def test_parameter_out_of_range_is_named(name, value, message, table):
    with pytest.raises(InvalidParameterError, match=message):
        EBGANDetector(**SMALL | {name: value}).fit(table)


def test_all_parameter_problems_are_reported_at_once(table):
    with pytest.raises(InvalidParameterError) as error:
        EBGANDetector(batch_size=0, noise=-1.0, precision="half").fit(table)
    assert all(name in str(error.value) for name in ("batch_size", "noise", "precision"))


def test_conv_refuses_tables(table):
    with pytest.raises(InvalidParameterError, match="architecture='conv' needs images"):
        EBGANDetector(architecture="conv", **SMALL).fit(table)


def test_sampling_needs_a_generator_and_a_positive_number(fitted, table):
    with pytest.raises(InvalidParameterError, match="n_samples must be an int >= 1, got 0"):
        fitted.sample(0)
    control = EBGANDetector(adversarial=False, **SMALL).fit(table)
    with pytest.raises(InvalidParameterError, match="generator"):
        control.sample(1)


def test_own_networks_come_from_a_factory(table):
    def factory(shape):
        return (
            torch.nn.Linear(*shape, 3),
            torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(3, *shape)),
            torch.nn.Linear(5, *shape),
        )

    detector = EBGANDetector(architecture=factory, latent_dim=5, max_epochs=2, random_state=0)
    detector.fit(table)
    assert isinstance(detector.model_.members[0].encoder, torch.nn.Linear)
    again = clone(detector).fit(table)
    np.testing.assert_array_equal(again.energy(table), detector.energy(table))


def test_dropout_of_own_networks_is_reproducible_and_leaves_the_global_state_alone(table):
    def factory(shape):
        return (
            torch.nn.Sequential(torch.nn.Linear(*shape, 8), torch.nn.Dropout(0.5)),
            torch.nn.Linear(8, *shape),
            torch.nn.Linear(3, *shape),
        )

    before = torch.get_rng_state()
    detector = EBGANDetector(architecture=factory, latent_dim=3, max_epochs=2, random_state=0)
    first = detector.fit(table).energy(table)
    np.testing.assert_array_equal(detector.fit(table).energy(table), first)
    np.testing.assert_array_equal(detector.energy(table), first)
    assert torch.equal(torch.get_rng_state(), before)


# --- company --------------------------------------------------------------------------------


def test_pickled_and_copied_detectors_score_alike_and_can_go_on(fitted, table):
    for twin in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):  # noqa: S301
        np.testing.assert_array_equal(twin.score_samples(table), fitted.score_samples(table))
        twin.partial_fit(table[:50])
    assert fitted.n_iter_ == 3


def test_pipeline_and_grid_search_work(table):
    pipeline = make_pipeline(StandardScaler(), EBGANDetector(**SMALL))
    assert set(pipeline.fit(table).predict(table)) == {-1, 1}
    search = GridSearchCV(
        EBGANDetector(**SMALL),
        {"code_dim": [1, 2]},
        scoring=lambda estimator, x: estimator.score_samples(x).mean(),
        cv=2,
    )
    assert search.fit(table).best_params_["code_dim"] in (1, 2)


def test_fit_is_silent_by_default_and_shows_a_bar_when_asked(table, capfd):
    EBGANDetector(**SMALL).fit(table)
    assert capfd.readouterr() == ("", "")
    EBGANDetector(verbose=1, **SMALL).fit(table)
    shown = capfd.readouterr().err
    assert 0 <= shown.find("pilot 1/1") < shown.find("fit 1/1")


@pytest.mark.parametrize(("shape", "is_large"), [((5,), False), ((8, 8), False), ((16, 16), True)])
def test_automatic_precision_is_mixed_only_where_it_is_faster(shape, is_large, np_rng, monkeypatch):
    # As on a CPU with AMX, whatever this one has.
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    x = np_rng.uniform(size=(80, *shape)).astype(np.float32)
    detector = EBGANDetector(**{**SMALL, "max_epochs": 1, "device": "cpu"}).fit(x)
    assert detector.settings_["precision"] == ("bf16-mixed" if is_large else "float32")
    given = EBGANDetector(
        **{**SMALL, "max_epochs": 1, "device": "cpu", "precision": "float32"}
    ).fit(x)
    assert given.settings_["precision"] == "float32"


@pytest.mark.parametrize(("shape", "expected"), [((5,), 128), ((8, 8), 64)])
def test_automatic_batches_and_updates(shape, expected, np_rng):
    """Images train in small batches, and the budget counts updates of that size."""
    x = np_rng.uniform(size=(400, *shape)).astype(np.float32)
    sizes = []

    class Watch(Callback):
        def on_step_end(self, run):
            run.stop = True
            sizes.append(run.steps_per_epoch)

    settings = {"hidden_sizes": (2,), "callbacks": [Watch()], "random_state": 0}
    detector = EBGANDetector(**settings).fit(x)
    assert detector.settings_["batch_size"] == expected
    assert detector.settings_["replay_size"] == 100 * expected
    n_training = len(x) - len(detector.calibration_energies_)
    assert set(sizes) == {n_training // expected}
    detector.set_params(warm_start=True, batch_size=32)
    del sizes[:]
    detector.fit(x)
    assert set(sizes) == {n_training // 32}


def test_mixed_precision_trains_and_scores_in_float32(table, fitted):
    mixed = EBGANDetector(precision="bf16-mixed", **SMALL).fit(table)
    assert all(p.dtype == torch.float32 for p in mixed.model_.parameters())
    energies = mixed.energy(table)
    assert np.corrcoef(energies, fitted.energy(table))[0, 1] > 0.8
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(mixed.energy(table), energies)
    exact = copy.deepcopy(mixed.model_.members[0]).double()
    with torch.no_grad():
        expected = exact.energy(mixed.model_.scale(torch.from_numpy(table)).double())
    np.testing.assert_allclose(energies, expected, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_score_alike(images):
    on_gpu = EBGANDetector(device="cuda", max_epochs=2, random_state=0).fit(images)
    energy = on_gpu.energy(images)
    on_cpu = pickle.loads(pickle.dumps(on_gpu)).set_params(device="cpu")  # noqa: S301
    np.testing.assert_allclose(on_cpu.energy(images), energy, rtol=1e-4)

"""Energies of images relative to the detail in them."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from ebgan_detect import EBGANDetector, ModelFileError, export_onnx, load, save
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.complexity import Complexity, fit_complexity, total_variation
from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.export.pipeline import Source
from ebgan_detect.export.rescoring import Expected
from tests import oracles

PIXELS = st.floats(-4, 4, width=32)


@pytest.fixture(scope="module")
def digits():
    """8x8 digits, 0 to 16."""
    return load_digits().data.reshape(-1, 8, 8).astype(np.float32)


@pytest.fixture(scope="module")
def detectors(digits):
    """The same training, scored with and without complexity."""
    return {
        exponent: EBGANDetector(
            max_epochs=2, random_state=0, complexity_exponent=exponent, n_snapshots=2
        ).fit(digits)
        for exponent in (0.0, 0.5)
    }


def relative(detector, images):
    """What complexity makes of energies, from the oracle."""
    scaled = images / images.max()
    usual = float(detector.model_.complexity.usual)
    variations = np.array([oracles.total_variation(image[None]) for image in scaled])
    return np.clip(variations / usual, 1e-3, 1) ** -0.5


@given(arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=5), elements=PIXELS))
def test_total_variation_is_the_oracles(images):
    found = total_variation(torch.from_numpy(images))
    expected = [oracles.total_variation(image) for image in images]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


@given(
    arrays(np.float64, (1, 2, 4, 3), elements=PIXELS),
    st.floats(0.1, 10),
    st.floats(-5, 5),
    st.permutations(range(2)),
)
def test_total_variation_scales_with_contrast_and_knows_no_level(image, contrast, level, order):
    image = torch.from_numpy(image)
    changed = contrast * image[:, list(order)].flip(-1).transpose(-1, -2) + level
    expected = contrast * total_variation(image)
    assert torch.allclose(total_variation(changed), expected, rtol=1e-9, atol=1e-9)


def test_energies_are_divided_by_a_power_of_the_complexity(detectors, digits):
    images = digits[:50] * np.linspace(0, 1, 50, dtype=np.float32)[:, None, None]
    images[0, 0, 0] = 16  # so that the scaled ones are what the detector makes of them
    plain, divided = detectors[0.0].energy(images), detectors[0.5].energy(images)
    assert np.allclose(divided, plain * relative(detectors[0.5], images), rtol=1e-5)
    assert np.ptp(divided / plain) > 1


def test_images_with_the_usual_detail_keep_their_energies(detectors, digits):
    plain, divided = detectors[0.0].energy(digits), detectors[0.5].energy(digits)
    assert 0.9 < (plain == divided).mean() < 1
    assert (plain <= divided).all()


def test_a_twentieth_of_the_training_images_have_less_than_the_usual_complexity(digits):
    noise = np.random.default_rng(0).random((100, 1, 8, 8), np.float32)  # no two have as much
    images = torch.from_numpy(digits[:100, None] + noise)
    variations = np.array([oracles.total_variation(image) for image in images.numpy()])
    usual = float(fit_complexity(images.split(7), 0.5).usual)
    assert (variations < usual).sum() == 5
    assert np.sort(variations)[4] < usual < np.sort(variations)[6]


def test_detail_beyond_the_usual_excuses_nothing(digits):
    complexity = fit_complexity([torch.from_numpy(digits[:, None])], 0.5)
    stripes = torch.zeros(3, 1, 8, 8)
    stripes[..., ::2] = torch.tensor([16.0, 40.0, 1000.0]).reshape(3, 1, 1, 1)
    assert (total_variation(stripes) > complexity.usual).all()
    assert (complexity(stripes) == 1).all()


def test_only_training_images_say_what_is_usual(digits):
    order = np.random.default_rng(0).permutation(len(digits))
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(digits[order])
    positions_kept = detector._calibration_rows.values
    calibrating = {image.tobytes() for image in positions_kept}
    training = [image for image in digits[order] if image.tobytes() not in calibrating]
    usual = np.quantile([oracles.total_variation(image[None] / 16) for image in training], 0.05)
    assert float(detector.model_.complexity.usual) == pytest.approx(usual, rel=1e-5)


def test_maps_average_exactly_to_relative_energies(detectors, digits):
    detector = detectors[0.5]
    maps = detector.energy_map(digits[:20])
    assert (maps >= 0).all()
    assert np.allclose(maps.mean(axis=(1, 2)), detector.energy(digits[:20]), rtol=1e-12)


def test_the_game_is_played_with_plain_errors(detectors):
    plain, divided = detectors[0.0], detectors[0.5]
    assert plain.margin_ == divided.margin_
    assert plain.history_["loss_generator"] == divided.history_["loss_generator"]
    states = (plain.model_.members.state_dict(), divided.model_.members.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("level", [0, 3, 16])
def test_images_of_one_level_keep_finite_energies(detectors, level):
    image = np.full((1, 8, 8), level, np.float32)
    plain, divided = detectors[0.0].energy(image), detectors[0.5].energy(image)
    assert np.isfinite(divided).all()
    assert divided / plain == pytest.approx(1e-3**-0.5, rel=1e-9)


def test_training_images_without_detail_are_harmless():
    images = np.zeros((60, 8, 8), np.uint8)
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(images)
    assert detector.model_.complexity is None
    assert np.isfinite(detector.energy(images)).all()


def test_where_blank_images_are_usual_no_energy_is_divided(digits):
    images = torch.from_numpy(digits[:100, None])
    images[:8] = 0
    assert fit_complexity([images], 0.5) is None


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (2, 1, 6)])
def test_images_of_one_row_of_pixels_have_a_complexity(shape, tmp_path):
    images = np.random.default_rng(0).random((80, *shape)).astype(np.float32)
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(images)
    assert export_onnx(detector, tmp_path / "model.onnx").exists()
    assert np.isfinite(detector.energy(images)).all()
    assert detector.settings_["complexity_exponent"] == 1


def test_an_overflow_is_an_outlier_still(detectors):
    image = np.full((1, 8, 8), 1e30, np.float32)
    image[0, 0, 0] = -1e30
    with pytest.warns(UserWarning, match="another unit|fitted"):
        assert detectors[0.5].energy(image) == np.inf


def test_plain_images_are_told_from_detailed_ones():
    rng = np.random.default_rng(0)
    waves = np.sin(np.outer(np.arange(1, 6), np.linspace(0, 6, 12)))[:, None, :].repeat(12, 1)
    strengths = rng.uniform(-0.3, 0.3, (900, 5, 1, 1))
    detailed = 0.5 + (strengths * waves).sum(axis=1) / 2 + rng.normal(0, 0.05, (900, 12, 12))
    plain = np.broadcast_to(rng.uniform(0.4, 0.6, (100, 1, 1)), (100, 12, 12))
    is_plain = np.repeat([0, 1], [300, 100])
    found = {}
    for exponent in (0.0, 0.5):
        detector = AutoEncoderDetector(
            random_state=0, complexity_exponent=exponent, max_epochs=20, scaling="none"
        )
        energies = detector.fit(detailed[:600]).energy(np.concatenate([detailed[600:], plain]))
        found[exponent] = roc_auc_score(is_plain, energies)
    assert found[0.0] < 0.5 < 0.9 < found[0.5], found


def test_files_and_exports_carry_the_complexity(detectors, digits, tmp_path):
    detector = detectors[0.5]
    save(detector, tmp_path / "model.ebgan")
    assert (load(tmp_path / "model.ebgan").energy(digits) == detector.energy(digits)).all()
    blank = np.concatenate([digits[:40], np.full((1, 8, 8), 5, np.float32)])
    export_onnx(detector, tmp_path / "energy.onnx", energy_map=True)
    session = onnxruntime.InferenceSession(tmp_path / "energy.onnx")
    energy, split = session.run(["energy", "energy_map"], {"input": blank})
    assert np.allclose(energy, detector.energy(blank), rtol=1e-5)
    assert np.allclose(split, detector.energy_map(blank), rtol=1e-4, atol=1e-6)


def test_file_that_lacks_a_part_of_the_complexity_is_refused(detectors, digits, tmp_path):
    detector = copy.deepcopy(detectors[0.5])
    del detector.model_.complexity.usual
    save(detector, tmp_path / "model.ebgan")
    with pytest.raises(ModelFileError, match=r"complexity\.usual[^$]*fit again"):
        load(tmp_path / "model.ebgan")


def test_an_export_may_differ_by_as_much_more_as_energies_are_multiplied_by(detectors, digits):
    rows = np.concatenate([digits[:20], np.full((1, 8, 8), 5, np.float32)])
    plain, divided = (Expected.of(Source.of(detector), rows) for detector in detectors.values())
    factors = divided.energy / plain.energy
    assert np.allclose(divided.tolerance, factors * plain.tolerance, rtol=1e-9)
    assert factors.max() > 30


def test_going_on_keeps_what_was_usual(digits):
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(digits[:600])
    usual = float(detector.model_.complexity.usual)
    detector.partial_fit(digits[600:900] / 2)
    assert float(detector.model_.complexity.usual) == usual


def test_the_control_is_scored_alike(digits):
    control = EBGANDetector(adversarial=False, max_epochs=2, random_state=0, n_snapshots=1)
    plain = AutoEncoderDetector(max_epochs=2, random_state=0)
    energies = [each.fit(digits).energy(digits) for each in (control, plain)]
    assert (energies[0] == energies[1]).all()


@pytest.mark.parametrize(
    "detector",
    [EBGANDetector(preset="paper"), VAEDetector(), GANDetector()],
    ids=lambda detector: type(detector).__name__,
)
def test_others_have_their_own_energies(detector, digits):
    detector.set_params(max_epochs=1, random_state=0).fit(digits[:200])
    assert detector.model_.complexity is None


def test_tables_have_no_complexity(table):
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(table)
    assert detector.model_.complexity is None
    assert detector.settings_["complexity_exponent"] == 0
    refused = EBGANDetector(max_epochs=1, complexity_exponent=0.5)
    with pytest.raises(InvalidParameterError, match=r"complexity_exponent .* tables, got 0\.5"):
        refused.fit(table)


def test_an_exponent_of_no_sense_is_refused(digits):
    with pytest.raises(InvalidParameterError, match=r"complexity_exponent .* got -1"):
        EBGANDetector(complexity_exponent=-1).fit(digits)


def test_a_copied_complexity_divides_alike():
    images = torch.rand(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    first = Complexity(0.5, 5.0)
    second = Complexity(1.0, 1.0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images), second(images))

"""Energies of images that count errors averaged over blocks."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics import roc_auc_score

from ebgan_detect import EBGANDetector, export_onnx, load, save
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.export.pipeline import Source
from ebgan_detect.export.rescoring import Expected
from ebgan_detect.files import read_sealed, write_sealed
from ebgan_detect.losses import energy_map, reconstruction_energy
from tests import oracles

ERRORS = arrays(
    np.float64,
    array_shapes(min_dims=4, max_dims=4, max_side=9),
    elements=st.floats(-4, 4, width=32),
)
WEIGHTS = st.floats(0, 1, width=32)
SMALL = {"hidden_sizes": (4, 8), "max_epochs": 1, "random_state": 0, "precision": "float32"}


@pytest.fixture(scope="module")
def images():
    """Colour images whose sides no block divides, with smooth content."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.outer(np.linspace(0, 5, 18), np.ones(19)))
    return (0.5 + 0.4 * rng.random((200, 3, 1, 1)) * waves).astype(np.float32)


@pytest.fixture(scope="module")
def detectors(images):
    """The same training, scored at several weights."""
    return {
        weight: EBGANDetector(**SMALL, n_snapshots=2, coarse_weight=weight).fit(images)
        for weight in (0.0, 0.25, 1.0)
    }


@given(ERRORS, WEIGHTS)
def test_energy_is_the_oracles(errors, weight):
    x = torch.from_numpy(errors)
    found = energy_map(x, torch.zeros_like(x), coarse_weight=weight)
    assert found.shape == x.shape
    expected = [oracles.coarse_energy(error, weight) for error in errors]
    assert np.allclose(found.flatten(1).mean(dim=1), expected, rtol=1e-9, atol=1e-12)


@given(ERRORS)
def test_without_weight_it_is_the_squared_error(errors):
    x = torch.from_numpy(errors)
    assert torch.equal(energy_map(x, torch.zeros_like(x)), x.square())
    assert torch.equal(
        energy_map(x, torch.zeros_like(x), coarse_weight=0.0).flatten(1).mean(dim=1),
        reconstruction_energy(x, torch.zeros_like(x)),
    )


@given(ERRORS, WEIGHTS, st.floats(0.5, 3))
def test_energy_knows_no_sign_and_grows_with_the_square(errors, weight, factor):
    x, zero = torch.from_numpy(errors), torch.zeros(errors.shape, dtype=torch.float64)
    split = energy_map(x, zero, coarse_weight=weight)
    assert (split >= 0).all()
    assert torch.equal(split, energy_map(zero, x, coarse_weight=weight))
    longer = energy_map(factor * x, zero, coarse_weight=weight)
    assert torch.allclose(longer, factor**2 * split, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0])
def test_independent_errors_count_alike_and_agreeing_ones_more(weight):
    noise = torch.randn(40, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(noise)
    independent = energy_map(noise, zero, coarse_weight=weight).mean()
    assert float(independent) == pytest.approx(1, rel=0.03)
    agreeing = energy_map(torch.ones_like(noise), zero, coarse_weight=weight).mean()
    assert float(agreeing) == pytest.approx(1 + 6 * weight, rel=1e-6)


def test_it_has_a_gradient():
    x = torch.randn(2, 1, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rebuilt = (0.5 * x).requires_grad_()

    def energy(r):
        return energy_map(x, r, coarse_weight=0.7)

    assert torch.autograd.gradcheck(energy, (rebuilt,))


def test_a_detectors_energy_is_a_mixture_by_the_weight(detectors, images):
    plain, light, full = (detector.energy(images) for detector in detectors.values())
    assert np.allclose(light, 0.75 * plain + 0.25 * full, rtol=1e-5)
    assert not np.allclose(plain, full, rtol=0.1)
    games = [detector.model_.games()[0] for detector in detectors.values()]
    assert [game.coarse_weight for game in games] == [0, 0.25, 1]


def test_maps_average_exactly_to_energies(detectors, images):
    for detector in detectors.values():
        maps = detector.energy_map(images[:20])
        assert maps.shape == (20, 3, 18, 19)
        assert (maps >= 0).all()
        assert np.allclose(maps.mean(axis=(1, 2, 3)), detector.energy(images[:20]), rtol=1e-12)


def test_the_game_is_played_with_plain_errors(detectors):
    plain, full = detectors[0.0], detectors[1.0]
    assert plain.margin_ == full.margin_
    assert plain.history_["loss_generator"] == full.history_["loss_generator"]
    states = (plain.model_.members.state_dict(), full.model_.members.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_control_is_scored_alike(images):
    settings = SMALL | {"coarse_weight": 0.5, "n_snapshots": 1}
    both = EBGANDetector(**settings, adversarial=False), AutoEncoderDetector(**settings)
    control, plain = (each.fit(images).energy(images) for each in both)
    assert (control == plain).all()


@pytest.mark.parametrize("detector", [EBGANDetector(margin=0.05), AutoEncoderDetector()])
@pytest.mark.parametrize("shape", [(18, 19), (8, 8), (1, 30)])
def test_images_of_any_size_have_plain_errors_unless_asked(detector, shape):
    images = np.random.default_rng(0).random((60, *shape)).astype(np.float32)
    detector.set_params(max_epochs=1, random_state=0, coarse_weight=0.0)
    plain = detector.fit(images).energy(images)
    assert type(detector)().coarse_weight == 0
    coarse = detector.set_params(coarse_weight=1.0).fit(images).energy(images)
    assert not np.allclose(coarse, plain, rtol=0.01)


@pytest.mark.parametrize("detector", [EBGANDetector(), AutoEncoderDetector()])
def test_tables_have_no_blocks(detector, table):
    detector.set_params(max_epochs=1, random_state=0).fit(table)
    with pytest.raises(InvalidParameterError, match=r"coarse_weight .* tables, got 0\.5; .*blocks"):
        detector.set_params(coarse_weight=0.5).fit(table)


@pytest.mark.parametrize("weight", [-0.1, 1.5, "all"])
def test_a_weight_of_no_sense_is_refused(weight, images):
    with pytest.raises(InvalidParameterError, match=r"coarse_weight must be .* \[0, 1\]"):
        EBGANDetector(coarse_weight=weight).fit(images)


@pytest.mark.parametrize("other", [VAEDetector, GANDetector])
def test_others_have_no_coarse_errors(other):
    assert "coarse_weight" not in other().get_params()


def test_a_faint_even_patch_is_told_from_noise():
    """What the energy is for: fine errors are usual, many of one sign together are not."""
    rng = np.random.default_rng(1)
    levels = rng.uniform(0.4, 0.6, (600, 1, 1))
    usual = (levels + rng.normal(0, 0.1, (600, 16, 16))).astype(np.float32)
    patched = usual[500:].copy()
    patched[:, 8:12, 8:12] += 0.12
    found = {}
    for weight in (0.0, 1.0):
        detector = AutoEncoderDetector(
            max_epochs=20, random_state=0, code_dim=2, coarse_weight=weight, scaling="none"
        ).fit(usual[:400])
        energies = detector.energy(np.concatenate([usual[400:500], patched]))
        found[weight] = roc_auc_score(np.repeat([0, 1], 100), energies)
    assert found[0.0] < 0.8 < 0.9 < found[1.0], found


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_files_and_exports_carry_the_weight(weight, detectors, images, tmp_path):
    detector = detectors[weight]
    save(detector, tmp_path / "model.ebgan")
    assert (load(tmp_path / "model.ebgan").energy(images) == detector.energy(images)).all()
    assert load(tmp_path / "model.ebgan").coarse_weight == weight
    export_onnx(detector, tmp_path / "energy.onnx", energy_map=True)
    session = onnxruntime.InferenceSession(tmp_path / "energy.onnx")
    energy, split = session.run(["energy", "energy_map"], {"input": images[:33]})
    assert np.allclose(energy, detector.energy(images[:33]), rtol=1e-5)
    assert np.allclose(split, detector.energy_map(images[:33]), rtol=1e-3, atol=1e-6)


def test_an_export_may_differ_by_as_much_more_as_errors_weigh(detectors, images):
    plain, light, full = (Expected.of(Source.of(each), images[:20]) for each in detectors.values())
    of_rounding = {
        weight: (some.tolerance - 1e-5 * some.energy) / np.sqrt(some.energy)
        for weight, some in zip(detectors, (plain, light, full), strict=True)
    }
    assert np.allclose(of_rounding[0.25], of_rounding[0.0] * np.sqrt(1 + 6 * 0.25), rtol=1e-6)
    assert np.allclose(of_rounding[1.0], of_rounding[0.0] * np.sqrt(7), rtol=1e-6)


def test_a_file_from_before_scores_as_it_did(detectors, images, tmp_path):
    plain, path = detectors[0.0], tmp_path / "old.ebgan"
    save(plain, path)
    tensors, header = read_sealed(path)
    assert header["format"] == 2
    del header["parameters"]["coarse_weight"]
    write_sealed(path, tensors, header | {"format": 1})
    old = load(path)
    assert old.coarse_weight == 0
    assert (old.energy(images) == plain.energy(images)).all()


def test_going_on_keeps_the_weight(images):
    detector = EBGANDetector(**SMALL, margin=0.05, coarse_weight=0.75).fit(images)
    detector.set_params(warm_start=True, n_estimators=2).fit(images)
    assert [game.coarse_weight for game in detector.model_.games()] == [0.75, 0.75]
    with pytest.raises(InvalidParameterError, match="coarse_weight"):
        detector.set_params(coarse_weight=0.5).fit(images)

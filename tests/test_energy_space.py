"""What is scored with: the reconstruction error of the input, or that of its code as well."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits

from ebgan_detect import EBGANDetector, export_onnx, load, save
from ebgan_detect.diagnostics import equilibrium
from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.files import read_sealed, write_sealed
from ebgan_detect.losses import reconstruction_energy

BRIEF = {"max_epochs": 2, "hidden_sizes": (4, 8), "code_dim": 5, "random_state": 0}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    small = (load_digits().images[:200] * 15.9375).astype(np.uint8)
    return small.repeat(2, axis=1).repeat(2, axis=2)


@pytest.fixture(scope="module")
def detectors(images) -> dict[str, EBGANDetector]:
    return {
        space: EBGANDetector(energy_space=space, **BRIEF).fit(images)
        for space in ("auto", "input", "joint")
    }


@torch.no_grad()
def by_hand(game, x):
    """Both errors of every state, (2, states, n)."""
    errors = []
    for encoder, decoder in [(game.encoder, game.decoder), *game.earlier]:
        code = encoder(x)
        rebuilt = decoder(code)
        errors.append(
            [reconstruction_energy(x, rebuilt), reconstruction_energy(code, encoder(rebuilt))]
        )
    return np.moveaxis(np.array(errors, float), 1, 0)


def test_joint_energy_is_the_mean_over_states_of_both_errors_product(detectors, images):
    detector, x = detectors["joint"], images[:40]
    (game,) = detector.model_.games()
    assert len(game.earlier) == 2
    of_input, of_code = by_hand(game, detector.model_.scale(torch.from_numpy(x)))
    np.testing.assert_allclose(detector.energy(x), (of_input * of_code).mean(axis=0), rtol=1e-4)
    assert np.abs(np.corrcoef(of_input.mean(0), of_code.mean(0))[0, 1]) < 0.999
    split = detector.energy_map(x)
    np.testing.assert_allclose(split.mean(axis=(1, 2)), detector.energy(x), rtol=1e-12)
    assert (split >= 0).all()


def test_input_energy_is_the_paper_s(detectors, images):
    detector, x = detectors["input"], images[:40]
    (game,) = detector.model_.games()
    of_input, _ = by_hand(game, detector.model_.scale(torch.from_numpy(x)))
    np.testing.assert_allclose(detector.energy(x), of_input.mean(axis=0), rtol=1e-4)


def test_training_knows_nothing_of_it(detectors, images):
    ours, theirs = detectors["joint"], detectors["input"]
    weights = theirs.model_.state_dict()
    for name, value in ours.model_.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert ours.margin_ == theirs.margin_
    assert ours.hinge_weight_ == theirs.hinge_weight_
    for name in ours.history_.keys() - {"seconds"}:
        assert ours.history_[name] == theirs.history_[name], name
    assert not np.array_equal(ours.energy(images), theirs.energy(images))
    assert ours.offset_ != theirs.offset_
    assert equilibrium(ours, images, random_state=0) == equilibrium(theirs, images, random_state=0)


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"),
    [
        ("images", {}, "joint"),
        ("images", {"adversarial": False}, "joint"),
        ("tiny images", {}, "input"),
        ("images", {"architecture": "mlp", "hidden_sizes": (8,)}, "input"),
        ("images", {"preset": "paper"}, "input"),
        ("images", {"preset": "paper", "energy_space": "joint"}, "joint"),
        ("table", {"hidden_sizes": (8,)}, "input"),
    ],
)
def test_automatic_space_depends_on_the_kind_of_input(kind, parameters, expected, images, table):
    x = {"images": images, "tiny images": images[:, ::2, ::2], "table": table}[kind]
    detector = EBGANDetector(**BRIEF | parameters).fit(x)
    assert detector.settings_["energy_space"] == expected
    assert [game.energy_space for game in detector.model_.games()] == [expected]


def test_auto_scores_as_joint(detectors, images):
    ours, theirs = (detectors[space].energy(images) for space in ("auto", "joint"))
    np.testing.assert_array_equal(ours, theirs)


def test_files_keep_the_space_and_old_ones_had_none(detectors, images, tmp_path):
    save(detectors["auto"], tmp_path / "new.ebgan")
    again = load(tmp_path / "new.ebgan")
    np.testing.assert_array_equal(again.energy(images), detectors["joint"].energy(images))
    tensors, header = read_sealed(tmp_path / "new.ebgan")
    assert header["format"] == 2
    header = copy.deepcopy(header) | {"format": 1}
    for part in ("parameters", "settings"):
        del header[part]["energy_space"]
    write_sealed(tmp_path / "old.ebgan", tensors, header)
    old = load(tmp_path / "old.ebgan")
    np.testing.assert_array_equal(old.energy(images), detectors["input"].energy(images))


def test_exported_graph_answers_the_joint_energy(detectors, images, tmp_path):
    path = tmp_path / "joint.onnx"
    export_onnx(detectors["joint"], path, energy_map=True)
    session = onnxruntime.InferenceSession(path)
    energy, split = session.run(["energy", "energy_map"], {"input": images[:20]})
    np.testing.assert_allclose(energy, detectors["joint"].energy(images[:20]), rtol=1e-5)
    np.testing.assert_allclose(split.mean(axis=(1, 2)), energy, rtol=1e-5)


def test_pictures_name_the_unit(detectors):
    assert detectors["input"]._energy_unit == "scaled unit²"
    assert detectors["joint"]._energy_unit == "scaled unit² × code unit²"


def test_space_that_is_none_raises(images):
    with pytest.raises(InvalidParameterError, match=r"energy_space must be .*'joint'.*got 'code'"):
        EBGANDetector(energy_space="code").fit(images)

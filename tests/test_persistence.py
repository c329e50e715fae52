"""Saved models."""

import json
import os
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ebgan_detect import EBGANDetector, InvalidParameterError, ModelFileError, load, save
from ebgan_detect.files import read_sealed, write_sealed

BRIEF = {"max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_digits().images[:400]


@pytest.fixture(scope="module")
def detector(images) -> EBGANDetector:
    return EBGANDetector(n_estimators=2, **BRIEF).fit(images)


@pytest.fixture(scope="module")
def model_file(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "digits.ebgan"
    save(detector, path)
    return path


def tables() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 3)) * [1, 10, 100] + 1e6


def test_loaded_detector_scores_bit_for_bit(detector, model_file, images):
    loaded = load(model_file)
    for method in ("energy", "decision_function", "predict", "p_values", "energy_map"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(images), getattr(detector, method)(images)
        )
    np.testing.assert_array_equal(
        loaded.sample(5, random_state=3), detector.sample(5, random_state=3)
    )


def test_loaded_detector_keeps_parameters_and_fitted_attributes(detector, model_file):
    loaded = load(model_file)
    assert loaded.get_params() == detector.get_params()
    for name in ("offset_", "margin_", "history_", "n_iter_", "input_shape_", "settings_"):
        assert getattr(loaded, name) == getattr(detector, name), name
    np.testing.assert_array_equal(loaded.calibration_energies_, detector.calibration_energies_)


@pytest.mark.parametrize(
    "parameters",
    [
        {"adversarial": False, "noise": 0.3},
        {"adversarial": np.False_, "warm_start": np.True_},
        {"margin": (0.1, 0.4), "hidden_sizes": (7, 5), "contamination": np.float64(0.1)},
        {"margin": lambda progress: 1.0, "scaling": "minmax"},
    ],
    ids=["control", "numpy", "tuples", "function"],
)
def test_table_detectors_of_all_kinds_come_back(parameters, tmp_path):
    x = tables()
    fitted = EBGANDetector(**BRIEF | parameters).fit(x)
    save(fitted, tmp_path / "m.ebgan")
    np.testing.assert_array_equal(load(tmp_path / "m.ebgan").energy(x), fitted.energy(x))


@pytest.mark.parametrize("device", ["foo", None])
def test_device_that_is_not_there_is_refused_at_once(device, model_file):
    with pytest.raises(InvalidParameterError, match=f"device must be .* got {device!r}"):
        load(model_file, device=device)


def test_feature_names_come_back(tmp_path):
    frame = pd.DataFrame(tables(), columns=["a", "b", "c"])
    save(EBGANDetector(**BRIEF).fit(frame), tmp_path / "m.ebgan")
    loaded = load(tmp_path / "m.ebgan")
    loaded.score_samples(frame)
    with pytest.raises(ValueError, match="feature names"):
        loaded.score_samples(frame[["b", "a", "c"]])


def test_loaded_detector_can_go_on(model_file, images):
    loaded = load(model_file)
    before = loaded.energy(images)
    assert loaded.partial_fit(images[:200]).n_iter_ == 3
    assert not np.array_equal(loaded.energy(images), before)


def test_factory_must_be_given_again(tmp_path):
    def factory(shape):
        return tuple(torch.nn.Linear(3, 3) for _ in range(3))

    x = tables()
    fitted = EBGANDetector(architecture=factory, latent_dim=3, **BRIEF).fit(x)
    save(fitted, tmp_path / "m.ebgan")
    with pytest.raises(ModelFileError, match=r"factory.*load\(path, architecture=\.\.\.\)"):
        load(tmp_path / "m.ebgan")
    loaded = load(tmp_path / "m.ebgan", architecture=factory)
    np.testing.assert_array_equal(loaded.energy(x), fitted.energy(x))

    def other(shape):
        return torch.nn.Linear(3, 2), torch.nn.Linear(2, 3), torch.nn.Linear(3, 3)

    with pytest.raises(ModelFileError, match=r"(?s)does not fit its networks.*give the factory"):
        load(tmp_path / "m.ebgan", architecture=other)


def test_networks_of_another_version_are_refused(model_file, tmp_path):
    tensors, header = read_sealed(model_file)
    known = next(name for name in tensors if "encoder" in name)
    renamed = {f"{name}.old" if name == known else name: v for name, v in tensors.items()}
    write_sealed(tmp_path / "old.ebgan", renamed, header)
    with pytest.raises(ModelFileError, match=r"(?s)does not fit its networks.*fit again"):
        load(tmp_path / "old.ebgan")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("parameters", {"margin_rule": 1}, "parameters of another version: .*margin_rule"),
        (
            "settings",
            {"negatives_ratio": None},
            "must hold the setting 'negatives_ratio', got none",
        ),
    ],
)
def test_parameters_and_settings_of_another_version_are_refused(
    model_file, tmp_path, part, change, message
):
    tensors, header = read_sealed(model_file)
    changed = {name: value for name, value in (header[part] | change).items() if value is not None}
    write_sealed(tmp_path / "old.ebgan", tensors, {**header, part: changed})
    with pytest.raises(ModelFileError, match=rf"{message}.*; fit again, or load it with"):
        load(tmp_path / "old.ebgan")


def test_file_holds_no_path_and_no_pickle(detector, tmp_path):
    detector = EBGANDetector(checkpoint=tmp_path / "secret-folder", **BRIEF).fit(tables())
    save(detector, tmp_path / "m.ebgan")
    content = (tmp_path / "m.ebgan").read_bytes()
    assert b"secret-folder" not in content
    assert os.fsencode(os.getcwd()) not in content  # noqa: PTH109
    assert b"pickle" not in content
    length = struct.unpack("<Q", content[:8])[0]
    json.loads(content[8 : 8 + length])


def test_flipped_bytes_are_noticed(model_file, tmp_path):
    content = bytearray(model_file.read_bytes())
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.ebgan"
    header = 8 + struct.unpack("<Q", content[:8])[0]
    places = [*range(0, 40), *rng.integers(0, header, 60), *rng.integers(header, len(content), 60)]
    for place in places:
        content[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(content)
        with pytest.raises(ModelFileError):
            load(damaged)
        content[:] = model_file.read_bytes()


@pytest.mark.parametrize("keep", [0, 5, 100, 2000, -1])
def test_truncated_file_is_refused(model_file, tmp_path, keep):
    (tmp_path / "short.ebgan").write_bytes(model_file.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"short.ebgan"):
        load(tmp_path / "short.ebgan")


def test_newer_format_and_other_kinds_are_refused(model_file, tmp_path):
    tensors, header = read_sealed(model_file)
    write_sealed(tmp_path / "new.ebgan", tensors, {**header, "format": 99})
    with pytest.raises(ModelFileError, match=r"format 99, this version reads up to 2; upgrade"):
        load(tmp_path / "new.ebgan")
    write_sealed(tmp_path / "kind.ebgan", tensors, {**header, "kind": "checkpoint"})
    with pytest.raises(ModelFileError, match="must hold a detector"):
        load(tmp_path / "kind.ebgan")
    (tmp_path / "text.ebgan").write_text("a,b\n1,2\n")
    with pytest.raises(ModelFileError, match="not a file of ebgan-detect"):
        load(tmp_path / "text.ebgan")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.ebgan")


def test_pipeline_cannot_be_saved_and_hears_what_can(table, tmp_path):
    pipeline = make_pipeline(StandardScaler(), EBGANDetector(max_epochs=1, margin=1.0)).fit(table)
    with pytest.raises(InvalidParameterError, match="got Pipeline; of a pipeline, save the last"):
        save(pipeline, tmp_path / "model.ebgan")
    assert not (tmp_path / "model.ebgan").exists()


def test_derived_class_cannot_be_saved_since_it_could_not_be_loaded(table, tmp_path):
    kinds = [type("Own", (EBGANDetector,), {}), type("EBGANDetector", (EBGANDetector,), {})]
    for kind in kinds:
        fitted = kind(max_epochs=1, margin=1.0).fit(table)
        with pytest.raises(
            InvalidParameterError, match=rf"\.{kind.__name__}, whose .* pickle or joblib"
        ):
            save(fitted, tmp_path / "model.ebgan")
    assert list(tmp_path.iterdir()) == []


def test_parameters_set_after_the_fit_make_no_other_model(table, tmp_path):
    brief = {"max_epochs": 2, "margin": 1.0, "learning_rate": np.float32(1e-3), "random_state": 0}
    detector = EBGANDetector(**brief).fit(table)
    expected = detector.energy(table)
    save(detector.set_params(adversarial=False, code_dim=3), tmp_path / "model.ebgan")
    found = load(tmp_path / "model.ebgan")
    np.testing.assert_array_equal(found.energy(table), expected)
    assert found.adversarial


def test_unfitted_detector_cannot_be_saved(tmp_path):
    with pytest.raises(NotFittedError):
        save(EBGANDetector(), tmp_path / "m.ebgan")
    assert list(tmp_path.iterdir()) == []


def test_crash_while_saving_leaves_the_old_model(detector, model_file, images, monkeypatch):
    def crash(handle):
        raise OSError("disk full")

    before = model_file.read_bytes()
    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        save(detector, model_file)
    assert model_file.read_bytes() == before
    assert [path.name for path in model_file.parent.iterdir()] == [model_file.name]

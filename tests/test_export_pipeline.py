"""Pipelines exported as one graph, run by onnxruntime beside scikit-learn."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, KernelPCA
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    StandardScaler,
)

import ebgan_detect
from ebgan_detect import (
    EBGANDetector,
    ExportError,
    InvalidParameterError,
    MissingDependencyError,
)
from ebgan_detect.export import export_onnx
from ebgan_detect.export.onnx import _training_digest
from ebgan_detect.export.pipeline import Source, transformer_graphs
from ebgan_detect.export.rescoring import rescore
from ebgan_detect.export.tolerance import Limits
from ebgan_detect.thresholds import conformal_p_values

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")

COLUMNS = ["a", "b", "c", "d"]


def detector():
    return EBGANDetector(
        hidden_sizes=(8,), code_dim=4, latent_dim=4, margin=1.0, max_epochs=1, random_state=0
    )


@pytest.fixture(scope="module")
def rows():
    """Correlated columns around a million, of different spread, with odd rows at the end."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(320, 4)) @ rng.normal(size=(4, 4)) * [1, 5, 25, 625]
    x[-20:] *= 6
    return (x + 1e6).astype(np.float32)


PIPELINES = {
    "standard": lambda: [StandardScaler()],
    "all": lambda: [StandardScaler(), MinMaxScaler((-1, 1)), "passthrough", PCA(2, whiten=True)],
    "no inverse": lambda: [ColumnTransformer([("clip", MinMaxScaler(clip=True), [2, 0, 3])])],
}


@pytest.fixture(scope="module", params=PIPELINES)
def exported(request, rows, tmp_path_factory):
    """A fitted Pipeline and its file; one Pipeline knows the names of its columns."""
    fitted_on = rows[:300].astype(float)
    if request.param == "all":
        fitted_on = pd.DataFrame(fitted_on, columns=COLUMNS)
    pipeline = make_pipeline(*PIPELINES[request.param](), detector()).fit(fitted_on)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return pipeline, export_onnx(pipeline, path, reconstruction=True, energy_map=True)


def ask(path, rows):
    """Named answers of a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"input": rows}), strict=True))


def given(pipeline, rows):
    """Rows as the Pipeline was fitted on them, in float64."""
    names = getattr(pipeline[0], "feature_names_in_", None)
    return rows.astype(float) if names is None else pd.DataFrame(rows.astype(float), columns=names)


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_energies_and_labels_equal_the_pipelines_at_any_batch(exported, rows, batch):
    pipeline, path = exported
    rows = rows[-batch:]
    found, x = ask(path, rows), given(pipeline, rows)
    energy = -pipeline.score_samples(x)
    np.testing.assert_allclose(found["energy"], energy, rtol=1e-5)
    np.testing.assert_array_equal(found["score"], -found["energy"])
    decision = pipeline.decision_function(x)
    error = np.abs(found["decision"] - decision)
    assert (error <= 1e-5 * energy + 1e-7 * np.abs(decision)).all()
    clear = np.abs(decision) > 1e-5 * energy
    labels = pipeline.predict(x)
    assert clear.sum() > 0.9 * batch
    assert batch < 256 or set(labels) == {1, -1}
    np.testing.assert_array_equal(found["label"][clear], labels[clear])
    known = pipeline[-1].calibration_energies_
    apart = np.abs(known[:, None] - energy).min(axis=0) > 1e-5 * energy
    exact = conformal_p_values(known, energy)
    np.testing.assert_allclose(found["p_value"][apart], exact[apart], rtol=1e-6)


def test_reconstruction_and_energy_map_are_those_of_the_transformed_rows(exported, rows):
    pipeline, path = exported
    found = ask(path, rows)
    inner = pipeline[:-1].transform(given(pipeline, rows))
    np.testing.assert_allclose(
        found["reconstruction"], pipeline[-1].reconstruct(inner), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(found["energy_map"].mean(axis=1), found["energy"], rtol=1e-5)


def test_rows_that_are_not_finite_are_outliers_and_leave_others_alone(exported, rows):
    pipeline, path = exported
    before = ask(path, rows[:20])
    changed, bad = rows[:20].copy(), [2, 5, 11]
    changed[2, 0], changed[5, 3], changed[11, 1] = np.nan, np.inf, -np.inf
    after = ask(path, changed)
    assert (after["energy"][bad] == np.inf).all()
    assert (after["decision"][bad] == -np.inf).all()
    assert (after["label"][bad] == -1).all()
    least = 1 / (len(pipeline[-1].calibration_energies_) + 1)
    np.testing.assert_allclose(after["p_value"][bad], least, rtol=1e-6)
    good = np.setdiff1d(np.arange(20), bad)
    for name, values in after.items():
        np.testing.assert_array_equal(values[good], before[name][good])


def test_file_is_valid_says_what_it_is_and_tells_nothing_else(exported):
    pipeline, path = exported
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    opsets = [(entry.domain, entry.version) for entry in model.opset_import]
    assert opsets in ([("", 20)], [("", 20), ("ai.onnx.ml", 3)])
    ((name, width),) = [
        (value.name, value.type.tensor_type.shape.dim[1].dim_value) for value in model.graph.input
    ]
    assert (name, width) == ("input", 4)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert str(Path(ebgan_detect.__file__).parent).encode() not in path.read_bytes()
    assert model.producer_name == "ebgan-detect"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["ebgan_detect.offset"] == repr(pipeline[-1].offset_)
    names = COLUMNS if hasattr(pipeline[0], "feature_names_in_") else None
    assert json.loads(metadata["ebgan_detect.input_names"]) == names
    # The transformers count as training: the digest is not that of the detector alone.
    digest = metadata["ebgan_detect.training_digest"]
    assert digest.startswith("2:")
    assert digest != _training_digest(pipeline[-1], [])


def test_training_digest_follows_the_transformers(rows):
    x = rows.astype(float)
    found = []
    for scaler in (StandardScaler(), StandardScaler(), MinMaxScaler()):
        source = Source.of(make_pipeline(scaler.fit(x), fitted(x)))
        graphs = transformer_graphs(source, 20)
        found.append(_training_digest(source.detector, [g.SerializeToString() for g in graphs]))
    assert found[0] == found[1] != found[2]


def fitted(x):
    return detector().fit(x)


def test_rescoring_notices_another_transformer(exported, rows):
    pipeline, path = exported
    steps = [(name, step) for name, step in pipeline.steps if step != "passthrough"]
    name, first = steps[0]
    if not hasattr(first, "inverse_transform"):
        pytest.skip("its trial rows are noise, which is clipped alike")
    other = clone(first).fit(given(pipeline, rows[:40]))
    moved = Pipeline([(name, other), *steps[1:]])
    with pytest.raises(ExportError, match="must score as the estimator does"):
        rescore(path.read_bytes(), Source.of(moved), Limits.of(moved[-1]), torch.float32)


def test_a_pipeline_that_passes_rows_through_exports_as_its_detector(rows):
    alone = fitted(rows)
    for steps in ([("no", "passthrough"), ("none", None)], []):
        source = Source.of(Pipeline([*steps, ("detector", alone)]))
        assert source == Source.of(alone)
        assert transformer_graphs(source, 20) == []
        assert source.input_shape == (4,)


def test_a_transformer_without_its_inverse_is_exported(rows, tmp_path):
    # It has `inverse_transform`, which raises unless the fit was asked for it.
    few = rows[:60].astype(float) - 1e6
    pipeline = make_pipeline(StandardScaler(), KernelPCA(2, kernel="rbf"), detector()).fit(few)
    given_rows = few.astype(np.float32)
    found = ask(export_onnx(pipeline, tmp_path / "model.onnx"), given_rows)
    expected = pipeline.score_samples(given_rows.astype(float))
    np.testing.assert_allclose(found["score"], expected, rtol=1e-5)


def inner():
    return ColumnTransformer([("last", MinMaxScaler(), ["d"])], remainder=StandardScaler())


CHOICES = {
    "names": lambda: [("some", StandardScaler(), ["c", "a"]), ("one", MinMaxScaler(), ["b"])],
    "range": lambda: [("some", StandardScaler(), slice("b", "c"))],
    "open range": lambda: [("some", StandardScaler(), slice("c", None))],
    "index": lambda: [("some", StandardScaler(), pd.Index(["d", "b"]))],
    "function": lambda: [("some", StandardScaler(), make_column_selector("[bd]"))],
    "positions": lambda: [
        ("some", StandardScaler(), [3, 0]),
        ("rest", MinMaxScaler(), slice(1, 3)),
    ],
    "mask": lambda: [("some", StandardScaler(), [False, True, False, True])],
    "from the end": lambda: [("some", StandardScaler(), [-1, -3])],
    "inner": lambda: [("some", make_pipeline(inner(), StandardScaler()), ["a", "d", "c"])],
}


@pytest.mark.parametrize("choice", CHOICES)
def test_columns_chosen_by_name_are_found_by_position(rows, tmp_path, choice):
    frame = pd.DataFrame(rows.astype(float), columns=COLUMNS)
    chosen = ColumnTransformer(CHOICES[choice](), remainder="passthrough")
    pipeline = make_pipeline(chosen, StandardScaler(), detector()).fit(frame)
    before = [columns for *_, columns in chosen.transformers_]
    path = export_onnx(pipeline, tmp_path / "model.onnx")
    found = ask(path, rows)
    np.testing.assert_allclose(found["score"], pipeline.score_samples(frame), rtol=1e-5)
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata["ebgan_detect.input_names"]) == COLUMNS
    assert all(a is b for a, b in zip(before, [c for *_, c in chosen.transformers_], strict=True))


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside numbers"])
@pytest.mark.parametrize(
    "encoder",
    [
        lambda: OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
        lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    ],
    ids=["one hot", "ordinal"],
)
def test_encoders_that_take_unknown_categories_are_exported(rows, tmp_path, encoder, alone):
    table = rows.astype(float)
    table[:, 2] = np.arange(len(table)) % 3 * 5
    numbers = [] if alone else [("numbers", StandardScaler(), [0, 1, 3])]
    chosen = ColumnTransformer([*numbers, ("kinds", encoder(), [2])])
    pipeline = make_pipeline(chosen, detector()).fit(table)
    table[::7, 2] = 99
    given_rows = table.astype(np.float32)
    path = export_onnx(pipeline, tmp_path / "model.onnx")
    expected = pipeline.score_samples(given_rows.astype(float))
    np.testing.assert_allclose(ask(path, given_rows)["score"], expected, rtol=1e-5)
    given_rows[0, 2] = np.nan
    assert ask(path, given_rows)["energy"][0] == np.inf


# --- what cannot be exported ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (PowerTransformer(), "Conflicted constraint"),
        (PolynomialFeatures(2), "ShapeInferenceError"),
        (SimpleImputer(), "it replaces nan"),
        (make_pipeline(SimpleImputer(), StandardScaler()), "it replaces nan"),
        (
            ColumnTransformer([("kinds", OrdinalEncoder(), [0])], remainder="passthrough"),
            "it refuses unknown categories",
        ),
    ],
)
def test_a_step_that_cannot_be_exported_is_named(rows, tmp_path, step, reason):
    pipeline = Pipeline([("first", StandardScaler()), ("odd one", step), ("last", detector())])
    pipeline.fit(rows.astype(float))
    target = tmp_path / "model.onnx"
    message = rf"Pipeline step 'odd one' \({type(step).__name__}\) cannot be exported: .*{reason}"
    with pytest.raises(ExportError, match=message) as caught:
        export_onnx(pipeline, target)
    assert caught.value.__cause__ is not None
    assert not target.exists()


def test_pipelines_without_a_fitted_detector_at_their_end_are_refused(tmp_path):
    target = tmp_path / "model.onnx"
    with pytest.raises(InvalidParameterError, match="Pipeline that ends in one, got PCA"):
        export_onnx(make_pipeline(StandardScaler(), PCA()), target)
    with pytest.raises(NotFittedError, match="EBGANDetector"):
        export_onnx(make_pipeline(StandardScaler(), detector()), target)


def test_pipelines_take_float32(rows, tmp_path):
    pipeline = make_pipeline(StandardScaler(), detector()).fit(rows.astype(float))
    with pytest.raises(InvalidParameterError, match=r"'auto', 'float32'\).*got 'uint8'"):
        export_onnx(pipeline, tmp_path / "model.onnx", input_dtype="uint8")


def test_missing_converter_is_named(rows, tmp_path, monkeypatch):
    pipeline = make_pipeline(StandardScaler(), detector()).fit(rows.astype(float))
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(MissingDependencyError, match="ONNX export needs skl2onnx: pip install"):
        export_onnx(pipeline, tmp_path / "model.onnx")

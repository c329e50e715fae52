"""The exported ONNX file, run by onnxruntime beside the estimator that it came from."""

import copy
import functools
import json
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from torch import nn

import ebgan_detect
from ebgan_detect import (
    EBGANDetector,
    ExportError,
    InvalidParameterError,
    MissingDependencyError,
    load,
    save,
)
from ebgan_detect.baselines import AutoEncoderDetector
from ebgan_detect.export import export_onnx
from ebgan_detect.export.graph import ExportedGraph, PValues
from ebgan_detect.export.onnx import _checked, _clean, _trace, _training_digest
from ebgan_detect.export.pipeline import Source
from ebgan_detect.export.rescoring import rescore
from ebgan_detect.export.tolerance import Limits
from ebgan_detect.thresholds import conformal_p_values

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")

SCALARS = ["energy", "score", "decision", "label", "p_value"]
EXTRA = ["reconstruction", "energy_map"]
BRIEF = {"max_epochs": 1, "margin": 1.0, "random_state": 0}
SMALL = {**BRIEF, "hidden_sizes": (8,), "code_dim": 4, "latent_dim": 4}


def session_of(content):
    """An onnxruntime session on one thread, from a path or from bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = content if isinstance(content, bytes) else str(content)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@dataclass
class Case:
    """A fitted detector, rows that float32 holds exactly, and the exported file."""

    detector: EBGANDetector
    rows: np.ndarray | pd.DataFrame
    path: Path

    def __post_init__(self):
        self.session = session_of(self.path)
        values = np.asarray(self.rows)
        self.input = values if values.dtype == np.uint8 else values.astype(np.float32)
        self.energy = self.detector.energy(self.rows)

    def run(self, rows: np.ndarray, batch: int = 10**6) -> dict[str, Any]:
        names = [output.name for output in self.session.get_outputs()]
        parts = [
            self.session.run(None, {"input": rows[start : start + batch]})
            for start in range(0, len(rows), batch)
        ]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return dict(zip(names, columns, strict=True))


def offset_table():
    """Columns around a million, of different spread; more calibration rows than table entries."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(7200, 4)) * [1, 5, 25, 625] + 1e6).astype(np.float32).astype(float)
    detector = EBGANDetector(calibration_fraction=0.15, n_estimators=2, **SMALL).fit(x)
    assert len(detector.calibration_energies_) > 1024
    odd = x[:60] + np.float32(40)
    return detector, np.concatenate([x[:400], odd])


def minmax_table():
    """No adversary, a threshold from contamination, a constant column; columns have names."""
    x = np.random.default_rng(2).gamma(2.0, size=(300, 5)).astype(np.float32).astype(float)
    x[:, 3] = 7
    options = {"adversarial": False, "scaling": "minmax", "contamination": 0.1}
    frame = pd.DataFrame(x, columns=["a", "b", "ü", "d", "e"])
    return EBGANDetector(**options, **SMALL).fit(frame), frame


def grey_images():
    """Odd sides, no channel axis, values beyond [0, 1]."""
    x = np.random.default_rng(3).normal(50, 9, (270, 9, 13)).astype(np.float32).astype(float)
    x[-20:] *= 1.5
    return EBGANDetector(**BRIEF, hidden_sizes=(4, 8), code_dim=4, latent_dim=4).fit(x[:250]), x


def colour_images():
    """Bytes, channels first."""
    x = np.random.default_rng(4).integers(0, 120, (270, 3, 8, 10)).astype(np.uint8)
    x[-20:] += 130
    return EBGANDetector(**BRIEF, hidden_sizes=(4,), code_dim=4, latent_dim=4).fit(x[:250]), x


def own_networks(shape):
    n = int(np.prod(shape))
    encoder = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(n), nn.Linear(n, 6), nn.Dropout(0.2), nn.ReLU()
    )
    return encoder, nn.Sequential(nn.Linear(6, n), nn.Unflatten(1, shape)), generator(shape)


def generator(shape):
    return nn.Sequential(nn.Linear(4, int(np.prod(shape))), nn.Unflatten(1, shape))


def users_factory():
    """Layers that act differently in training, and no scaling."""
    x = np.random.default_rng(5).normal(size=(300, 6)).astype(np.float32).astype(float)
    detector = EBGANDetector(architecture=own_networks, scaling="none", latent_dim=4, **BRIEF)
    return detector.fit(x), x


CASES = [offset_table, minmax_table, grey_images, colour_images, users_factory]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Fit and export a case once, however often it is asked for; one has all outputs."""

    @functools.cache
    def export(make):
        detector, rows = make()
        path = tmp_path_factory.mktemp("onnx") / "model.onnx"
        extra = dict.fromkeys(EXTRA, make is minmax_table)
        return Case(detector, rows, export_onnx(detector, path, **extra))

    return export


@pytest.fixture(scope="module", params=CASES, ids=lambda make: make.__name__)
def case(request, exported):
    return exported(request.param)


@pytest.fixture(scope="module")
def table(exported):
    """The plainest case."""
    return exported(minmax_table)


# --- parity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_energies_and_labels_equal_the_estimators_at_any_batch(case, batch):
    found = case.run(case.input, batch)
    np.testing.assert_allclose(found["energy"], case.energy, rtol=1e-5)
    decision = -case.energy - case.detector.offset_
    clear = np.abs(decision) > 1e-5 * case.energy
    labels = case.detector.predict(case.rows)
    assert set(labels[clear]) == {1, -1}
    np.testing.assert_array_equal(found["label"][clear], labels[clear])
    np.testing.assert_array_equal(found["score"], -found["energy"])
    # The difference is taken before it is rounded to float32.
    error = np.abs(found["decision"] - decision)
    assert (error <= 1e-5 * case.energy + 1e-7 * np.abs(decision)).all()


def test_decisions_are_taken_in_float64(table):
    with torch.inference_mode():
        answers = ExportedGraph(table.detector, Limits.of(table.detector)).eval()(
            torch.from_numpy(table.input[:288])
        )
    found = {name: v.double().numpy() for name, v in zip(SCALARS, answers, strict=True)}
    decision = table.detector.decision_function(table.rows)[:288]
    # Networks may round otherwise from call to call, which no decision can undo.
    step = np.spacing(found["energy"].astype(np.float32)).astype(np.float64)
    assert (np.abs(found["decision"] - decision) <= 4 * step).all()
    # In float32 every decision near the threshold would be whole steps of the energy.
    near = np.abs(decision) < table.detector.offset_ * -0.1
    assert near.sum() > 10
    steps = found["decision"][near] / step[near]
    assert np.mean(np.abs(steps - np.rint(steps)) > 1e-3) > 0.9


def test_p_values_equal_the_exact_ones_in_the_tail_and_are_never_smaller(case):
    found = case.run(case.input)["p_value"]
    known = case.detector.calibration_energies_
    # Where kernels round to different sides of a calibration energy, the ranks differ by one.
    gap = np.abs(known[:, None] - case.energy).min(axis=0)
    clear = gap > 1e-5 * case.energy
    exact = conformal_p_values(known, case.energy)
    n_clear = clear.sum()
    assert n_clear > 100
    assert (found[clear] >= exact[clear] - 1e-7).all()
    tail = clear & (exact <= (1 if len(known) <= 1024 else 600 / len(known)))
    assert tail.sum() > 20
    np.testing.assert_allclose(found[tail], exact[tail], rtol=1e-6)
    np.testing.assert_allclose(found[clear], exact[clear], rtol=2e-2)


def test_rows_that_are_not_finite_are_outliers_and_leave_others_alone(case):
    if case.input.dtype == np.uint8:
        pytest.skip("bytes are always finite")
    before = case.run(case.input[:20])
    rows = case.input[:20].copy()
    bad = [3, 4, 11, 19]
    for row, value in zip(bad, [np.nan, np.inf, -np.inf, np.nan], strict=True):
        rows[row].flat[row % rows[0].size] = value
    rows[19] = np.nan
    after = case.run(rows)
    least = 1 / (len(case.detector.calibration_energies_) + 1)
    for name, value in zip(SCALARS, [np.inf, -np.inf, -np.inf, -1, least], strict=True):
        np.testing.assert_allclose(after[name][bad], value, rtol=1e-6)
        good = np.setdiff1d(np.arange(20), bad)
        np.testing.assert_array_equal(after[name][good], before[name][good])


def test_a_rows_answers_depend_on_neither_its_batch_nor_its_order(case):
    found = case.run(case.input)
    order = np.random.default_rng(0).permutation(len(case.input))
    shuffled, alone = case.run(case.input[order]), case.run(case.input[:30], batch=1)
    # Kernels round differently for different batch sizes.
    np.testing.assert_allclose(shuffled["energy"], found["energy"][order], rtol=1e-5)
    np.testing.assert_allclose(alone["energy"], found["energy"][:30], rtol=1e-5)


def test_reconstruction_and_energy_map_on_request(table):
    found = table.run(table.input)
    assert list(found) == [*SCALARS, *EXTRA]
    expected = table.detector.reconstruct(table.rows)
    np.testing.assert_allclose(found["reconstruction"], expected, rtol=1e-5, atol=1e-5)
    expected = table.detector.energy_map(table.rows)
    np.testing.assert_allclose(found["energy_map"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["energy_map"].mean(axis=1), table.energy, rtol=1e-5)
    assert (table.run(np.full_like(table.input[:1], np.nan))["energy_map"] == np.inf).all()
    # Both come from the pass that gives the energy: two layers there, two back.
    layers = [node for node in onnx.load(table.path).graph.node if node.op_type == "Gemm"]
    assert len(layers) == 4


def test_grey_images_keep_their_convolutions(exported, tmp_path):
    """Scoring multiplies matrices in place of one, with an operator that few runtimes have."""
    with torch.no_grad():
        path = export_onnx(exported(grey_images).detector, tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert "ConvTranspose" in kinds
    assert "Col2Im" not in kinds


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Rows of two values, of which each comes many times, and so does its energy."""
    x = np.random.default_rng(2).integers(0, 2, (2000, 3)).astype(np.float32)
    detector = EBGANDetector(max_epochs=2, random_state=2, device="cpu").fit(x)
    path = export_onnx(detector, tmp_path_factory.mktemp("repeated") / "model.onnx")
    return Case(detector, x, path)


@pytest.mark.parametrize("batch", [1, 64, 2000])
def test_rows_that_repeat_stay_on_the_side_where_the_estimator_has_them(repeated, batch):
    found = repeated.run(repeated.input, batch)
    np.testing.assert_array_equal(found["label"], repeated.detector.predict(repeated.rows))
    np.testing.assert_array_equal(found["decision"] >= 0, found["label"] == 1)
    exact = repeated.detector.p_values(repeated.rows)
    np.testing.assert_allclose(found["p_value"], exact, rtol=1e-6)


def test_rescoring_notices_limits_that_are_not_raised(repeated):
    detector = repeated.detector
    bare = Limits(detector.calibration_energies_, -detector.offset_)
    graph = ExportedGraph(detector, bare).eval()
    model = _clean(_trace(graph, torch.zeros(3, 3), SCALARS), {})
    with pytest.raises(ExportError, match="calibration rows for no less normal"):
        rescore(model.SerializeToString(), Source.of(detector), bare, torch.float32)


def test_rescoring_notices_other_p_values(table):
    far = Limits.of(table.detector)
    far = replace(far, energies=far.energies * 2)
    with pytest.raises(ExportError, match="must give the estimator's p-values, got"):
        rescore(table.path.read_bytes(), Source.of(table.detector), far, torch.float32)


def test_limits_are_raised_by_little_and_keep_their_order(case):
    limits, known = Limits.of(case.detector), case.detector.calibration_energies_
    raised = limits.energies - known
    assert (raised > 0).all()
    assert (np.diff(limits.energies) >= 0).all()
    assert (raised <= 1e-4 * known).all()
    assert 0 < limits.threshold + case.detector.offset_ <= 1e-4 * limits.threshold


# --- p-values in the graph --------------------------------------------------------------------

VALUES = st.floats(0, 100).map(lambda v: round(v, 1)) | st.just(np.inf)  # ties are common


@given(
    known=hnp.arrays(np.float64, st.integers(1, 1500), elements=VALUES),
    new=hnp.arrays(np.float64, st.integers(1, 20), elements=VALUES),
)
def test_two_level_lookup_equals_the_exact_p_values(known, new):
    new = np.concatenate([new, known[:20], [np.inf]])
    found = PValues(known)(torch.from_numpy(new)).numpy()
    exact = conformal_p_values(known, new)
    if len(known) <= 1024:
        np.testing.assert_array_equal(found, exact)
    assert (found >= exact).all()
    assert found[-1] == exact[-1]


@pytest.mark.parametrize("n", [1, 31, 32, 33, 1023, 1024, 1025, 50_000])
def test_two_level_lookup_at_every_step(n):
    known = np.arange(1.0, n + 1)
    new = np.concatenate([known, known + 0.5, [0.0]])
    found = PValues(known)(torch.from_numpy(new)).numpy()
    exact = conformal_p_values(known, new)
    assert (found >= exact).all()
    np.testing.assert_allclose(found, exact, rtol=1e-15 if n <= 1024 else 0.02)


def test_p_values_of_normal_rows_stay_valid_with_a_capped_table():
    rng = np.random.default_rng(0)
    levels = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.9])
    shares = []
    for _ in range(60):
        energies = rng.gamma(2.0, size=6000)
        p = PValues(energies[:4000])(torch.from_numpy(energies[4000:]))
        shares.append([(p.numpy() <= level).mean() for level in levels])
    error = np.std(shares, axis=0) / np.sqrt(len(shares))
    assert (np.mean(shares, axis=0) <= levels + 4 * error).all()


# --- the file ---------------------------------------------------------------------------------


def test_file_has_the_stated_interface(case):
    (given_input,) = case.session.get_inputs()
    kind = "uint8" if case.input.dtype == np.uint8 else "float"
    assert (given_input.name, given_input.type) == ("input", f"tensor({kind})")
    assert given_input.shape == ["batch", *case.detector.input_shape_]
    outputs = [(o.name, o.shape, o.type) for o in case.session.get_outputs()]
    types = {"label": "tensor(int64)"}
    expected = [(name, ["batch"], types.get(name, "tensor(float)")) for name in SCALARS]
    if len(outputs) > len(SCALARS):
        expected += [(name, given_input.shape, "tensor(float)") for name in EXTRA]
    assert outputs == expected


def test_file_is_valid_self_contained_and_loads_on_older_servers(case):
    assert [path.name for path in case.path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(case.path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [(entry.domain, entry.version <= 21) for entry in model.opset_import] == [("", True)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_file_tells_nothing_of_the_machine(case):
    model = onnx.load(case.path)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert not model.graph.value_info
    producer = (model.producer_name, model.producer_version)
    assert producer == ("ebgan-detect", ebgan_detect.__version__)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # weights may spell anything
    content = model.SerializeToString()
    package = Path(ebgan_detect.__file__).parent
    for place in (package, Path(sys.prefix), Path.cwd(), case.path.parent):
        assert str(place).encode() not in content
    for trace in (b"File ", b"stack_trace", b"site-packages", b".py"):
        assert trace not in content


def test_file_says_what_it_is(case):
    metadata = case.session.get_modelmeta().custom_metadata_map
    detector = case.detector
    names = getattr(detector, "feature_names_in_", None)
    assert metadata == {
        "ebgan_detect.version": ebgan_detect.__version__,
        "ebgan_detect.format": "1",
        "ebgan_detect.offset": repr(detector.offset_),
        "ebgan_detect.input_names": "null" if names is None else json.dumps(list(names)),
        "ebgan_detect.training_digest": _training_digest(detector, []),
        "ebgan_detect.n_calibration": str(len(detector.calibration_energies_)),
    }
    assert float(metadata["ebgan_detect.offset"]) == detector.offset_


def test_training_digest_follows_weights_scaling_calibration_and_threshold(table, tmp_path):
    digest = _training_digest(table.detector, [])
    assert re.fullmatch("2:[0-9a-f]{64}", digest)
    save(table.detector, tmp_path / "saved")
    assert _training_digest(load(tmp_path / "saved"), []) == digest
    found = {digest, _training_digest(table.detector, [b"transformer"])}
    for change in ("weights", "scaling", "calibration", "threshold"):
        other = copy.deepcopy(table.detector)
        if change == "weights":
            next(other.model_.members[0].encoder.parameters()).data[0, 0] += 1e-6
        elif change == "scaling":
            other.model_.scaler.shift += 1e-9
        elif change == "calibration":
            other.calibration_energies_[0] /= 2
        else:
            other.offset_ -= 1e-9
        found.add(_training_digest(other, []))
    assert len(found) == 6


# --- what the export leaves alone -------------------------------------------------------------


def test_export_leaves_the_detector_the_loggers_and_an_open_file_as_they_were(tmp_path):
    detector, rows = colour_images()
    energy, training = detector.energy(rows), [m.training for m in detector.model_.modules()]
    logging.getLogger("torch.onnx._internal.exporter._registration")  # so that it is listed
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with target.open("rb") as old:
        assert export_onnx(detector, str(target), input_dtype="float32") == target
        assert old.read() == b"old"  # a reader never sees half of either file
    np.testing.assert_array_equal(detector.energy(rows), energy)
    assert [m.training for m in detector.model_.modules()] == training
    assert {name: logging.getLogger(name).level for name in levels} == levels
    # Bytes go in as float32 when that was asked for.
    found = session_of(target).run(["energy"], {"input": rows.astype(np.float32)})[0]
    np.testing.assert_allclose(found, energy, rtol=1e-5)


def test_several_threads_may_export_at_once(table, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        paths = [tmp_path / f"{k}.onnx" for k in range(3)]
        assert list(pool.map(functools.partial(export_onnx, table.detector), paths)) == paths
    for path in paths:
        found = session_of(path).run(["energy"], {"input": table.input})[0]
        np.testing.assert_allclose(found, table.energy, rtol=1e-5)


def test_a_fresh_process_imports_extras_late_and_exports_in_silence(tmp_path):
    code = """
import sys
import numpy as np
from ebgan_detect import EBGANDetector
from ebgan_detect.export import export_onnx
assert not {"onnx", "onnxruntime", "skl2onnx"} & set(sys.modules)
x = np.random.default_rng(0).normal(size=(200, 2))
export_onnx(EBGANDetector(max_epochs=1, margin=1.0, random_state=0).fit(x), "model.onnx")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- a wrong file is caught before it is kept -------------------------------------------------


class Fickle(nn.Linear):
    """Another answer when traced than when called."""

    def forward(self, x):
        return super().forward(x) * (1.001 if torch.compiler.is_exporting() else 1.0)


class Branching(nn.Linear):
    """A branch on the rows' values, which no graph can hold."""

    def forward(self, x):
        return super().forward(x) if x.mean() > 1e9 else super().forward(x) + 1


@pytest.fixture(scope="module")
def export_with(tmp_path_factory):
    """Export over an old file, with a given class of decoder layer; the target and the error."""

    def export(layer):
        def networks(shape):
            return nn.Linear(shape[0], 3), layer(3, shape[0]), generator(shape)

        x = np.random.default_rng(0).normal(size=(300, 2))
        detector = EBGANDetector(architecture=networks, latent_dim=4, **BRIEF).fit(x)
        target = tmp_path_factory.mktemp("onnx") / "model.onnx"
        target.write_bytes(b"old")
        with pytest.raises(ExportError) as caught:
            export_onnx(detector, target)
        return target, caught.value

    return export


def test_networks_that_act_differently_when_traced_are_caught(export_with):
    target, error = export_with(Fickle)
    assert "must score as the estimator does, got energy" in str(error)
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_networks_that_cannot_be_traced_are_an_export_error(export_with):
    target, error = export_with(Branching)
    assert "torch cannot export the networks" in str(error)
    assert error.__cause__ is not None
    assert target.read_bytes() == b"old"


def altered(path, name, change):
    """The file with one of its constants changed."""
    model = onnx.load(path)
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), name))
    return model.SerializeToString()


def constants(path, *, of):
    """Names of the constants of nodes of one type."""
    graph = onnx.load(path).graph
    known = {tensor.name for tensor in graph.initializer}
    return [
        name for node in graph.node if node.op_type == of for name in node.input if name in known
    ]


def test_rescoring_accepts_the_file_and_notices_altered_weights(table):
    source, limits = Source.of(table.detector), Limits.of(table.detector)
    rescore(table.path.read_bytes(), source, limits, torch.float32)
    weights = constants(table.path, of="Gemm")
    assert len(weights) == 8
    for name in weights:
        broken = altered(table.path, name, lambda w: w * np.float32(1.01) + np.float32(1e-3))
        with pytest.raises(ExportError, match="must score as the estimator does"):
            rescore(broken, source, limits, torch.float32)


def test_rescoring_notices_another_threshold(table):
    moved = copy.deepcopy(table.detector)
    moved.offset_ *= 2
    with pytest.raises(ExportError, match="must label as the estimator does"):
        rescore(table.path.read_bytes(), Source.of(moved), Limits.of(moved), torch.float32)


def test_rescoring_notices_a_missing_guard(table):
    # Energies of nan would pass for energies of 1.
    (name,) = {*constants(table.path, of="Where")} & {*constants(table.path, of="Less")}
    broken = altered(table.path, name, lambda value: np.ones_like(value))
    with pytest.raises(ExportError, match="must answer nan with energy=inf and label=-1"):
        rescore(broken, Source.of(table.detector), Limits.of(table.detector), torch.float32)


def test_rescoring_notices_a_fixed_batch(table):
    model = onnx.load(table.path)
    # Calibration rows, the same distorted, and one of nan: the first batch still fits.
    batch = 2 * len(table.detector.calibration_energies_) + 1
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    with pytest.raises(ExportError, match="cannot run the ONNX file on 1 rows"):
        rescore(
            model.SerializeToString(),
            Source.of(table.detector),
            Limits.of(table.detector),
            torch.float32,
        )


def test_rescoring_needs_a_file_that_runs(table):
    source, limits = Source.of(table.detector), Limits.of(table.detector)
    with pytest.raises(ExportError, match="onnxruntime cannot load"):
        rescore(table.path.read_bytes()[:-2000], source, limits, torch.float32)
    with pytest.raises(ExportError, match="onnxruntime cannot run the ONNX file on"):
        rescore(table.path.read_bytes(), source, limits, torch.float64)


def test_rescoring_needs_rows_that_float32_holds(table):
    far = copy.deepcopy(table.detector)
    far._calibration_rows.values[:] = 1e300
    with pytest.raises(ExportError, match=r"must be finite as torch\.float32"):
        rescore(table.path.read_bytes(), Source.of(far), Limits.of(far), torch.float32)


@pytest.mark.parametrize(("opset", "ir"), [(22, 10), (20, 11)])
def test_newer_formats_than_older_servers_load_are_refused(table, opset, ir):
    model = onnx.load(table.path)
    model.ir_version, model.opset_import[0].version = ir, opset
    with pytest.raises(
        ExportError, match=f"opset <= 21 and IR version <= 10, got {opset} and {ir}"
    ):
        _checked(model)


def test_an_invalid_graph_is_refused(table):
    model = onnx.load(table.path)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match=r"must be valid, got: .*NoSuchOperator"):
        _checked(model)


# --- what cannot be exported ------------------------------------------------------------------


def test_unfitted_detector_is_refused(tmp_path):
    with pytest.raises(NotFittedError, match="EBGANDetector"):
        export_onnx(EBGANDetector(), tmp_path / "model.onnx")


def test_something_else_is_refused(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"a detector of this library .*LinearRegress"):
        export_onnx(LinearRegression(), tmp_path / "model.onnx")


@pytest.mark.parametrize("dtype", ["float16", "uint8", "double", None])
def test_other_input_types_are_refused(table, tmp_path, dtype):
    with pytest.raises(InvalidParameterError, match=f"'auto', 'float32'.*uint8, got {dtype!r}"):
        export_onnx(table.detector, tmp_path / "model.onnx", input_dtype=dtype)


@pytest.mark.parametrize("step", [0.0, 0.25])
def test_rows_that_calibrate_later_leave_the_input_as_fitted(tmp_path, step):
    images = np.random.default_rng(0).integers(0, 255, (80, 9, 11), dtype=np.uint8)
    detector = AutoEncoderDetector(max_epochs=1, random_state=0).fit(images)
    detector.calibrate(images[:40].astype(np.float32) + step)
    save(detector, tmp_path / "model.ebgan")
    for fitted_on_uint8 in (detector, load(tmp_path / "model.ebgan")):
        (entry,) = onnx.load(export_onnx(fitted_on_uint8, tmp_path / "m.onnx")).graph.input
        assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    other = AutoEncoderDetector(max_epochs=1, random_state=0).fit(images + 0.25).calibrate(images)
    (entry,) = onnx.load(export_onnx(other, tmp_path / "m.onnx")).graph.input
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_targets_that_cannot_be_written_are_refused_at_once(table, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent'$"):
        export_onnx(table.detector, tmp_path / "absent" / "model.onnx")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        export_onnx(table.detector, tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(table, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"ONNX export needs {package}: pip install 'ebgan-detect\[onnx\]'"
    with pytest.raises(MissingDependencyError, match=message):
        export_onnx(table.detector, tmp_path / "model.onnx")

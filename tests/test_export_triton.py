import shutil
import stat
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import tritonclient.grpc
import tritonclient.http
from google.protobuf import text_format
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ebgan_detect import (
    EBGANDetector,
    ExportError,
    InvalidParameterError,
    MissingDependencyError,
)
from ebgan_detect.export import export_onnx, export_triton, triton
from ebgan_detect.export._triton_config import CONFIG, PYTHON_CONFIG, pb, read_config

OUTPUTS = ["energy", "score", "decision", "label", "p_value"]
TYPES = {"float32": "FP32", "uint8": "UINT8", "float64": "FP64"}
MODELS = ["table", "image", "piped"]
GRPC, HTTP = tritonclient.grpc, tritonclient.http


@pytest.fixture(scope="module", autouse=True)
def _each_detector_is_exported_once():
    """Keep the slow export's file for the next version of the same detector."""
    files = {}

    def export(detector, path, **options):
        key = (id(detector), *options.items())
        if key not in files:
            files[key] = export_onnx(detector, path, **options).read_bytes()
        Path(path).write_bytes(files[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton, "export_onnx", export)
        yield


def table_rows(seed, n=300):
    """Rows that float32 holds exactly, one column far from zero."""
    rows = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return pd.DataFrame(rows + np.float32([0, 5, 1e6]), columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def detectors():
    """Two detectors of one table, one of pictures, and one behind a transformer."""
    small = partial(EBGANDetector, max_epochs=1, margin=0.1, hidden_sizes=(8,), code_dim=4)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    return {
        "table": small(random_state=0).fit(table_rows(0)),
        "newer": small(random_state=1).fit(table_rows(1)),
        "image": small(random_state=0).fit(pixels),
        "piped": make_pipeline(StandardScaler(), small(random_state=0)).fit(
            table_rows(0).astype(float)
        ),
    }


@pytest.fixture(scope="module")
def repository(detectors, tmp_path_factory):
    """Repository with all but the newer detector; not to be changed."""
    folder = tmp_path_factory.mktemp("repository") / "models"
    for name in MODELS:
        export_triton(detectors[name], folder, name=name, max_batch_size=64)
    return folder


@pytest.fixture
def own(repository, tmp_path):
    """Copy of that repository for a test that changes it."""
    return shutil.copytree(repository, tmp_path / "beside" / "models")


@pytest.fixture(scope="module")
def server(repository, triton_backend, triton_server):
    """Server of that repository, with each backend in turn."""
    return triton_server(repository, backend=triton_backend)


@pytest.fixture
def polling(own, triton_backend, triton_server):
    """Server that looks every second for what is new in the test's own repository."""
    server = triton_server(own, backend=triton_backend, mode="poll")
    yield server
    server.kill()


def connect(server, protocol=GRPC):
    """Client of a server; the caller closes it."""
    port = server.grpc_port if protocol is GRPC else server.http_port
    return protocol.InferenceServerClient(f"127.0.0.1:{port}")


def ask(client, model, rows, *, protocol=GRPC, outputs=OUTPUTS):
    """Answers of a served model, each of shape (n,), and the version that gave them."""
    tensor = protocol.InferInput("input", rows.shape, TYPES[rows.dtype.name])
    tensor.set_data_from_numpy(rows)
    wanted = [protocol.InferRequestedOutput(name) for name in outputs]
    answer = client.infer(model, [tensor], outputs=wanted)
    response = answer.get_response()
    version = response["model_version"] if protocol is HTTP else response.model_version
    return {name: answer.as_numpy(name)[:, 0] for name in outputs}, int(version)


def wait_until(condition, seconds=20):
    """Whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds


def complaints(server):
    """Lines of a server's log that report errors, but for that of every machine without a GPU."""
    errors = [line for line in server.log.splitlines() if line.startswith("E")]
    return [line for line in errors if "CudaDriverHelper" not in line]


def text_of(path):
    """Configuration as text, the backend left out."""
    config = read_config(path)
    config.ClearField("platform")
    config.ClearField("backend")
    return text_format.MessageToString(config)


# --- what is written ------------------------------------------------------------------------------


def test_layout(repository):
    files = sorted(str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file())
    assert files == sorted(
        f"{name}/{file}"
        for name in MODELS
        for file in ("1/model.onnx", "1/model.py", CONFIG, PYTHON_CONFIG, "labels.txt")
    )
    readable = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
    assert all(p.stat().st_mode & readable == readable for p in repository.rglob("*"))


def test_both_configurations_say_the_same(repository):
    for name in MODELS:
        folder = repository / name
        assert text_of(folder / CONFIG) == text_of(folder / PYTHON_CONFIG)
        assert read_config(folder / CONFIG).platform == "onnxruntime_onnx"
        assert read_config(folder / PYTHON_CONFIG).backend == "python"


def test_configuration_describes_the_tensors(repository, detectors):
    config = read_config(repository / "image" / CONFIG)
    assert config.name == "image"
    assert config.max_batch_size == 64
    (rows,) = config.input
    assert (rows.name, pb().DataType.Name(rows.data_type), [*rows.dims]) == (
        "input",
        "TYPE_UINT8",
        [8, 8],
    )
    assert [output.name for output in config.output] == OUTPUTS
    assert all([*output.dims] == [1] and output.HasField("reshape") for output in config.output)
    metadata = {key: value.string_value for key, value in config.parameters.items()}
    assert metadata["ebgan_detect.offset"] == repr(float(detectors["image"].offset_))
    assert metadata["ebgan_detect.model_version"] == "1"
    session = onnxruntime.InferenceSession(repository / "image" / "1" / "model.onnx")
    in_file = session.get_modelmeta().custom_metadata_map
    assert in_file.items() <= metadata.items()


def test_new_model_has_the_documented_settings(detectors, tmp_path):
    assert export_triton(detectors["table"], tmp_path / "new") == tmp_path / "new/energy/1"
    config = read_config(tmp_path / "new" / "energy" / CONFIG)
    (group,) = config.instance_group
    assert (config.max_batch_size, group.count, group.kind) == (256, 1, group.KIND_CPU)
    assert config.version_policy.latest.num_versions == 1
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert config.HasField("dynamic_batching")
    assert [request.batch_size for request in config.model_warmup] == [1, 256]
    assert not config.HasField("optimization")


def test_settings_reach_both_configurations(detectors, own):
    settings = {"max_batch_size": 1, "instances": 3, "device": "auto", "intra_op_thread_count": 2}
    export_triton(detectors["newer"], own, name="table", versions_served="all", **settings)
    for file in (CONFIG, PYTHON_CONFIG):
        config = read_config(own / "table" / file)
        (group,) = config.instance_group
        assert (config.max_batch_size, group.count, group.kind) == (1, 3, group.KIND_AUTO)
        assert config.parameters["intra_op_thread_count"].string_value == "2"
        assert config.version_policy.HasField("all")
        assert [request.batch_size for request in config.model_warmup] == [1]


def test_tensorrt_is_for_the_onnx_runtime_backend(detectors, own):
    def accelerators(file):
        config = read_config(own / "table" / file)
        found = config.optimization.execution_accelerators.gpu_execution_accelerator
        return {entry.name: dict(entry.parameters) for entry in found}

    export = partial(export_triton, detectors["newer"], own, name="table")
    export(device="gpu", tensorrt="fp16", cuda_graphs=True)
    assert accelerators(CONFIG) == {
        "tensorrt": {"precision_mode": "FP16", "trt_cuda_graph_enable": "1"}
    }
    assert accelerators(PYTHON_CONFIG) == {}
    export()
    assert accelerators(CONFIG)["tensorrt"]["precision_mode"] == "FP16"
    export(tensorrt="fp32")
    assert accelerators(CONFIG) == {"tensorrt": {"precision_mode": "FP32"}}
    export(tensorrt="off")
    assert accelerators(CONFIG) == {}


def test_new_version_keeps_what_was_tuned_by_hand(detectors, own):
    path = own / "table" / CONFIG
    config = read_config(path)
    config.dynamic_batching.max_queue_delay_microseconds = 77
    path.write_text(text_format.MessageToString(config))
    first = config.parameters["ebgan_detect.training_digest"].string_value
    assert export_triton(detectors["newer"], own, name="table") == own / "table" / "2"
    config = read_config(path)
    assert config.dynamic_batching.max_queue_delay_microseconds == 77
    assert config.max_batch_size == 64
    assert config.parameters["ebgan_detect.model_version"].string_value == "2"
    assert config.parameters["ebgan_detect.training_digest"].string_value != first


def test_version_numbers(detectors, own):
    export = partial(export_triton, detectors["newer"], own, name="table")
    assert export(version=7).name == "7"
    assert export().name == "8"
    assert export(version=3).name == "3"
    (own / "table" / "notes").mkdir()
    assert export().name == "9"


def test_configuration_describes_the_newest_version(detectors, own):
    def described():
        configs = [read_config(own / "table" / file) for file in (CONFIG, PYTHON_CONFIG)]
        told = {c.parameters["ebgan_detect.offset"].string_value for c in configs}
        versions = {c.parameters["ebgan_detect.model_version"].string_value for c in configs}
        return versions, told

    old, new = ({repr(float(detectors[name].offset_))} for name in ("table", "newer"))
    assert described() == ({"1"}, old)
    export_triton(detectors["newer"], own, name="table", version=3)
    assert described() == ({"3"}, new)
    export_triton(detectors["table"], own, name="table", version=1, overwrite=True)
    export_triton(detectors["table"], own, name="table", version=2, max_batch_size=9)
    assert described() == ({"3"}, new)
    assert read_config(own / "table" / CONFIG).max_batch_size == 9
    export_triton(detectors["table"], own, name="table", version=3, overwrite=True)
    assert described() == ({"3"}, old)
    shutil.rmtree(own / "table" / "3")
    export_triton(detectors["newer"], own, name="table", version=2, overwrite=True)
    assert described() == ({"2"}, new)


@pytest.mark.parametrize("may_write_beside", [True, False])
def test_nothing_half_made_is_left_or_seen(detectors, own, tmp_path, monkeypatch, may_write_beside):
    seen = []

    def watch(*_, **__):
        seen.append({p.name for p in own.iterdir()} | {p.name for p in (own / "table").iterdir()})
        raise OSError("disk full")

    def refuse(**_):
        raise PermissionError

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(triton, "export_onnx", watch)
    if not may_write_beside:
        monkeypatch.setattr(triton.tempfile, "mkstemp", refuse)
    for name in ("table", "fresh"):
        with pytest.raises(OSError, match="disk full"):
            export_triton(detectors["newer"], own, name=name)
    assert sorted(tmp_path.rglob("*")) == before
    names = {*MODELS, "1", "configs", CONFIG, "labels.txt"}
    hidden = [sorted(found - names) for found in seen]
    assert all(found <= names for found in seen) == may_write_beside, hidden
    assert all(name.startswith(".") for extra in hidden for name in extra)


def test_staging_notices_another_file_system(own, tmp_path):
    assert triton._leads_into(tmp_path, own)
    assert not triton._leads_into(tmp_path / "missing", own)
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no other file system here")
    assert not triton._leads_into(tmp_path, elsewhere)
    left = [path for folder in (own, tmp_path, elsewhere) for path in folder.glob(".ebgan-*")]
    assert left == []


# --- what is refused ------------------------------------------------------------------------------


def test_existing_version_is_kept(detectors, own):
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    with pytest.raises(ExportError, match=r"version 1 of model 'table' exists in .*overwrite"):
        export_triton(detectors["newer"], own, name="table", version=1)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_existing_version_is_replaced_when_asked(detectors, own):
    old = (own / "table/1/model.onnx").read_bytes()
    (own / "table/1/engine.cache").write_text("of the user")
    export_triton(detectors["newer"], own, name="table", version=1, overwrite=True)
    assert (own / "table/1/model.onnx").read_bytes() != old
    assert (own / "table/1/engine.cache").exists()


def edit(path, change):
    """Change a configuration as a user might."""
    config = read_config(path)
    change(config)
    path.write_text(text_format.MessageToString(config))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c.input[0].dims.__setitem__(0, 4),
            r"the input of those before it \(input FP32 \[4\]\), got input FP32 \[3\]; give the",
        ),
        (
            lambda c: c.output.pop(),
            r"the output of those before it \(.*score FP32 \[1\]\), got .*p_value FP32",
        ),
        (
            lambda c: setattr(
                c.parameters["ebgan_detect.input_names"], "string_value", '["a", "b", "d"]'
            ),
            r"the columns of those before it \(a, b, d\), got a, b, c; give the model another name",
        ),
        (
            lambda c: c.parameters.pop("ebgan_detect.format"),
            "model 'table' was not written by ebgan-detect; give the model another name",
        ),
    ],
)
def test_other_tensors_are_refused(detectors, own, change, words):
    edit(own / "table" / CONFIG, change)
    before = sorted(own.rglob("*"))
    with pytest.raises(ExportError, match=words):
        export_triton(detectors["newer"], own, name="table")
    assert sorted(own.rglob("*")) == before


def test_other_kind_of_rows_is_refused(detectors, own):
    with pytest.raises(ExportError, match=r"input FP32 \[3\]\), got input UINT8 \[8, 8\]"):
        export_triton(detectors["image"], own, name="table")


def test_damaged_configuration_is_refused(detectors, own):
    (own / "table" / CONFIG).write_text("name: table {")
    with pytest.raises(ExportError, match=r"config.pbtxt must be a model configuration, got: 1:"):
        export_triton(detectors["newer"], own, name="table")


def test_folder_of_something_else_is_refused(detectors, own):
    (own / "photos").mkdir()
    (own / "photos" / "cat.png").touch()
    with pytest.raises(ExportError, match=r"photos must be a model's folder, got one without con"):
        export_triton(detectors["newer"], own, name="photos")
    (own / "empty").mkdir()
    assert export_triton(detectors["newer"], own, name="empty").is_dir()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"name": "a/b"}, "name must be letters, digits, .* got 'a/b'"),
        ({"name": ""}, "name must be .* got ''"),
        ({"name": "a..b"}, r"name must be .* got 'a\.\.b'"),
        ({"name": ".hidden"}, "name must be"),
        ({"name": "a b"}, "name must be"),
        ({"name": 3}, "name must be .* got 3"),
        ({"version": 0}, "version must be None or an int from 1 to 9223372036854775807, got 0"),
        ({"version": 2**63}, "version must be None or an int from 1 to 9223372036854775807"),
        ({"max_batch_size": 0}, "max_batch_size must be None or an int from 1 to 2147483647"),
        ({"max_batch_size": 2**31}, "max_batch_size must be .*2147483647, got 2147483648"),
        ({"instances": 1.5}, "instances must be None or an int from 1 to 2147483647, got 1.5"),
        ({"instances": 2**31}, "instances must be .*2147483647, got 2147483648"),
        ({"device": "tpu"}, "device must be None or 'cpu' or 'gpu' or 'auto', got 'tpu'"),
        ({"intra_op_thread_count": -1}, "intra_op_thread_count must be None or an int from 0"),
        ({"intra_op_thread_count": 2**31}, "intra_op_thread_count must be .* to 2147483647"),
        ({"versions_served": "some"}, "versions_served must be None, 'all' or an int from 1"),
        ({"versions_served": 2**32}, "versions_served must be .* to 4294967295, got 4294967296"),
        ({"tensorrt": "int8"}, "tensorrt must be None or 'off' or 'fp32' or 'fp16', got 'int8'"),
        ({"overwrite": 1}, "overwrite must be True or False, got 1"),
        ({"tensorrt": "fp16"}, "tensorrt needs device='gpu' or 'auto', got 'cpu'"),
        ({"cuda_graphs": True}, "cuda_graphs=True needs tensorrt='fp32' or 'fp16'"),
    ],
)
def test_parameters_out_of_range(detectors, tmp_path, parameters, words):
    with pytest.raises(InvalidParameterError, match=words):
        export_triton(detectors["table"], tmp_path, **parameters)
    assert not list(tmp_path.iterdir())


def test_two_exports_at_once_do_not_mix(detectors, own, monkeypatch):
    def meanwhile(detector, path, **_):
        shutil.copy(own / "table/1/model.onnx", path)
        shutil.copytree(own / "table/1", own / "table/2", dirs_exist_ok=True)
        (own / "table/2/model.onnx").write_bytes(b"of the other")
        for file in (CONFIG, PYTHON_CONFIG):
            edit(own / "table" / file, lambda config: setattr(config, "max_batch_size", 7))

    monkeypatch.setattr(triton, "export_onnx", meanwhile)
    with pytest.raises(ExportError, match=r"table/2 must be new, but another export has just wri"):
        export_triton(detectors["newer"], own, name="table", max_batch_size=9)
    assert (own / "table/2/model.onnx").read_bytes() == b"of the other"
    for file in (CONFIG, PYTHON_CONFIG):
        config = read_config(own / "table" / file)
        assert config.max_batch_size == 7
        assert config.parameters["ebgan_detect.model_version"].string_value == "1"


EXPORT = """
import sys
from pathlib import Path
from ebgan_detect.export import export_triton, triton

file, repository, size = sys.argv[1:]
triton.export_onnx = lambda _, path, **__: path.write_bytes(Path(file).read_bytes())
export_triton(None, repository, name="table", version=int(size), max_batch_size=int(size))
"""


def test_another_process_waits_for_an_export_to_end(detectors, own, tmp_path):
    export_triton(detectors["newer"], own, name="table")
    command = [sys.executable, "-c", EXPORT, str(own / "table/2/model.onnx"), str(own)]
    with triton._locked(own):
        before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
        others = [subprocess.Popen([*command, str(size)]) for size in (3, 5)]
        with pytest.raises(subprocess.TimeoutExpired):
            others[0].wait(8)
        assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    assert [other.wait(60) for other in others] == [0, 0]
    assert {"3", "5"} <= {path.name for path in (own / "table").iterdir()}
    sizes = {read_config(own / "table" / file).max_batch_size for file in (CONFIG, PYTHON_CONFIG)}
    assert sizes in ({3}, {5})


def test_a_system_without_locks_exports_too(detectors, own, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert export_triton(detectors["newer"], own, name="table").is_dir()


def test_missing_extra_is_named(detectors, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingDependencyError, match=r"needs tritonclient: pip install 'ebgan"):
        export_triton(detectors["table"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


# --- on a real server -----------------------------------------------------------------------------


@pytest.mark.triton
@pytest.mark.parametrize("protocol", [GRPC, HTTP], ids=["grpc", "http"])
@pytest.mark.parametrize("name", ["table", "image"])
def test_server_answers_like_the_estimator(server, detectors, name, protocol):
    detector = detectors[name]
    rows = table_rows(9, 64).to_numpy().copy()
    rows[::2, 0] *= 30
    if name == "image":
        rows = np.random.default_rng(9).integers(0, 256, (64, 8, 8), dtype=np.uint8)
        rows[::2] //= 16
    with connect(server, protocol) as client:
        for n in (1, 7, len(rows)):
            answer, _ = ask(client, name, rows[:n], protocol=protocol)
            batch = rows[:n] if name == "image" else pd.DataFrame(rows[:n], columns=[*"abc"])
            np.testing.assert_allclose(answer["energy"], detector.energy(batch), rtol=1e-5)
            np.testing.assert_array_equal(answer["score"], -answer["energy"])
            decision = detector.decision_function(batch)
            clear = np.abs(decision) > 1e-5 * np.abs(detector.offset_)
            np.testing.assert_allclose(
                answer["decision"], decision, atol=1e-5 * np.abs(answer["energy"]).max()
            )
            np.testing.assert_array_equal(answer["label"][clear], detector.predict(batch)[clear])
            np.testing.assert_allclose(answer["p_value"], detector.p_values(batch), rtol=1e-5)
    assert len({*answer["label"]}) == 2, "rows must lie on both sides of the threshold"


@pytest.mark.triton
def test_configuration_for_onnx_runtime_passes_the_checks_of_a_server_without_it(
    triton_server, detectors, own
):
    settings = {"device": "auto", "tensorrt": "fp16", "cuda_graphs": True}
    export_triton(detectors["newer"], own, name="table", **settings)
    edit(own / "image" / CONFIG, lambda config: config.input[0].dims.__setitem__(0, 0))
    options = ["--model-config-name=none", "--exit-on-error=false", "--strict-readiness=false"]
    server = triton_server(own, options=options)
    server.kill()
    accepted = "failed to load '{}' version {}: Invalid argument: unable to find backend library"
    assert accepted.format("table", 2) in server.log
    assert accepted.format("piped", 1) in server.log
    assert "Poll failed for model directory 'image': model input 'input' dimension" in server.log


@pytest.mark.triton
def test_server_answers_like_a_pipeline(server, detectors):
    table = table_rows(9, 64)
    table.loc[::2, "a"] *= 30
    with connect(server) as client:
        answer, _ = ask(client, "piped", table.to_numpy())
    wide = table.astype(float)  # StandardScaler would round the far column to float32
    np.testing.assert_allclose(answer["score"], detectors["piped"].score_samples(wide), rtol=1e-5)
    np.testing.assert_array_equal(answer["label"], detectors["piped"].predict(wide))
    assert len({*answer["label"]}) == 2, "rows must lie on both sides of the threshold"


@pytest.mark.triton
def test_server_calls_rows_that_are_not_finite_outliers(server, detectors):
    rows = table_rows(0, 4).to_numpy().copy()
    with connect(server) as client:
        clean, _ = ask(client, "table", rows)
        rows[1, 0], rows[3, 2] = np.nan, np.inf
        answer, _ = ask(client, "table", rows)
    assert answer["energy"][[1, 3]].tolist() == [np.inf] * 2
    assert answer["label"][[1, 3]].tolist() == [-1, -1]
    lowest = 1 / (len(detectors["table"].calibration_energies_) + 1)
    np.testing.assert_allclose(answer["p_value"][[1, 3]], lowest, rtol=1e-6)
    for name in OUTPUTS:
        np.testing.assert_array_equal(answer[name][[0, 2]], clean[name][[0, 2]])


@pytest.mark.triton
def test_server_shows_metadata_labels_and_warm_up(server, detectors):
    with connect(server) as client:
        config = client.get_model_config("table").config
        tensor = GRPC.InferInput("input", (2, 3), "FP32")
        tensor.set_data_from_numpy(np.float32([[0, 5, 1e6], [99, 5, 1e6]]))
        asked = GRPC.InferRequestedOutput("label", class_count=1)
        words = client.infer("table", [tensor], outputs=[asked]).as_numpy("label").ravel()
        counts = client.get_inference_statistics("table").model_stats[0]
    metadata = {key: value.string_value for key, value in config.parameters.items()}
    assert float(metadata["ebgan_detect.offset"]) == detectors["table"].offset_
    assert metadata["ebgan_detect.input_names"] == '["a", "b", "c"]'
    (label,) = [output for output in config.output if output.name == "label"]
    assert label.label_filename == "labels.txt"
    assert [word.decode() for word in words] == [
        f"{value}:0:1 for an inlier, -1 for an outlier" for value in (1, -1)
    ]
    assert [request.batch_size for request in config.model_warmup] == [1, 64]
    assert counts.inference_count >= 1


def runs_of(client):
    """How often the server has run the table's model."""
    return client.get_inference_statistics("table")["model_stats"][0]["execution_count"]


def ask_at_once(server, batches):
    """One answer or error for each of several requests, and how often the model ran for them."""
    asked, answers = ["energy", "label"], []
    with HTTP.InferenceServerClient(f"127.0.0.1:{server.http_port}", concurrency=8) as client:
        before, calls = runs_of(client), []
        for k, batch in enumerate(batches):
            tensor = HTTP.InferInput("input", batch.shape, "FP32")
            tensor.set_data_from_numpy(batch)
            wanted = [HTTP.InferRequestedOutput(asked[k % 2])]
            calls.append(client.async_infer("table", [tensor], outputs=wanted))
        for k, call in enumerate(calls):
            try:
                answer = call.get_result()
            except tritonclient.utils.InferenceServerException as error:
                answers.append(str(error))
                continue
            assert [o["name"] for o in answer.get_response()["outputs"]] == [asked[k % 2]]
            answers.append(answer.as_numpy(asked[k % 2])[:, 0])
        assert wait_until(lambda: runs_of(client) > before)
        return answers, runs_of(client) - before


@pytest.mark.triton
def test_requests_run_together_and_one_that_fails_does_not_fail_the_others(
    repository, detectors, triton_server, tmp_path
):
    # The server checks shapes itself. A configuration that takes any shape, and hands requests
    # of different shapes over together, lets a wrong one through to the model.
    def let_everything_pass(config):
        config.input[0].dims[0] = -1
        config.input[0].allow_ragged_batch = True
        config.dynamic_batching.max_queue_delay_microseconds = 5_000_000
        config.dynamic_batching.preferred_batch_size.append(8)
        del config.model_warmup[:]

    shutil.copytree(repository / "table", tmp_path / "models" / "table")
    edit(tmp_path / "models" / "table" / PYTHON_CONFIG, let_everything_pass)
    server = triton_server(tmp_path / "models")
    rows = table_rows(5, 8).to_numpy()
    expected = detectors["table"].energy(pd.DataFrame(rows, columns=[*"abc"]))

    answers, runs = ask_at_once(server, [rows[:3], rows[3:4], rows[4:6], rows[6:]])
    assert runs == 1, "the four did not reach the model together"
    assert [*map(len, answers)] == [3, 1, 2, 2]
    np.testing.assert_allclose(answers[0], expected[:3], rtol=1e-5)
    np.testing.assert_allclose(answers[2], expected[4:6], rtol=1e-5)

    answers, runs = ask_at_once(server, [rows[:3], np.zeros((2, 5), np.float32), rows[5:]])
    assert runs == 1, "the three did not reach the model together"
    np.testing.assert_allclose(answers[0], expected[:3], rtol=1e-5)
    assert "Got: 5 Expected: 3" in answers[1]
    np.testing.assert_allclose(answers[2], expected[5:], rtol=1e-5)
    server.kill()


@pytest.mark.triton
def test_polling_server_takes_new_models_and_versions_up_whole(polling, detectors, own):
    versions = {1: detectors["table"], 2: detectors["newer"], 3: detectors["table"]}
    table = table_rows(7, 16)
    expected = {number: detector.energy(table) for number, detector in versions.items()}
    seen, wrong, done = [], [], threading.Event()

    def watch():
        with connect(polling) as client:
            while not done.is_set():
                try:
                    answer, version = ask(client, "table", table.to_numpy(), outputs=["energy"])
                except tritonclient.utils.InferenceServerException as error:
                    wrong.append(str(error))
                    continue
                seen.extend([version] if seen[-1:] != [version] else [])
                if not np.allclose(answer["energy"], expected[version], rtol=1e-5, atol=0):
                    wrong.append(f"other answers than those of version {version}")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert wait_until(lambda: seen == [1])
        for number in (2, 3):
            export_triton(versions[number], own, name="table")
            assert wait_until(lambda number=number: seen[-1] == number), seen
        assert wrong == []
        export_triton(detectors["newer"], own, name="table", version=3, overwrite=True)
        export_triton(detectors["newer"], own, name="fresh")
        with connect(polling) as client:
            assert wait_until(lambda: client.is_model_ready("fresh"))
    finally:
        done.set()
        watcher.join()
    assert seen == [1, 2, 3]
    with connect(polling) as client:
        rows = table.to_numpy()
        newer = detectors["newer"].energy(table)

        def replaced():
            return np.allclose(ask(client, "table", rows)[0]["energy"], newer, rtol=1e-5)

        assert wait_until(replaced), "the overwritten version is not served"
    # The overwritten version answers as before or anew while the server changes over.
    assert [line for line in wrong if line != "other answers than those of version 3"] == []
    assert complaints(polling) == []


@pytest.mark.triton
def test_broken_version_does_not_take_the_old_one_down(polling, detectors, own):
    rows = table_rows(7, 16).to_numpy()
    shutil.copytree(own / "table/1", own.parent / "2")
    (own.parent / "2" / "model.onnx").write_bytes(b"broken")
    (own.parent / "2").rename(own / "table/2")
    assert wait_until(lambda: "failed to load 'table' version 2" in polling.log)
    with connect(polling) as client:
        before, version = ask(client, "table", rows)
        assert version == 1
        assert client.is_model_ready("table", "1")
        export_triton(detectors["newer"], own, name="table", version=2, overwrite=True)
        assert wait_until(lambda: client.is_model_ready("table", "2"))
        after, version = ask(client, "table", rows)
    assert version == 2
    assert not np.allclose(before["energy"], after["energy"])


@pytest.mark.triton
def test_all_versions_can_be_served(triton_server, triton_backend, detectors, own):
    export_triton(detectors["newer"], own, name="table", versions_served="all")
    server = triton_server(own, backend=triton_backend, mode="explicit", options=["--load-model=*"])
    with connect(server) as client:
        assert client.is_model_ready("table", "1")
        assert client.is_model_ready("table", "2")
        client.unload_model("table")
        assert wait_until(lambda: not client.is_model_ready("table"))
    server.kill()

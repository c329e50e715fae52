"""A served detector answers like the local one, says what is wrong, and leaves nothing behind."""

import contextlib
import copy
import csv
import gc
import json
import multiprocessing
import pickle  # noqa: TID251 - scikit-learn's tools pickle estimators
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from served_models import (
    COLUMNS,
    copy_model,
    export,
    fit,
    listener,
    pictures,
    regions,
    table,
    workers,
)
from sklearn.base import clone, is_outlier_detector
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted
from typer.testing import CliRunner

from ebgan_detect import (
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    ServerError,
    save,
)
from ebgan_detect.cli._program import app
from ebgan_detect.serving import TritonDetector
from ebgan_detect.serving.address import Address
from ebgan_detect.serving.headers import check_headers
from ebgan_detect.serving.link import Link
from ebgan_detect.serving.results import Results
from ebgan_detect.serving.session import Session
from ebgan_detect.serving.transport import Answer

ROUTES = [
    pytest.param("grpc", False, id="grpc"),
    pytest.param("http", False, id="http"),
    pytest.param("grpc", True, id="grpc-shared-memory"),
    pytest.param("http", True, id="http-shared-memory"),
]
NEWER = ('"ebgan_detect.format"\n  value {\n    string_value: "1"',) * 2
NOWHERE = "127.0.0.1:1"
"""Nobody listens on the port of TCPMUX."""


@pytest.fixture(scope="module")
def detectors():
    """Fitted detectors by the name that they are served under."""
    return {"table": fit(table(200)), "pictures": fit(pictures(150))}


@pytest.fixture(scope="module")
def repository(detectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, detector in detectors.items():
        export(detector, folder, name)
    old, new = NEWER
    copy_model(folder, "table", "newer", [(old, new.replace('"1"', '"2"'))])
    copy_model(folder, "table", "foreign", [("ebgan_detect.format", "other.format")])
    copy_model(folder, "table", "nameless", [('string_value: "[', 'string_value: "null" # [')])
    return folder


@pytest.fixture(scope="module")
def server(triton_server, repository, triton_backend):
    return triton_server(repository, backend=triton_backend)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind():
    """Threads and shared memory are gone after every test."""
    shared = regions()
    yield
    assert not workers()
    assert regions() <= shared


def url(server, protocol):
    return getattr(server, f"{protocol}_url")


def statistics(server, name):
    """Rows and requests that a model has answered."""
    with urllib.request.urlopen(f"{server.http_url}/v2/models/{name}/stats") as answer:
        (found,) = json.load(answer)["model_stats"]
    return np.array([found["inference_count"], found["inference_stats"]["success"]["count"]])


# --- parity ---------------------------------------------------------------------------------


@pytest.mark.triton
@pytest.mark.parametrize(("protocol", "shared_memory"), ROUTES)
@pytest.mark.parametrize("name", ["table", "pictures"])
def test_served_detector_answers_like_the_local_one(
    server, detectors, name, protocol, shared_memory
):
    local = detectors[name]
    rows = table(300, seed=1) if name == "table" else pictures(300, seed=1)
    with TritonDetector(url(server, protocol), name, shared_memory=shared_memory) as served:
        answers = {
            "energy": served.energy(rows),
            "score": served.score_samples(rows),
            "decision": served.decision_function(rows),
            "label": served.predict(rows),
            "p_value": served.p_values(rows),
        }
        together = served.outputs(rows)
    energy, decision = local.energy(rows), local.decision_function(rows)
    np.testing.assert_allclose(answers["energy"], energy, rtol=1e-5)
    np.testing.assert_allclose(answers["score"], -energy, rtol=1e-5)
    assert (np.abs(answers["decision"] - decision) <= 1e-5 * energy).all()
    # A file takes energies that its kernels may confuse for equal.
    gap = np.abs(local.calibration_energies_[:, None] - energy).min(axis=0)
    apart, exact = gap > 3e-5 * energy, local.p_values(rows)
    assert apart.mean() > 0.9
    np.testing.assert_array_equal(answers["p_value"][apart], exact[apart])
    assert (answers["p_value"] >= exact).all()
    clear = np.abs(decision) > 1e-5 * energy
    assert clear.sum() > 290
    assert set(answers["label"]) == {1, -1}
    np.testing.assert_array_equal(answers["label"][clear], local.predict(rows)[clear])
    assert list(together) == list(answers)
    for key, values in answers.items():
        assert values.dtype == (np.int64 if key == "label" else np.float64)
        np.testing.assert_allclose(together[key], values, rtol=1e-5)


@pytest.mark.triton
@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
def test_every_row_has_its_place_however_requests_are_cut(server, detectors, n, batch_size):
    rows = table(n, seed=2)
    served = TritonDetector(server.grpc_url, "table", batch_size=batch_size, concurrency=3)
    np.testing.assert_allclose(served.energy(rows), detectors["table"].energy(rows), rtol=1e-5)


@pytest.mark.triton
def test_requests_are_as_large_as_asked_and_allowed(server):
    for batch_size, requests in ((10, 13), (None, 2), (1000, 2)):
        before = statistics(server, "table")
        TritonDetector(server.http_url, "table", batch_size=batch_size).energy(table(128))
        assert (statistics(server, "table") - before).tolist() == [128, requests]


@pytest.mark.triton
def test_every_kind_of_input_counts_alike(server, detectors, tmp_path):
    rows = table(70, seed=3).to_numpy().copy()
    names = pd.DataFrame(rows, columns=COLUMNS)
    served = TritonDetector(server.grpc_url, "nameless")
    expected = detectors["table"].energy(names)
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=rows.shape)
    mapped[:] = rows
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(rows))
    kinds = [rows.tolist(), np.asfortranarray(rows), rows.astype(float), mapped, dataset]
    for kind in [*kinds, torch.from_numpy(rows), np.repeat(rows, 2, axis=0)[::2]]:
        np.testing.assert_allclose(served.energy(kind), expected, rtol=1e-5)


@pytest.mark.triton
def test_whole_numbers_of_any_type_are_uint8_pixels(server, detectors):
    images = pictures(20, seed=4)
    served, expected = TritonDetector(server.grpc_url, "pictures"), detectors["pictures"]
    for kind in (images.astype(float), images.astype(np.int64), torch.from_numpy(images)):
        np.testing.assert_allclose(served.energy(kind), expected.energy(images), rtol=1e-5)


# --- an estimator ---------------------------------------------------------------------------


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_p_values_are_the_local_ones_to_the_last_bit(server, detectors, protocol):
    local, rows = detectors["table"], table(500, seed=5)
    served = TritonDetector(url(server, protocol), "table")
    np.testing.assert_array_equal(served.p_values(rows), local.p_values(rows))
    together = served.outputs(rows, "label", "p_value")
    level = local.false_alarm_rate
    np.testing.assert_array_equal(together["label"] == -1, together["p_value"] <= level)


@pytest.mark.parametrize("n", [1, 19, 99, 1024, 50_000])
def test_p_values_lose_the_rounding_of_their_way_and_nothing_else(n):
    def received(p_values, n_calibration):
        results = Results(len(p_values), ["p_value"], n_calibration)
        results.put(slice(None), Answer("1", {"p_value": p_values.astype(np.float32)}))
        return results.values["p_value"]

    shares = np.arange(1, n + 2) / (n + 1)
    np.testing.assert_array_equal(received(shares, n), shares)
    np.testing.assert_array_equal(received(shares, None), shares.astype(np.float32))
    # Of another model's answers only those change that are shares of this one's as well.
    np.testing.assert_allclose(received(shares, 7), shares, rtol=1e-7)


@pytest.mark.triton
def test_attributes_are_the_local_ones(server, detectors):
    for name, local in detectors.items():
        served = TritonDetector(server.http_url, name)
        assert served.offset_ == local.offset_
        assert served.input_shape_ == local.input_shape_
        assert served.n_features_in_ == local.n_features_in_
    assert not hasattr(served, "feature_names_in_")
    named = TritonDetector(server.grpc_url, "table")
    assert named.feature_names_in_.tolist() == COLUMNS


def test_attributes_of_an_absent_server_are_absent():
    assert not hasattr(TritonDetector("no url", "table"), "offset_")
    served = TritonDetector(NOWHERE, "table")
    with pytest.raises(AttributeError, match=f"must be asked for it, and fails: {NOWHERE}"):
        _ = served.offset_
    assert "TritonDetector" in served._repr_html_()
    with served, pytest.raises(AttributeError, match="tried 1 times"):
        _ = served.offset_


@pytest.mark.triton
def test_pipeline_ends_with_a_served_detector(server, detectors):
    rows = table(100, seed=5)
    pipeline = make_pipeline(
        FunctionTransformer(lambda x: x / 2, feature_names_out="one-to-one"),
        TritonDetector(server.grpc_url, "table"),
    ).set_output(transform="pandas")
    expected = detectors["table"].predict(rows)
    np.testing.assert_array_equal(pipeline.fit(2 * rows).predict(2 * rows), expected)
    np.testing.assert_array_equal(pipeline.fit_predict(2 * rows), expected)
    np.testing.assert_allclose(
        pipeline.score_samples(2 * rows), detectors["table"].score_samples(rows), rtol=1e-5
    )


def test_served_detector_is_an_estimator_that_keeps_its_parameters():
    headers = {"authorization": "Bearer 1"}
    served = TritonDetector(NOWHERE, "m", headers=headers, deadline=3)
    assert clone(served).get_params() == served.get_params()
    assert served.get_params()["headers"] is headers
    assert served.set_params(model="other").model == "other"
    assert is_outlier_detector(served)
    check_is_fitted(served)
    assert served.fit(table(3)) is served
    assert "deadline=3" in repr(served)
    assert not vars(served).keys() - served.get_params().keys()


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_copies_and_pickles_have_no_connections_and_score_alike(server, protocol):
    rows = table(100, seed=6)
    with TritonDetector(url(server, protocol), "table") as served:
        expected = served.energy(rows)
        for twin in (
            copy.copy(served),
            copy.deepcopy(served),
            pickle.loads(pickle.dumps(served)),  # noqa: S301
        ):
            assert vars(twin).keys() == served.get_params().keys()
            np.testing.assert_allclose(twin.energy(rows), expected, rtol=1e-5)
        np.testing.assert_allclose(served.energy(rows), expected, rtol=1e-5)


@pytest.mark.triton
def test_spawned_process_scores_with_a_detector_that_it_was_sent(server):
    rows = table(100, seed=6)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for place in (server.grpc_url, server.http_url):
            with TritonDetector(place, "table") as served:
                expected = served.energy(rows)
                np.testing.assert_allclose(pool.apply(served.energy, [rows]), expected, rtol=1e-5)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_kept_connections_serve_several_callers(server, detectors, protocol):
    inputs = [table(n, seed=n) for n in (1, 2, 65, 130, 300, 1, 64, 200)]
    with (
        TritonDetector(url(server, protocol), "table", concurrency=3) as served,
        ThreadPoolExecutor(8) as callers,
    ):
        answers = list(callers.map(served.energy, inputs))
        assert 1 <= len(workers()) <= 3
    for rows, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, detectors["table"].energy(rows), rtol=1e-5)


FORK = """
import os, sys
import numpy as np
from ebgan_detect.serving import TritonDetector

rows = np.random.default_rng(0).normal(size=(200, 4))
for url in sys.argv[1:]:
    with TritonDetector(url, "nameless", deadline=20) as served:
        expected = served.energy(rows)
        child = os.fork()
        same = bool((served.energy(rows) == expected).all())
        if child == 0:
            os._exit(0 if same else 9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert same
"""


@pytest.mark.triton
def test_forked_process_opens_connections_of_its_own(server):
    command = [sys.executable, "-c", FORK, server.grpc_url, server.http_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_calls_leave_nothing_in_memory(server, protocol):
    def connections():
        gc.collect()
        return sum(type(entry) in (Link, Session) for entry in gc.get_objects())

    before = connections()
    for _ in range(3):
        TritonDetector(url(server, protocol), "table").energy(table(200))
    assert connections() <= before


@pytest.mark.triton
def test_calls_within_a_block_ask_once_what_is_served(server, monkeypatch):
    describe, asked = Link.describe, []

    def counting(*arguments, **options):
        asked.append(arguments)
        return describe(*arguments, **options)

    monkeypatch.setattr(Link, "describe", counting)
    with TritonDetector(server.grpc_url, "table") as served:
        for _ in range(3):
            served.energy(table(2))
    assert len(asked) == 1


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_blocks_within_a_block_share_its_connections(server, protocol):
    served = TritonDetector(url(server, protocol), "table", shared_memory=True)
    with served:
        served.energy(table(200))
        threads = workers()
        with contextlib.suppress(ServerError), served:
            served.energy(table(200))
            raise ServerError("that ends the inner block")
        assert workers()[: len(threads)] == threads  # the inner block has closed nothing
        assert len(workers()) <= served.concurrency
        with served:
            served.close()
            assert not workers()
        served.energy(table(2))
    assert not workers()
    with served:
        assert served.energy(table(2)).shape == (2,)


@pytest.mark.triton
def test_changed_parameters_count_within_a_block(server):
    with TritonDetector(server.grpc_url, "table") as served:
        served.energy(table(2))
        served.set_params(model="absent", retries=0)
        with pytest.raises(ServerError, match="absent"):
            served.energy(table(2))
        served.close()
        assert served.set_params(model="table").energy(table(2)).shape == (2,)


# --- what is refused here -------------------------------------------------------------------

REFUSED = [
    pytest.param("nameless", lambda x: x[:, :3], r"X has 3 features, but .* expecting 4", id="3"),
    pytest.param("nameless", lambda x: x[0], "Expected 2D array, got 1D", id="one dimension"),
    pytest.param("nameless", lambda x: x[:0], r"Found array with 0 sample\(s\)", id="empty"),
    pytest.param(
        "nameless",
        lambda x: x.astype(str),
        "not compatible with arrays of bytes/strings",
        id="text",
    ),
    pytest.param("nameless", lambda x: x.reshape(-1, 2, 2), r"rows of shape \(2, 2\)", id="2 x 2"),
    pytest.param(
        "nameless", lambda x: np.where(x == x[199, 0], np.nan, x), "row 199", id="nan at the end"
    ),
    pytest.param("nameless", lambda x: x / 0.0, "NaN or infinity", id="infinity"),
    pytest.param("nameless", lambda x: x * 1e300, r"too large for dtype\('float32'\)", id="1e300"),
    pytest.param(
        "table", lambda x: pd.DataFrame(x, columns=[*"abcd"]), "unseen at fit", id="other names"
    ),
    pytest.param(
        "table",
        lambda x: pd.DataFrame(x, columns=["load", *COLUMNS[:3]]),
        "feature names should match",
        id="order of names",
    ),
    pytest.param("pictures", lambda x: np.full((9, 8, 8), 0.5), r"\[0, 255\], got 0.5", id="0.5"),
    pytest.param("pictures", lambda x: np.full((9, 8, 8), 256), r"got 256 in row 0", id="256"),
    pytest.param("pictures", lambda x: np.full((9, 8, 8), -1), r"got -1 in row 0", id="-1"),
    pytest.param("pictures", lambda x: np.zeros((9, 8, 9)), r"\(8, 9\).*\(8, 8\)", id="8 x 9"),
]


@pytest.mark.triton
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(("name", "spoil", "message"), REFUSED)
def test_bad_input_is_refused_before_any_row_is_sent(server, name, spoil, message):
    rows = spoil(table(200).to_numpy(np.float64))
    before = statistics(server, name)
    with pytest.raises(InvalidInputError, match=message):
        TritonDetector(server.grpc_url, name).energy(rows)
    assert (statistics(server, name) == before).all()


@pytest.mark.triton
def test_missing_names_warn_as_scikit_learn_does(server):
    with pytest.warns(UserWarning, match="TritonDetector was fitted with feature names"):
        TritonDetector(server.grpc_url, "table").energy(table(3).to_numpy())
    with pytest.warns(UserWarning, match="TritonDetector was fitted without feature names"):
        TritonDetector(server.grpc_url, "nameless").energy(table(3))


def test_bad_parameters_are_named_together():
    served = TritonDetector(
        NOWHERE,
        "",
        version=1,
        batch_size=0,
        concurrency=0,
        deadline=0,
        request_timeout=None,
        retries=-1,
        shared_memory="yes",
        headers=["a"],
        root_certificates="/no/file.pem",
    )
    with pytest.raises(InvalidParameterError) as caught:
        served.predict(table(1))
    named = {line.split(" must be ")[0] for line in str(caught.value).splitlines()}
    assert named == served.get_params().keys() - {"url", "private_key", "certificate_chain"}
    with pytest.raises(InvalidParameterError, match="deadline must be None or a float > 0, got 0"):
        served.fit(table(1))


@pytest.mark.parametrize(
    ("protocol", "headers", "words"),
    [
        ("grpc", {"x-bin": "b"}, "without -bin at the end.* got the name 'x-bin'"),
        ("grpc", {"X-BIN": "b"}, "got the name 'X-BIN'"),
        ("grpc", {"x!": "b"}, "got the name 'x!'"),
        ("grpc", {"authorization": "Bearer ü"}, "printable ASCII, got another value of 'auth"),
        ("http", {"x": "b", "two words": "b"}, "got the name 'two words'"),
        ("http", {"": "b"}, "got the name ''"),
        ("http", {"x\n": "b"}, "got the name"),
        (
            "http",
            {"x": "secret\r\ny: b"},
            "values of one line of Latin-1, got another value of 'x'",
        ),
        ("http", {"x": "日"}, "got another value of 'x'"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(protocol, headers, words):
    served = TritonDetector(f"{protocol}://localhost:1", "table", headers=headers)
    with pytest.raises(InvalidParameterError, match=f"headers must have names .*{words}") as caught:
        served.energy(table(2))
    assert "secret" not in str(caught.value)


def test_headers_that_can_be_sent_pass():
    check_headers({"X-a.b_1": "~ Bearer", "bin": ""}, "grpc")
    check_headers({"X-bin": "ü\t", "!x": ""}, "http")


@pytest.mark.parametrize("version", ["\u0661", "-1", "1.0", " 1"])
def test_versions_that_are_no_numbers_are_refused(version):
    with pytest.raises(InvalidParameterError, match=f"version must be a number .*{version!r}"):
        TritonDetector(NOWHERE, "table", version=version).fit(None)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("limit", ["request_timeout", "deadline"])
def test_limits_beyond_what_clocks_count_are_no_limits(server, protocol, limit):
    served = TritonDetector(url(server, protocol), "table", retries=0, **{limit: 1e300})
    assert served.energy(table(2)).shape == (2,)


def test_unknown_output_is_refused():
    with pytest.raises(InvalidParameterError, match="got 'scores'"):
        TritonDetector(NOWHERE, "m").outputs(table(1), "scores")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_missing_client_library_is_named(protocol, monkeypatch):
    monkeypatch.setitem(sys.modules, f"tritonclient.{protocol}", None)
    served = TritonDetector(f"{protocol}://{NOWHERE}", "m")
    remedy = rf"needs tritonclient\[{protocol}\]: pip install 'ebgan-detect\[triton\]'"
    with pytest.raises(MissingDependencyError, match=remedy):
        served.energy(table(1))


def test_client_library_is_imported_when_it_is_needed():
    code = """
import sys
import ebgan_detect.serving
ebgan_detect.serving.TritonDetector("localhost:1", "m").fit(None)
assert not {"tritonclient", "grpc", "gevent"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("given", "protocol", "target", "secure", "local"),
    [
        ("localhost:8001", "grpc", "localhost:8001", False, True),
        ("grpc://10.0.0.1:8001", "grpc", "10.0.0.1:8001", False, False),
        ("grpcs://[::1]:8001", "grpc", "[::1]:8001", True, True),
        ("http://127.0.0.2:8000/", "http", "127.0.0.2:8000", False, True),
        ("https://a.example:443/some/path", "http", "a.example:443/some/path", True, False),
        ("unix:/run/triton.sock", "grpc", "unix:/run/triton.sock", False, True),
    ],
)
def test_url_says_protocol_and_place(given, protocol, target, secure, local):
    assert Address.parse(given) == Address(given, protocol, target, secure=secure, is_local=local)


@pytest.mark.parametrize(
    "given",
    [
        "localhost",
        "grpc://localhost",
        "ftp://localhost:21",
        "http://:8000",
        "http://localhost:port",
        "http://localhost:99999",
        "http://localhost:8000?x=1",
        "grpc://localhost:8001/path",
        "http://user:secret@localhost:8000",
        "http://[::1:8000",
    ],
)
def test_other_urls_are_refused(given):
    with pytest.raises(InvalidParameterError, match="url must") as caught:
        TritonDetector(given, "m").energy(table(1))
    assert "secret" not in str(caught.value)


# --- what the server refuses ----------------------------------------------------------------


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("absent", "", "unknown model: 'absent'"),
        ("table", "7", "version 7"),
        (
            "foreign",
            "",
            "model 'foreign' must be one that export_triton wrote.*'ebgan_detect.format'",
        ),
        ("newer", "", r"has format 2, this version calls up to 1; upgrade ebgan-detect"),
    ],
)
def test_wrong_model_is_named(server, protocol, name, version, message):
    served = TritonDetector(url(server, protocol), name, version=version)
    with pytest.raises(ServerError, match=message) as caught:
        served.energy(table(1))
    assert str(caught.value).startswith(url(server, protocol))
    assert caught.value.rows_done is None
    assert isinstance(caught.value.__cause__, ServerError)


@pytest.mark.triton
def test_other_protocol_than_the_ports_is_refused(server):
    as_http = TritonDetector(f"http://127.0.0.1:{server.grpc_port}", "table", retries=0)
    with pytest.raises(ServerError, match="does not speak HTTP"):
        as_http.energy(table(1))
    as_grpc = TritonDetector(f"127.0.0.1:{server.http_port}", "table", retries=0)
    with pytest.raises(ServerError, match="failed to connect"):
        as_grpc.energy(table(1))


def raw_http(server, name, body, header_length=None):
    """Send a body as it is; return status and text."""
    request = urllib.request.Request(f"{server.http_url}/v2/models/{name}/infer", data=body)
    if header_length is not None:
        request.add_header("Inference-Header-Content-Length", str(header_length))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def json_body(rows, *, shape=None, datatype="FP32"):
    data = np.asarray(rows)
    tensor = {"name": "input", "shape": shape or data.shape, "datatype": datatype}
    return json.dumps({"inputs": [tensor | {"data": data.ravel().tolist()}]}).encode()


BAD_BODIES = [
    pytest.param("table", json_body(np.zeros((2, 3))), "Expected [-1,4], got [2,3]", id="shape"),
    pytest.param("table", json_body(np.zeros((2, 4, 1))), "Expected [-1,4]", id="rank"),
    pytest.param("table", json_body(np.zeros((65, 4))), "batch-size must be <= 64", id="batch"),
    pytest.param("table", json_body(np.zeros((0, 4))), "Expected 16, got 0", id="empty batch"),
    pytest.param("table", json_body(np.zeros((2, 4)), datatype="FP64"), "FP64", id="type"),
    pytest.param("table", json_body(np.zeros((2, 4)), shape=[3, 4]), "Shape does", id="too short"),
    pytest.param("table", b"", "", id="nothing"),
    pytest.param("table", b'{"inputs": [', "failed to parse", id="half JSON"),
    pytest.param("absent", json_body(np.zeros((2, 4))), "unknown model", id="model"),
]


@pytest.mark.triton
@pytest.mark.parametrize(("name", "body", "message"), BAD_BODIES)
def test_server_refuses_bad_bodies_and_keeps_serving(server, detectors, name, body, message):
    status, text = raw_http(server, name, body)
    assert status in (400, 404, 500), text
    assert message in text
    check_serving(server, detectors)


@pytest.mark.triton
def test_server_survives_a_body_that_breaks_off(server, detectors):
    body = json_body(np.zeros((2, 4)))
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        head = f"POST /v2/models/table/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body[: len(body) // 2])
    status, text = raw_http(server, "table", body[:40], header_length=39)
    assert status in (400, 500), text
    check_serving(server, detectors)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("table", np.zeros((2, 3), np.float32), "unexpected shape"),
        ("table", np.zeros((65, 4), np.float32), "batch-size must be <= 64"),
        ("table", np.zeros((2, 4), np.float64), "data-type"),
        ("pictures", np.zeros((2, 8, 8), np.float32), "data-type"),
        ("absent", np.zeros((2, 4), np.float32), "unknown model"),
    ],
    ids=["shape", "batch", "float64", "float32 for uint8", "model"],
)
def test_server_refuses_bad_grpc_requests_and_keeps_serving(server, detectors, name, rows, message):
    grpc = pytest.importorskip("tritonclient.grpc")
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype

    tensor = grpc.InferInput("input", rows.shape, np_to_triton_dtype(rows.dtype))
    tensor.set_data_from_numpy(rows)
    with (
        grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client,
        pytest.raises(InferenceServerException, match=message) as caught,
    ):
        client.infer(name, [tensor])
    assert caught.value.status() in ("StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND")
    check_serving(server, detectors)


@pytest.mark.triton
def test_nan_in_a_raw_request_spoils_its_own_row_only(server, detectors):
    grpc = pytest.importorskip("tritonclient.grpc")
    rows = table(5, seed=7).to_numpy().copy()
    rows[1, 0], rows[3, 2] = np.nan, np.inf
    tensor = grpc.InferInput("input", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        answer = client.infer("table", [tensor])
    energy, label = (answer.as_numpy(key)[:, 0] for key in ("energy", "label"))
    assert np.isposinf(energy).tolist() == [False, True, False, True, False]
    assert label[[1, 3]].tolist() == [-1, -1]
    expected = detectors["table"].energy(table(5, seed=7))
    np.testing.assert_allclose(energy[[0, 2, 4]], expected[[0, 2, 4]], rtol=1e-5)


def check_serving(server, detectors):
    assert server.ready()
    answer = TritonDetector(server.grpc_url, "table").energy(table(3))
    np.testing.assert_allclose(answer, detectors["table"].energy(table(3)), rtol=1e-5)


# --- shared memory --------------------------------------------------------------------------


def test_shared_memory_is_for_local_servers_unless_asked_for():
    from ebgan_detect.serving.link import MemoryUse

    def use(place, shared_memory):
        settings = TritonDetector(place, "m", shared_memory=shared_memory)._settings()
        return MemoryUse.of(settings)

    assert use("localhost:1", "auto") == MemoryUse(wanted=True, required=False)
    assert use("far.example:1", "auto") == MemoryUse(wanted=False, required=False)
    assert use("far.example:1", True) == MemoryUse(wanted=True, required=True)
    assert use("localhost:1", False) == MemoryUse(wanted=False, required=False)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_regions_are_registered_while_connections_last_and_unregistered_after(server, protocol):
    def registered():
        request = f"{server.http_url}/v2/systemsharedmemory/status"
        with urllib.request.urlopen(request) as answer:
            return {entry["name"] for entry in json.load(answer)}

    before = registered()
    place = url(server, protocol)
    with TritonDetector(place, "table", shared_memory=True, concurrency=2) as served:
        served.energy(table(3))
        served.energy(table(300))
        during = registered() - before
        assert 1 <= len(during) <= 2
        assert during == regions()
    assert registered() == before
    with pytest.raises(InvalidInputError):
        TritonDetector(place, "table", shared_memory=True).energy(table(1) * np.nan)
    assert registered() == before


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_without_room_for_shared_memory_rows_go_another_way(
    server, detectors, protocol, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    rows = np.tile(pictures(64), (20, 1, 1))
    monkeypatch.setattr("ebgan_detect.serving.link.WORTH_SHARING", 1)
    answer = TritonDetector(url(server, protocol), "pictures").energy(rows)
    np.testing.assert_allclose(answer, detectors["pictures"].energy(rows), rtol=1e-5)
    forced = TritonDetector(url(server, protocol), "pictures", shared_memory=True)
    with pytest.raises(ServerError, match=r"No space left.*; give shared_memory=False"):
        forced.energy(rows)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_server_that_cannot_open_the_region_is_served_another_way(
    server, detectors, protocol, monkeypatch
):
    """As in a container of its own: the region's key means nothing to the server."""
    from ebgan_detect.serving import region

    class Elsewhere(region.Region):
        key = property(lambda self: "ebgan_detect_elsewhere", lambda self, value: None)

    monkeypatch.setattr("ebgan_detect.serving.link.Region", Elsewhere)
    monkeypatch.setattr("ebgan_detect.serving.link.WORTH_SHARING", 1)
    answer = TritonDetector(url(server, protocol), "table").energy(table(200))
    np.testing.assert_allclose(answer, detectors["table"].energy(table(200)), rtol=1e-5)
    with pytest.raises(ServerError, match=r"shared memory cannot be used: .*shared_memory=False"):
        TritonDetector(url(server, protocol), "table", shared_memory=True).energy(table(200))


# --- TLS and headers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key, and a certificate for 127.0.0.1 that it signed itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    kind = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    outputs = ["-out", files[0], "-keyout", files[1]]
    subprocess.run(["openssl", *kind, *outputs], check=True, capture_output=True)
    return files


@pytest.fixture(scope="module")
def guarded_server(triton_server, repository, certificate):
    """A server that speaks TLS on its gRPC port and wants a secret header for inference."""
    chain, key = certificate
    return triton_server(
        repository,
        options=[
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={chain}",
            f"--grpc-server-key={key}",
            "--grpc-restricted-protocol=inference:secret=tell",
            "--http-restricted-api=inference:secret=tell",
        ],
    )


def tls_proxy(certificate, port):
    """A port that takes TLS off what it passes on."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    def serve(connection):
        with (
            context.wrap_socket(connection, server_side=True) as outer,
            socket.create_connection(("127.0.0.1", port)) as inner,
        ):
            back = threading.Thread(target=pump, args=(inner, outer))
            back.start()
            pump(outer, inner)
            back.join()

    return listener(serve)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.triton
def test_grpc_travels_through_tls_with_headers(guarded_server, detectors, certificate):
    place = f"grpcs://127.0.0.1:{guarded_server.grpc_port}"
    options = {"root_certificates": certificate[0], "retries": 0}
    served = TritonDetector(
        place, "table", headers={"Triton-Grpc-Protocol-Secret": "tell"}, **options
    )
    np.testing.assert_allclose(
        served.energy(table(200)), detectors["table"].energy(table(200)), rtol=1e-5
    )
    with pytest.raises(ServerError, match=r"restricted.*; 0 of 200 rows were done"):
        clone(served).set_params(headers=None).energy(table(200))
    with pytest.raises(ServerError, match=r"(?i)certificate|handshake"):
        clone(served).set_params(root_certificates=None).energy(table(200))


@pytest.mark.triton
def test_http_travels_through_tls_with_headers(guarded_server, detectors, certificate):
    with tls_proxy(certificate, guarded_server.http_port) as port:
        place = f"https://127.0.0.1:{port}"
        options = {"root_certificates": certificate[0], "retries": 0}
        served = TritonDetector(place, "table", headers={"secret": "tell"}, **options)
        np.testing.assert_allclose(
            served.energy(table(200)), detectors["table"].energy(table(200)), rtol=1e-5
        )
        # The server may hang up before it has read what it refuses.
        with pytest.raises(ServerError, match="; 0 of 200 rows were done"):
            clone(served).set_params(headers=None).energy(table(200))
        with pytest.raises(ServerError, match=r"(?i)certificate"):
            clone(served).set_params(root_certificates=None).energy(table(200))


# --- command line ---------------------------------------------------------------------------


def score(*arguments):
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


@pytest.mark.triton
def test_score_command_asks_a_server(server, detectors, tmp_path):
    rows = tmp_path / "rows.csv"
    table(150, seed=8).to_csv(rows, index=False)
    model = tmp_path / "model.ebgan"
    save(detectors["table"], model)
    there = score(rows, "--triton", server.http_url, "--model-name", "table")
    here = score(rows, "--model", model)
    assert there.exit_code == here.exit_code == 0
    assert there.stderr == here.stderr
    for line, other in zip(
        csv.DictReader(there.stdout.splitlines()),
        csv.DictReader(here.stdout.splitlines()),
        strict=True,
    ):
        assert line.keys() == other.keys()
        assert (line["line"], line["label"]) == (other["line"], other["label"])
        for key in ("score", "decision", "p_value"):
            assert float(line[key]) == pytest.approx(float(other[key]), rel=1e-5, abs=1e-4)


@pytest.mark.triton
def test_score_command_names_columns_and_models_that_do_not_fit(server, tmp_path):
    rows = tmp_path / "rows.csv"
    table(5).rename(columns={"load": "weight"}).to_csv(rows, index=False)
    result = score(rows, "--triton", server.grpc_url, "--model-name", "table")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no column 'load'" in result.stderr
    result = score(rows, "--triton", server.grpc_url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "unknown model: 'energy'" in result.stderr


def test_score_command_wants_a_file_or_a_server(tmp_path):
    rows = tmp_path / "rows.csv"
    table(5).to_csv(rows, index=False)
    for arguments in ([], ["--model", "m.ebgan", "--triton", NOWHERE]):
        result = score(rows, *arguments)
        assert result.exit_code == 2
        assert "either --model FILE or --triton URL" in result.stderr

"""Whatever becomes of the server, a call ends with every row right or names the rows that are."""

import copy
import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from served_models import copy_model, export, fit, listener, regions, table, workers

from ebgan_detect import InvalidInputError, ServerError
from ebgan_detect.serving import TritonDetector, connections
from ebgan_detect.serving.call import Call
from ebgan_detect.serving.flight import Flight
from ebgan_detect.serving.link import Link
from ebgan_detect.serving.results import Results
from ebgan_detect.serving.served import ServedModel
from ebgan_detect.serving.session import Session
from ebgan_detect.serving.transport import Answer
from ebgan_detect.serving.workers import Workers

pytestmark = pytest.mark.triton

N = 100_000
ROUTES = [
    pytest.param("grpc", False, id="grpc"),
    pytest.param("http", False, id="http"),
    pytest.param("grpc", True, id="grpc-shared-memory"),
    pytest.param("http", True, id="http-shared-memory"),
]
SLEEPER = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(r, "input").as_numpy() for r in requests]
        if any((array > 1e6).any() for array in rows):
            time.sleep(3)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("energy", np.ones(len(a), np.float32))])
            for a in rows
        ]
"""


@pytest.fixture(scope="module")
def detector():
    return fit(table(200).to_numpy().copy())


@pytest.fixture(scope="module")
def models(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    export(detector, folder, "table", max_batch_size=256)
    return folder


@pytest.fixture
def repository(models, tmp_path):
    """A copy that the test may spoil."""
    return shutil.copytree(models, tmp_path / "models")


@pytest.fixture
def own_server(triton_server, repository):
    """Function that starts a server of that copy, for this test alone."""
    started = []

    def start(**options):
        started.append(triton_server(repository, **options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def server_of_all(triton_server, models, triton_backend):
    return triton_server(models, backend=triton_backend)


@pytest.fixture
def server(server_of_all):
    """A server that runs, whatever the test before has done to it."""
    return server_of_all if server_of_all.ready() else server_of_all.restart()


@pytest.fixture(scope="module")
def rows():
    return table(N, seed=1).to_numpy().copy()


@pytest.fixture(scope="module")
def expected(detector, rows):
    return detector.energy(rows)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind():
    """Threads and shared memory are gone after every test."""
    shared = regions()
    yield
    assert not workers()
    assert regions() <= shared


class Feed(torch.utils.data.Dataset):
    """Rows that cause an event when the client reads row number N / 2 in order to send it.

    `sent` says how many were handed out to be sent before.
    """

    def __init__(self, rows, event):
        self.rows = rows
        self.event = event
        self.passes = 0
        self.sent = 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]

    def __getitems__(self, numbers):
        # The first pass looks for nan, and nothing has been sent before it ends.
        self.passes += numbers[0] == 0
        if self.passes == 2 and self.event is not None and N // 2 in numbers:
            event, self.event = self.event, None
            self.sent = numbers[0]
            event()
        return self.rows[numbers]


def answered(server, name="table"):
    """Rows that the running server process has answered."""
    with urllib.request.urlopen(f"{server.http_url}/v2/models/{name}/stats") as answer:
        (found,) = json.load(answer)["model_stats"]
    return found["inference_count"]


def url(server, protocol):
    return getattr(server, f"{protocol}_url")


def crash(server):
    """Kill the server and its helpers, which would linger where it comes back at once."""
    os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def background():
    """Run something beside the test, which waits for it at its end."""
    with ThreadPoolExecutor() as pool:
        started = []
        yield lambda function: started.append(pool.submit(function))
        for future in started:
            future.result()


# --- a server that dies ---------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "shared_memory"), ROUTES)
def test_call_outlives_a_server_that_is_killed_and_restarted(
    server, rows, expected, background, protocol, shared_memory
):
    first = server.pid

    def kill_and_restart():
        crash(server)
        background(server.restart)

    feed = Feed(rows, kill_and_restart)
    served = TritonDetector(
        url(server, protocol), "table", shared_memory=shared_memory, retries=50, deadline=100
    )
    np.testing.assert_allclose(served.energy(feed), expected, rtol=1e-5)
    assert server.pid != first
    assert feed.event is None
    # Both processes had their part in the one call.
    assert N // 4 < answered(server) < 3 * N // 4


@pytest.mark.parametrize(("protocol", "shared_memory"), ROUTES)
def test_call_to_a_server_that_stays_dead_names_the_rows_done(
    server, rows, expected, protocol, shared_memory
):
    feed = Feed(rows, lambda: crash(server))
    served = TritonDetector(url(server, protocol), "table", shared_memory=shared_memory, retries=2)
    with pytest.raises(ServerError, match=r"tried 3 times.*; \d+ of 100000 rows were done") as info:
        served.outputs(feed, "energy", "label")
    check_partial(info.value, expected)


def check_partial(error, expected):
    """What an error carries is right, and there is some of it."""
    done, partial = error.rows_done, error.partial_result
    assert f"{done.sum()} of {len(done)} rows" in str(error)
    assert N // 4 < done.sum() < 3 * N // 4
    np.testing.assert_allclose(partial["energy"][done], expected[done], rtol=1e-5)
    assert np.isnan(partial["energy"][~done]).all()
    assert (np.abs(partial["label"]) == done).all()


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_call_fails_when_another_model_comes_back(
    own_server, repository, rows, background, monkeypatch, protocol, seen
):
    server = own_server()
    infer, received = Link.infer, []

    def counting(*arguments, **options):
        answer = infer(*arguments, **options)
        received.append(len(answer.values["energy"]))
        return answer

    def replace_model():
        if not seen:  # nothing may be in flight that could break off
            wait_until(lambda: sum(received) == feed.sent)
        crash(server)
        for file in ("config.pbtxt", "configs/python.pbtxt"):
            path = repository / "table" / file
            head, key, tail = path.read_text().partition('"ebgan_detect.training_digest"')
            path.write_text(head + key + tail.replace('string_value: "', 'string_value: "0', 1))
        if seen:
            background(server.restart)
        else:
            server.restart()

    monkeypatch.setattr(Link, "infer", counting)
    feed = Feed(rows, replace_model)
    served = TritonDetector(
        url(server, protocol),
        "table",
        shared_memory=False,
        retries=50 if seen else 0,
        concurrency=4 if seen else 1,
    )
    with pytest.raises(ServerError, match="another model is served") as info:
        served.energy(feed)
    # No row can be told to be of the one model or of the other.
    assert not info.value.rows_done.any()
    assert np.isnan(info.value.partial_result["energy"]).all()
    assert served.energy(rows[:10]).shape == (10,)


def test_call_fails_when_a_new_version_takes_over(own_server, repository, rows, expected):
    server = own_server(mode="poll")

    def add_version():
        folder = repository / "table"
        shutil.copytree(folder / "1", repository.parent / "staged")
        (repository.parent / "staged").rename(folder / "2")
        wait_for_second_version(server)

    with TritonDetector(server.grpc_url, "table") as served:
        with pytest.raises(ServerError, match="version 2 answers, version 1 did") as info:
            served.energy(Feed(rows, add_version))
        assert not info.value.rows_done.any()
        np.testing.assert_allclose(served.energy(rows), expected, rtol=1e-5)


@pytest.mark.parametrize("scored", [True, False], ids=["scored", "only described"])
def test_facts_and_scores_within_a_block_follow_a_new_version(
    own_server, repository, detector, rows, scored
):
    server = own_server(mode="poll")
    newer = fit(2 * rows[:200])
    assert newer.offset_ != detector.offset_
    with TritonDetector(server.grpc_url, "table") as served:
        assert served.offset_ == detector.offset_
        if scored:
            served.energy(rows[:10])
        with pytest.raises(InvalidInputError):
            served.energy(rows[:10, :3])
        export(newer, repository, "table", max_batch_size=256)
        wait_for_second_version(server)
        assert served.offset_ == newer.offset_
        decision = served.decision_function(rows[:10])
        np.testing.assert_allclose(
            decision, served.score_samples(rows[:10]) - served.offset_, rtol=1e-5, atol=1e-5
        )
        # Several requests are answered only if the new version is the one that is expected.
        np.testing.assert_allclose(served.energy(rows[:600]), newer.energy(rows[:600]), rtol=1e-5)


def test_call_fails_when_its_version_gets_another_threshold(own_server, repository, detector, rows):
    server = own_server(mode="poll")
    stricter = copy.deepcopy(detector)
    stricter.offset_ /= 2

    def replace_version():
        export(stricter, repository, "table", version=1, overwrite=True, max_batch_size=None)
        wait_until(lambda: told_offset(server) == stricter.offset_)

    with pytest.raises(ServerError, match="another model is served") as info:
        TritonDetector(server.grpc_url, "table").predict(Feed(rows, replace_version))
    assert not info.value.rows_done.any()
    assert TritonDetector(server.grpc_url, "table").offset_ == stricter.offset_


def told_offset(server):
    """Threshold in the configuration that the server has loaded."""
    with urllib.request.urlopen(f"{server.http_url}/v2/models/table/config") as answer:
        return float(json.load(answer)["parameters"]["ebgan_detect.offset"]["string_value"])


@pytest.mark.parametrize("changed", [{"digest": "2:b"}, {"offset": -2.0}, {"input_shape": (5,)}])
def test_another_digest_threshold_or_shape_is_another_model(changed):
    model = ServedModel("1", 64, (4,), np.dtype(np.float32), -1.0, None, "2:a", 20)
    assert model.may_be(replace(model, version="2"))
    assert not model.may_be(replace(model, **changed))
    unknown = replace(model, digest=None, offset=None)
    assert unknown.may_be(model)
    assert model.may_be(unknown)


def test_threshold_is_the_one_of_the_version_that_answers(own_server, repository, detector, rows):
    newer = fit(2 * rows[:200])
    export(newer, repository, "table")
    export(detector, repository, "table", version=1, overwrite=True)
    served = TritonDetector(own_server().http_url, "table")
    np.testing.assert_allclose(served.energy(rows[:9]), newer.energy(rows[:9]), rtol=1e-5)
    assert served.offset_ == newer.offset_


def wait_for_second_version(server):
    """Wait until it has taken over."""
    versions = f"{server.http_url}/v2/models/table/versions"
    wait_until(lambda: status(f"{versions}/2/ready") == 200)
    wait_until(lambda: status(f"{versions}/1/ready") != 200)


def status(place):
    try:
        with urllib.request.urlopen(place) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("protocol", "shared_memory"), ROUTES)
def test_kept_connections_outlive_a_restart_between_calls(
    server, rows, expected, protocol, shared_memory
):
    place = url(server, protocol)
    with TritonDetector(place, "table", shared_memory=shared_memory, retries=20) as served:
        np.testing.assert_allclose(served.energy(rows[:300]), expected[:300], rtol=1e-5)
        crash(server)
        server.restart()
        np.testing.assert_allclose(served.energy(rows[:300]), expected[:300], rtol=1e-5)


def test_callers_of_a_dying_server_are_all_served(server, rows, expected, background):
    before = answered(server)
    crashed = threading.Event()

    def kill_and_restart():
        crash(server)
        crashed.set()
        background(server.restart)

    def call(number):
        part = slice(number * N // 8, (number + 1) * N // 8)
        np.testing.assert_allclose(served.energy(rows[part]), expected[part], rtol=1e-5)
        return crashed.is_set()

    with (
        TritonDetector(server.grpc_url, "table", retries=50, deadline=100) as served,
        ThreadPoolExecutor(8) as callers,
    ):
        calls = [callers.submit(call, number) for number in range(8)]
        wait_until(lambda: answered(server) > before + N // 8)
        kill_and_restart()
        assert any(future.result() for future in calls)
    assert 0 < answered(server) < N


def test_answers_that_arrive_after_a_failure_are_kept():
    def late(_):
        failed.wait()
        return Answer("1", {"energy": np.full(2, 0.5, np.float32)})

    def fail(_):
        failed.set()
        raise ServerError("no")

    failed = threading.Event()
    results = Results(4, ["energy"], None)
    link = SimpleNamespace(close=lambda: None)
    pool = Workers(2, lambda: link)
    flight = Flight(pool, Call(None, 1.0), results)
    flight.send(late, slice(2, 4))
    flight.send(fail, slice(0, 2))
    with pytest.raises(ServerError, match="no") as info:
        flight.land()
    flight.cancel()
    flight.salvage(info.value)
    pool.close()
    assert results.done.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(results.values["energy"], [np.nan, np.nan, 0.5, 0.5])


# --- connections that are closed during a call ----------------------------------------------


def test_closed_workers_finish_what_they_have_and_take_no_more():
    free = threading.Event()
    links = []

    def connect():
        links.append(SimpleNamespace(open=True))
        links[-1].close = lambda link=links[-1]: setattr(link, "open", False)
        return links[-1]

    pool = Workers(2, connect)
    first = pool.submit(lambda _: free.wait())
    closer = threading.Thread(target=pool.close, daemon=True)
    closer.start()
    wait_until(lambda: not pool._threads)
    with pytest.raises(ServerError, match="connections were closed during the call; call again"):
        pool.submit(lambda _: None)
    free.set()
    closer.join(10)
    assert not closer.is_alive()
    assert first.result(0)
    assert [link.open for link in links] == [False]


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_closing_from_another_thread_ends_a_call_and_keeps_its_answers(
    server, rows, expected, protocol
):
    served = TritonDetector(url(server, protocol), "table").__enter__()
    reached = threading.Event()

    def wait_for_the_other():
        reached.set()
        wait_until(lambda: "_open" not in vars(served))

    with ThreadPoolExecutor(1) as caller:
        feed = Feed(rows, wait_for_the_other)
        call = caller.submit(served.outputs, feed, "energy", "label")
        assert reached.wait(30)
        served.close()
        with pytest.raises(ServerError, match="connections were closed during the call") as info:
            call.result(30)
    check_partial(info.value, expected)
    np.testing.assert_allclose(served.energy(rows[:20]), expected[:20], rtol=1e-5)


def test_block_that_begins_while_another_ends_keeps_its_connections(monkeypatch):
    served = TritonDetector("grpc://localhost:1", "table", retries=0)
    begun, closed = [], []

    class Entrance:
        """The lock of blocks, at whose release another thread begins one."""

        def __init__(self):
            self.lock = threading.Lock()

        def __enter__(self):
            self.lock.acquire()

        def __exit__(self, *_):
            self.lock.release()
            if ending and not begun:
                begun.append(True)
                served.__enter__()

    ending = []
    monkeypatch.setattr(connections, "_ENTRANCE", Entrance())
    monkeypatch.setattr(Session, "close", lambda session, *, wait: closed.append(session))
    with served:
        first = served._open
        ending.append(True)
    assert begun
    assert closed == [first]
    second = served._open
    assert second is not first
    served.close()
    assert closed == [first, second]


# --- a server that does not answer ----------------------------------------------------------


@pytest.fixture(scope="module")
def sleepy_server(triton_server, models, tmp_path_factory):
    """Models that take three seconds over large numbers, and a good one."""
    folder = shutil.copytree(models, tmp_path_factory.mktemp("sleepy") / "models")
    for name in ("sleeper", "another_sleeper"):
        copy_model(folder, "table", name, model=SLEEPER)
    return triton_server(folder)


@pytest.mark.parametrize(("protocol", "shared_memory"), ROUTES)
def test_deadline_ends_a_call_that_hangs(sleepy_server, rows, expected, protocol, shared_memory):
    served = TritonDetector(
        url(sleepy_server, protocol), "sleeper", shared_memory=shared_memory, deadline=1.0
    )
    began = time.monotonic()
    with pytest.raises(ServerError, match="; 0 of 300 rows were done"):
        served.energy(rows[:300] + 1e7)
    assert 0.9 < time.monotonic() - began < 10
    # The server neither crashed nor holds the rest of its work up.
    other = TritonDetector(url(sleepy_server, protocol), "table", shared_memory=shared_memory)
    np.testing.assert_allclose(other.energy(rows[:300]), expected[:300], rtol=1e-5)


def test_one_answer_has_a_time_limit_of_its_own(sleepy_server, rows):
    served = TritonDetector(sleepy_server.grpc_url, "sleeper", request_timeout=0.5)
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer within 0.5 s; raise .*request_timeout"):
        served.energy(rows[:10] + 1e7)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("protocol", "shared_memory"), ROUTES)
def test_kept_connections_work_again_after_a_deadline(sleepy_server, rows, protocol, shared_memory):
    place = url(sleepy_server, protocol)
    with TritonDetector(place, "another_sleeper", shared_memory=shared_memory) as served:
        served.set_params(deadline=20.0)
        assert (served.energy(rows[:10]) == 1).all()
        served.set_params(deadline=1.0)
        with pytest.raises(ServerError, match="; 0 of 10 rows were done"):
            served.energy(rows[:10] + 1e7)
        served.set_params(deadline=20.0)
        assert (served.energy(rows[:10]) == 1).all()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_interrupt_does_not_wait_for_a_server_that_hangs(sleepy_server, rows, protocol):
    served = TritonDetector(url(sleepy_server, protocol), "sleeper")
    feed = Feed(rows[:1000] + 1e7, None)
    timer = threading.Timer(0.7, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        served.energy(feed)
    assert workers()  # what was under way still is
    timer.join()
    # The server may still sleep for each request that earlier tests gave up.
    wait_until(lambda: not workers(), seconds=90)


def silent(connection):
    """Read and never answer."""
    while connection.recv(65536):
        pass


def dripping(connection):
    """Answer without end, one byte at a time: a limit for each packet would never be reached."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in itertools.count():
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("protocol", "serve"), [("grpc", silent), ("http", silent), ("http", dripping)]
)
def test_deadline_counts_while_the_server_is_looked_for(protocol, serve, rows):
    with listener(serve) as port:
        began = time.monotonic()
        served = TritonDetector(f"{protocol}://127.0.0.1:{port}", "table", deadline=1.0)
        with pytest.raises(ServerError):
            served.energy(rows[:10])
        assert 0.9 < time.monotonic() - began < 10


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_absent_server_is_tried_a_few_times(protocol, rows):
    place = f"{protocol}://127.0.0.1:1"
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"refused.*; tried 4 times: start the server") as info:
        TritonDetector(place, "table", retries=3).energy(rows[:10])
    assert str(info.value).startswith(place)
    assert time.monotonic() - began > (0.1 + 0.2 + 0.4) / 2
    with pytest.raises(ServerError, match=r"of 2 s has passed, and all the time.*refused"):
        TritonDetector(place, "table", retries=1000, deadline=2.0).energy(rows[:10])


def test_requests_leave_the_callers_random_state_alone(server, rows):
    before = random.getstate()
    TritonDetector(server.grpc_url, "table").energy(rows[:10])
    with pytest.raises(ServerError, match="tried 2 times"):
        TritonDetector("127.0.0.1:1", "table", retries=1).energy(rows[:10])
    assert random.getstate() == before


def test_unknown_host_is_named(rows):
    for protocol in ("grpc", "http"):
        place = f"{protocol}://nowhere.invalid:80"
        with pytest.raises(ServerError, match=r"nowhere\.invalid"):
            TritonDetector(place, "table", retries=0).energy(rows[:10])


@pytest.mark.parametrize(
    ("answer", "message", "expected"),
    [
        (b"", "tried 3 times", 9),  # the HTTP library itself asks three times
        (b"HTTP/1.1 503 Service Unavailable\r\n", r"stopping \(HTTP 503\); tried 3 times", 3),
        (b"HTTP/1.1 400 Bad Request\r\n", r"stopping \(HTTP 400\)$", 1),
        (b"HTTP/1.1 500 Internal Server Error\r\n", r"stopping \(HTTP 500\)$", 1),
        (b"HTTP/1.1 200 OK\r\n", "must be one that export_triton wrote", 1),
    ],
    ids=["hangs up", "503", "400", "500", "200"],
)
def test_only_unavailability_is_tried_again(rows, answer, message, expected):
    requests = []

    def serve(connection):
        requests.append(connection.recv(65536))
        body = b'{"error": "stopping"}'
        if answer:
            connection.sendall(answer + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with listener(serve) as port:
        served = TritonDetector(f"http://127.0.0.1:{port}", "table", retries=2)
        with pytest.raises(ServerError, match=message):
            served.energy(rows[:10])
    assert len(requests) == expected


# --- answers that are wrong -----------------------------------------------------------------

WRONG = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            n = len(pb_utils.get_input_tensor_by_name(request, "input").as_numpy())
            values = {}
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor(name, np.full(n, WRONG[name][0], WRONG[name][1]))
                for name in request.requested_output_names() if name in WRONG
            ]))
        return responses

WRONG = {"energy": (np.nan, np.float32), "label": (3, np.int64), "score": (1.0, np.float64)}
"""


@pytest.fixture(scope="module")
def wrong_server(triton_server, models, tmp_path_factory):
    folder = shutil.copytree(models, tmp_path_factory.mktemp("wrong") / "models")
    copy_model(folder, "table", "wrong", model=WRONG)
    return triton_server(folder)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("energy", "'energy' must be no nan, got nan"),
        ("predict", r"'label' must be \+1 or -1, got 3"),
        ("score_samples", "'score'|data-type|type"),
        ("p_values", "p_value"),
    ],
)
def test_wrong_answers_are_no_scores(wrong_server, rows, protocol, method, message):
    served = TritonDetector(url(wrong_server, protocol), "wrong")
    with pytest.raises(ServerError, match=message) as info:
        getattr(served, method)(rows[:100])
    assert not info.value.rows_done.any()

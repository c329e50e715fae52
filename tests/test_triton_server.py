"""The helper that runs a real server for the other tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import conftest
import pytest

from benchmarks.triton_server import (
    PORTS,
    TritonServer,
    TritonUnavailableError,
    backend_folder,
    free_ports,
    install,
)

pytestmark = pytest.mark.triton


@pytest.fixture
def empty(tmp_path):
    """A repository without models."""
    return tmp_path


def alive(pid):
    """Whether a process runs, zombies not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_server_starts_dies_comes_back_and_stops(triton_server, empty):
    server = triton_server(empty)
    first, ports = server.pid, (server.http_port, server.grpc_port)
    assert server.ready()
    os.kill(first, signal.SIGKILL)
    # A zombie is not enough: it cannot be waited for before the last of its threads has ended.
    assert wait_until(lambda: server.pid is None)
    assert not server.ready()
    server.start()
    assert server.pid != first
    server.restart()
    assert server.ready()
    assert (server.http_port, server.grpc_port) == ports
    assert server.log.count("Started HTTPService") == 3
    second = server.pid
    server.stop()
    assert not alive(second)
    assert server.pid is None


def test_server_that_cannot_start_says_why(triton_server, empty):
    with pytest.raises(TimeoutError, match=r"ended within 30 s:[^$]*no-such-option"):
        triton_server(empty, options=["--no-such-option"])


def test_two_servers_share_a_machine(triton_server, empty):
    one, other = triton_server(empty), triton_server(empty)
    assert one.ready()
    assert other.ready()
    one.stop()
    assert other.ready()
    other.stop()


def test_server_ends_with_the_process_that_started_it(triton_server, empty):
    triton_server(empty).stop()  # or skips
    code = f"""
import time
from benchmarks.triton_server import TritonServer
print(TritonServer({str(empty)!r}).start().pid, flush=True)
time.sleep(60)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with owner:
        pid = int(owner.stdout.readline())
        assert alive(pid)
        owner.kill()
    assert wait_until(lambda: not alive(pid))


def test_second_start_is_refused(triton_server, empty):
    server = triton_server(empty)
    with pytest.raises(RuntimeError, match=f"runs already, as process {server.pid}"):
        server.start()
    server.stop()


def test_ports_lie_below_those_of_outgoing_connections():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port in PORTS and port < lowest for port in ports)


def test_stop_before_start_does_nothing(empty):
    TritonServer(empty).stop()


def test_install_that_fails_says_why_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("EBGAN_TRITON_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / ".installing-killed" / "new").mkdir(parents=True)
    with pytest.raises(TritonUnavailableError, match="cannot install nvidia-pytriton") as caught:
        install()
    assert "ERROR: No matching distribution found" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_second_backend_is_found_in_the_folder_that_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EBGAN_TRITON_BACKENDS", str(tmp_path))
    with pytest.raises(TritonUnavailableError, match=f"got '{tmp_path}'"):
        backend_folder("onnxruntime")
    library = tmp_path / "onnxruntime" / "libtriton_onnxruntime.so"
    library.parent.mkdir()
    library.touch()
    assert backend_folder("onnxruntime") == tmp_path
    command = TritonServer(tmp_path, backend="onnxruntime").command
    assert f"--backend-directory={tmp_path}" in command
    assert not any("--model-config-name" in word for word in command)


@pytest.mark.parametrize(
    ("backends", "required", "outcome"),
    [
        ("missing", "1", pytest.fail.Exception),
        ("missing", "", pytest.skip.Exception),
        ("", "1", pytest.skip.Exception),
    ],
)
def test_missing_backend_skips_or_fails(monkeypatch, backends, required, outcome):
    monkeypatch.setenv("EBGAN_TRITON_BACKENDS", backends)
    monkeypatch.setenv("EBGAN_REQUIRE_TRITON", required)
    with pytest.raises(outcome, match="EBGAN_TRITON_BACKENDS must name a folder"):
        conftest._require_triton("onnxruntime")


def test_missing_server_fails_where_it_is_demanded(monkeypatch, tmp_path):
    monkeypatch.setenv("EBGAN_TRITON_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for required, outcome in (("1", pytest.fail.Exception), ("0", pytest.skip.Exception)):
        monkeypatch.setenv("EBGAN_REQUIRE_TRITON", required)
        with pytest.raises(outcome, match="cannot install"):
            conftest._require_triton("python")

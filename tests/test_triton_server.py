"""The helper that runs a real server for the other tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.triton_server import PORTS, TritonServer, free_ports

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
    assert wait_until(lambda: not alive(first))
    assert not server.ready()
    server.restart()
    assert server.ready()
    assert server.pid != first
    assert (server.http_port, server.grpc_port) == ports
    assert server.log.count("Started HTTPService") == 2
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

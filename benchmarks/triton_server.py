"""A real Triton server without a container: install it once, start, kill and stop it.

The registry's ``nvidia-pytriton`` wheel carries the ``tritonserver`` binary and its Python
backend. Its requirements would pin the project's NumPy, so it lies in a cache folder of its own
(``EBGAN_TRITON_CACHE``, else ``~/.cache/ebgan_detect``) beside a small environment that holds
what a served model imports.

The wheel lacks the ONNX Runtime backend. Where ``EBGAN_TRITON_BACKENDS`` names a folder that
holds ``onnxruntime/libtriton_onnxruntime.so``, that one can be chosen too.

    python -m benchmarks.triton_server              # install only
    python -m benchmarks.triton_server REPOSITORY   # and serve it on ports 8000 to 8002
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import weakref
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Self

__all__ = ["BACKENDS", "TritonServer", "TritonUnavailableError", "backend_folder", "install"]

WHEEL = "nvidia-pytriton==0.7.0"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BACKENDS = ("python", "onnxruntime")
# Below the range that the system gives to outgoing connections: no client takes the port of a
# server that was killed and is about to come back, nor connects to itself there.
PORTS = range(20_000, 32_000)
USUAL_PORTS = (8000, 8001, 8002)
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class TritonUnavailableError(RuntimeError):
    """No such server or backend can run on this machine."""


def install() -> Path:
    """Folder of the server and the environment of its models, installed at the first call."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise TritonUnavailableError("the server's wheel is for Linux on x86_64 only")
    library = f"libpython{PYTHON}.so.1.0"
    if not (Path(sysconfig.get_config_var("LIBDIR")) / library).exists():
        raise TritonUnavailableError(f"the Python backend needs {library}: this Python has none")
    runtime = version("onnxruntime")  # the same as in process, so that the two can be compared
    given = os.environ.get("EBGAN_TRITON_CACHE") or "~/.cache/ebgan_detect"
    cache = Path(given).expanduser().resolve()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"triton-{WHEEL.split('==')[1]}-python-{PYTHON}-onnxruntime-{runtime}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            for unfinished in cache.glob(".installing-*"):
                shutil.rmtree(unfinished)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".installing-") as folder:
                _install_into(Path(folder) / "new", runtime)
                (Path(folder) / "new").rename(target)
    return target


def _install_into(folder: Path, runtime: str) -> None:
    """Fill a folder with the server, a folder of its backend, and the models' environment."""
    python = str(folder / "models" / "bin" / "python")
    pip = ["-m", "pip", "install", "--quiet"]
    steps = [
        [sys.executable, *pip, "--no-deps", "--target", str(folder / "server"), WHEEL],
        [sys.executable, "-m", "venv", str(folder / "models")],
        # Under NumPy 2 this backend hands out wrong values without a word.
        [python, *pip, "numpy<2", f"onnxruntime=={runtime}"],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TritonUnavailableError(f"cannot install {step[-1]}: {done.stderr.strip()}")
    shipped = Path("server/pytriton/tritonserver")
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for file in (
        shipped / "backends/python/libtriton_python.so",
        shipped / "backends/python/triton_python_backend_utils.py",
        shipped / "python_backend_stubs" / PYTHON / "triton_python_backend_stub",
    ):
        (backend / file.name).symlink_to(Path("../..") / file)


def backend_folder(backend: str) -> Path:
    """Folder for ``--backend-directory``; says what is missing where there is none."""
    if backend == "python":
        return install() / "backends"
    folder = Path(os.environ.get("EBGAN_TRITON_BACKENDS", "")).resolve()
    wanted = folder / "onnxruntime" / "libtriton_onnxruntime.so"
    if not wanted.is_file():
        raise TritonUnavailableError(
            "EBGAN_TRITON_BACKENDS must name a folder that holds "
            f"onnxruntime/libtriton_onnxruntime.so, got {os.environ.get('EBGAN_TRITON_BACKENDS')!r}"
        )
    return folder


class TritonServer:
    """One server process over a model repository.

    It ends with `stop`, with the ``with`` block, or with this process, however that ends.

    Parameters
    ----------
    repository : path-like
        Model repository.
    backend : {'python', 'onnxruntime'}, default='python'
        What runs the models: one repository serves both.
    mode : {'none', 'poll', 'explicit'}, default='none'
        Model control mode; a polling server looks every second.
    options : sequence of str, default=()
        Further options of ``tritonserver``.
    ports : sequence of three int, default=None
        Ports for HTTP, gRPC and metrics; free ones by default.
    """

    def __init__(
        self,
        repository: str | os.PathLike[str],
        *,
        backend: str = "python",
        mode: str = "none",
        options: Sequence[str] = (),
        ports: Sequence[int] | None = None,
    ) -> None:
        self.repository = Path(repository).resolve()
        self.backend = backend
        self.mode = mode
        self.options = tuple(options)
        self.http_port, self.grpc_port, self.metrics_port = ports or free_ports()
        self._log = Path(tempfile.mkstemp(prefix="tritonserver-", suffix=".log")[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._finalizer = weakref.finalize(self, self._log.unlink, missing_ok=True)

    @property
    def http_url(self) -> str:
        """Address with a scheme, ``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """Address with a scheme, ``grpc://127.0.0.1:PORT``."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def pid(self) -> int | None:
        """Number of the running process, None while there is none."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running else None

    @property
    def log(self) -> str:
        """All that the server has written, restarts included."""
        return self._log.read_text(errors="replace")

    @property
    def command(self) -> list[str]:
        """The command line, environment included."""
        folder = install()
        libraries = [
            # This Python's own library first: the machine may have another of the same name.
            sysconfig.get_config_var("LIBDIR"),
            folder / "server" / "nvidia_pytriton.libs",
            backend_folder(self.backend) / self.backend,
        ]
        command = [
            *("env", "-i", f"HOME={tempfile.gettempdir()}"),
            f"PATH={folder / 'models' / 'bin'}:/usr/bin:/bin",
            f"LD_LIBRARY_PATH={':'.join(map(str, libraries))}",
            str(folder / "server/pytriton/tritonserver/bin/tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={backend_folder(self.backend)}",
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            f"--model-control-mode={self.mode}",
            *("--http-address=127.0.0.1", f"--http-port={self.http_port}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={self.grpc_port}"),
            *("--metrics-address=127.0.0.1", f"--metrics-port={self.metrics_port}"),
            *("--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"),
            *("--exit-timeout-secs=5", "--disable-auto-complete-config"),
        ]
        if self.backend == "python":
            command.append("--model-config-name=python")
        if self.mode == "poll":
            command.append("--repository-poll-secs=1")
        return [*command, *self.options]

    @property
    def _shared_memory(self) -> str:
        """Beginning of the names in /dev/shm that this server alone uses."""
        return f"ebgan_{os.getpid()}_{self.http_port}_"

    def start(self, timeout: float = 30.0) -> Self:
        """Start the process and wait until it and its models are ready."""
        if self.pid is not None:
            raise RuntimeError(f"the server runs already, as process {self.pid}")
        self.kill()  # clears up after one that ended by itself
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Waits for the end of this process, which closes the pipe, and takes the server along.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", f"read -r _; {self._end}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self.pid is None or time.monotonic() > deadline:
                state = "is not ready" if self.pid else "ended"
                self.kill()
                raise TimeoutError(f"tritonserver {state} within {timeout:g} s:\n{self.log}")
            time.sleep(0.05)
        return self

    def ready(self) -> bool:
        """Whether the server and all its models answer."""
        try:
            with DIRECT.open(f"{self.http_url}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End the server in good order, or by force after ten seconds."""
        if self.pid is not None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self.kill()

    def kill(self) -> None:
        """End the server and its helpers at once, as a crash would (SIGKILL)."""
        if self._process is None:
            return
        subprocess.run(["/bin/sh", "-c", self._end], stderr=subprocess.DEVNULL, check=False)
        self._process.wait()
        self._guard.kill()
        self._guard.wait()
        self._guard.stdin.close()
        self._process = self._guard = None

    @property
    def _end(self) -> str:
        """Shell command that kills the process group and clears what it leaves behind.

        Without its leader the group is left alone: helpers leave by themselves, and the number
        may soon be another's.
        """
        pid = self._process.pid
        return (
            f"grep -qs tritonserver /proc/{pid}/cmdline && kill -9 -{pid}; "
            f"rm -f /dev/shm/{self._shared_memory}*"
        )

    def restart(self, timeout: float = 30.0) -> Self:
        """Start again on the same ports."""
        self.stop()
        return self.start(timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_ports(count: int = 3) -> list[int]:
    """Ports of the loopback interface that nobody listens on, drawn at random."""
    drawn: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        drawn.append(port)
        if len(drawn) == count:
            break
    return drawn


def main() -> None:
    """Install the server, and serve a repository if one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path, nargs="?")
    parser.add_argument("--backend", choices=BACKENDS, default="python")
    parser.add_argument("--mode", choices=["none", "poll", "explicit"], default="poll")
    arguments = parser.parse_args()
    if arguments.repository is None:
        print(install())
        return
    arguments.repository.mkdir(parents=True, exist_ok=True)
    with TritonServer(**vars(arguments), ports=USUAL_PORTS) as server:
        print(f"{server.http_url}\n{server.grpc_url}\nCtrl-C stops the server", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()

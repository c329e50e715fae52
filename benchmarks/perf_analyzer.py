"""Triton's own load generator, as an outside opinion on a served model.

The binary lies in an older wheel of ``tritonclient``, which is fetched once into the cache
folder of `benchmarks.triton_server` and never installed. Two libraries that it needs come from
the server's wheel.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks.triton_server import install as install_server

__all__ = ["load"]

WHEEL = "tritonclient==2.50.0"
BINARY = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


def install() -> Path:
    """Folder of the binary and its libraries, made at the first call."""
    shipped = install_server() / "server" / "nvidia_pytriton.libs"
    target = install_server().parent / WHEEL.replace("==", "-perf-analyzer-")
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".installing-") as name:
            new = Path(name) / "new"
            new.mkdir()
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
            subprocess.run([*pip, "--dest", name], check=True)
            (wheel,) = Path(name).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (new / "perf_analyzer").write_bytes(archive.read(BINARY))
            (new / "perf_analyzer").chmod(0o755)
            for library, pattern in LIBRARIES.items():
                (found,) = shipped.glob(pattern)
                (new / library).symlink_to(found)
            new.rename(target)
    return target


def load(
    model: str, address: str, *, protocol: str, batch: int, clients: int, shared_memory: bool
) -> dict[str, float]:
    """Requests and rows a second, and latencies, as `perf_analyzer` sees them."""
    folder = install()
    libraries = f"{folder}:{install_server() / 'server' / 'nvidia_pytriton.libs'}"
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.csv"
        command = [str(folder / "perf_analyzer"), "-m", model, "-i", protocol, "-u", address]
        command += ["-b", str(batch), "--concurrency-range", f"{clients}:{clients}"]
        # Three windows, whether or not they agree: a shared machine may never settle.
        command += ["--measurement-interval", "3000", "--stability-percentage", "1000"]
        command += ["--async", "-f", str(report)]
        if shared_memory:
            command += ["--shared-memory", "system", "--output-shared-memory-size", "65536"]
        environment = {"LD_LIBRARY_PATH": libraries, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"perf_analyzer failed: {done.stdout[-800:]}{done.stderr[-800:]}")
        with report.open(newline="") as file:
            (row,) = csv.DictReader(file)
    rate = float(row["Inferences/Second"])  # counts rows
    return {
        "requests_per_second": rate / batch,
        "rows_per_second": rate,
        "p50_ms": float(row["p50 latency"]) / 1e3,
        "p99_ms": float(row["p99 latency"]) / 1e3,
    }

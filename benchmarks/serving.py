"""Speed of a served detector beside bare ONNX Runtime, on one machine in one run.

    python -m benchmarks.serving                  # both models
    python -m benchmarks.serving images           # one of them
    python -m benchmarks.serving --perf-analyzer  # with Triton's own load generator too

Server and bare runtime compute with one thread each: the server has one instance of the model
with one thread, and the bare runtime, called from one loop, has one thread too. Clients are
threads of one process, each with a `TritonDetector` that keeps its connection open; they share
the machine with the server. A row of the table is measured in one go, the bare runtime first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks import perf_analyzer
from benchmarks.common import markdown, run_once
from benchmarks.triton_server import BACKENDS, WHEEL, TritonServer
from ebgan_detect import EBGANDetector
from ebgan_detect.export import export_triton
from ebgan_detect.serving import TritonDetector

CLIENTS = (1, 8, 32)
BATCHES = (1, 32, 256)
ROUTES = {
    "gRPC": ("grpc", False),
    "HTTP": ("http", False),
    "shared memory": ("grpc", True),
}
SECONDS = 3.0
REPEATS = 25
OUTPUTS = ("energy", "score", "decision", "label", "p_value")


def images(n: int) -> NDArray[np.uint8]:
    """Pictures of 28 x 28 random pixels: speed does not depend on what they show."""
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def table(n: int) -> NDArray[np.float32]:
    """Rows of 32 columns."""
    return np.random.default_rng(0).normal(size=(n, 32)).astype(np.float32)


MODELS: dict[str, Callable[[int], NDArray[Any]]] = {"images": images, "table": table}


def drive(callers: Sequence[Callable[[], Any]], batch: int) -> dict[str, float]:
    """Call without pause, each caller on its own thread, and measure every call."""
    latencies: list[list[float]] = [[] for _ in callers]
    start = threading.Barrier(len(callers) + 1)

    def work(call: Callable[[], Any], seconds: list[float]) -> None:
        call()
        start.wait()
        now = time.perf_counter()
        end = now + SECONDS
        while now < end:
            call()
            before, now = now, time.perf_counter()
            seconds.append(now - before)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(callers, latencies, strict=True)
    ]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    together = np.concatenate(latencies)
    return {
        "requests_per_second": len(together) / elapsed,
        "rows_per_second": len(together) * batch / elapsed,
        "p50_ms": 1e3 * float(np.percentile(together, 50)),
        "p99_ms": 1e3 * float(np.percentile(together, 99)),
    }


def bare_session(repository: Path, name: str) -> onnxruntime.InferenceSession:
    """ONNX Runtime with one thread on the file that the server has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = repository / name / "1" / "model.onnx"
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def measure_load(
    server: TritonServer, session: onnxruntime.InferenceSession, name: str
) -> list[dict[str, Any]]:
    """Every number of clients and size of batch over every route."""
    cells: list[dict[str, Any]] = []
    for batch in BATCHES:
        rows = MODELS[name](batch)
        for clients in CLIENTS:
            bare = partial(session.run, ["energy"], {"input": rows})
            where = {"batch": batch, "clients": clients}
            cells.append({"route": "bare", **where, **drive([bare], batch)})
            for route, (protocol, shared) in ROUTES.items():
                url = getattr(server, f"{protocol}_url")
                with ExitStack() as stack:
                    detectors = [
                        stack.enter_context(
                            TritonDetector(url, name, concurrency=1, shared_memory=shared)
                        )
                        for _ in range(clients)
                    ]
                    callers = [partial(detector.energy, rows) for detector in detectors]
                    cells.append({"route": route, **where, **drive(callers, batch)})
            print(".", end="", flush=True)
    print()
    return cells


def measure_outputs(
    server: TritonServer, session: onnxruntime.InferenceSession, name: str
) -> dict[str, float]:
    """Time of all answers over that of the energy alone, at the largest batch, taken in turn."""
    rows = MODELS[name](max(BATCHES))
    ratios = {}
    with TritonDetector(server.grpc_url, name, shared_memory=True) as served:
        for place, some, every in (
            (
                "bare",
                partial(session.run, ["energy"], {"input": rows}),
                partial(session.run, list(OUTPUTS), {"input": rows}),
            ),
            (
                "shared memory",
                partial(served.outputs, rows, "energy"),
                partial(served.outputs, rows, *OUTPUTS),
            ),
        ):
            seconds = [(timed(some), timed(every)) for _ in range(REPEATS)]
            alone, together = np.median(seconds, axis=0)
            ratios[place] = float(together / alone)
    return ratios


def timed(action: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure_outside(server: TritonServer, name: str) -> list[dict[str, Any]]:
    """What `perf_analyzer` finds, which asks for all outputs."""
    cells = []
    for batch, clients, protocol, shared in (
        (1, 1, "grpc", False),
        (1, 32, "grpc", False),
        (1, 32, "http", False),
        (256, 1, "grpc", True),
        (256, 8, "grpc", True),
    ):
        port = server.grpc_port if protocol == "grpc" else server.http_port
        figures = perf_analyzer.load(
            name,
            f"127.0.0.1:{port}",
            protocol=protocol,
            batch=batch,
            clients=clients,
            shared_memory=shared,
        )
        route = "shared memory" if shared else {"grpc": "gRPC", "http": "HTTP"}[protocol]
        cells.append({"route": route, "batch": batch, "clients": clients, **figures})
    return cells


def measure(model: str, backend: str, *, outside: bool) -> dict[str, Any]:
    """Fit, export and serve a model, and measure it."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        detector = EBGANDetector(max_epochs=1, margin=1.0, random_state=0, device="cpu")
        export_triton(detector.fit(MODELS[model](1000)), repository, name=model)
        session = bare_session(repository, model)
        with TritonServer(repository, backend=backend) as server:
            cells = measure_load(server, session, model)
            ratios = measure_outputs(server, session, model)
            others = measure_outside(server, model) if outside else []
    return {
        "cells": cells,
        "all_outputs_over_energy": ratios,
        "perf_analyzer": others,
        "load_average_before": round(load_before, 2),
        "cores": os.cpu_count(),
        "server": WHEEL,
        "client_versions": {p: version(p) for p in ("onnxruntime", "tritonclient", "grpcio")},
    }


def report(result: dict[str, Any]) -> str:
    """Figures of one model as Markdown."""
    bare = {
        (cell["batch"], cell["clients"]): cell["rows_per_second"]
        for cell in result["cells"]
        if cell["route"] == "bare"
    }
    header = ["batch", "clients", "route", "requests/s", "rows/s", "over bare", "p50 ms", "p99 ms"]

    def lines(cells: list[dict[str, Any]], suffix: str = "") -> list[list[Any]]:
        return [
            [
                cell["batch"],
                cell["clients"],
                cell["route"] + suffix,
                f"{cell['requests_per_second']:.0f}",
                f"{cell['rows_per_second']:.0f}",
                cell["rows_per_second"] / bare[cell["batch"], cell["clients"]],
                cell["p50_ms"],
                cell["p99_ms"],
            ]
            for cell in cells
        ]

    others = lines(result["perf_analyzer"], " (perf_analyzer)")
    best = max(
        cell["rows_per_second"] / bare[cell["batch"], cell["clients"]]
        for cell in result["cells"]
        if cell["route"] == "shared memory" and cell["batch"] == 256
    )
    costs = ", ".join(f"{k} {v - 1:+.1%}" for k, v in result["all_outputs_over_energy"].items())
    return f"""
### {result["model"]}, {result["backend"]} backend, {result["device"]}, {result["cores"]} cores

{markdown(header, lines(result["cells"]) + others)}

- Batch 256 over shared memory, best number of clients: {best:.3f} of bare (images: wanted 0.8).
- All five outputs instead of the energy alone, at batch 256: {costs} (wanted: at most +5 %).
- Load average before: {result["load_average_before"]}.
"""


def main() -> None:
    """Measure what has not been measured yet, and print it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], help="both by default")
    parser.add_argument("--backend", choices=BACKENDS, default="python")
    parser.add_argument("--perf-analyzer", action="store_true", help="run Triton's own too")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in arguments.models or MODELS:
        what = {"model": name, "backend": arguments.backend}
        action = partial(measure, **what, outside=arguments.perf_analyzer)
        print(report(run_once("serving", what, action)))


if __name__ == "__main__":
    main()

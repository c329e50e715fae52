"""What every benchmark shares: data, one JSON file for each run, tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from ebgan_detect.errors import TrainingInterruptedWarning
from ebgan_detect.files import write_atomically

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ebgan-detect", "torch", "numpy", "scikit-learn", "pyod")


def find_data_folder() -> Path | None:
    """Folder of the data files: ``EBGAN_DATA``, else ``shared/data`` beside the checkout.

    None where neither is there, and where ``EBGAN_DATA`` is empty.
    """
    named = os.environ.get("EBGAN_DATA")
    if named is None:
        default = Path(__file__).resolve().parents[2] / "shared" / "data"
        return default if default.is_dir() else None
    if named and not Path(named).is_dir():
        raise SystemExit(f"EBGAN_DATA must name a folder, got {named}")
    return Path(named) if named else None


def data_folder() -> Path:
    """As `find_data_folder`, for a benchmark that cannot do without it."""
    folder = find_data_folder()
    if folder is None:
        raise SystemExit("no data: set EBGAN_DATA to the folder that holds images/ and tabular/")
    return folder


def positive(text: str) -> int:
    """A number of at least 1 on the command line."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text}")
    return int(text)


def metrics(is_anomaly: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """AUROC and average precision of scores whose low values are abnormal."""
    energy = -np.asarray(scores)
    return {
        "auroc": float(roc_auc_score(is_anomaly, energy)),
        "auprc": float(average_precision_score(is_anomaly, energy)),
    }


def false_positive_rate(
    is_anomaly: ArrayLike, scores: ArrayLike, *, true_positive_rate: float = 0.95
) -> float:
    """Share of anomalies that pass where at least this share of normal rows does.

    Normal is "positive" here, as is usual where outliers of other kinds are looked for: the
    threshold is the highest score that keeps the true positive rate; low scores are abnormal.
    """
    is_anomaly, scores = np.asarray(is_anomaly, bool), np.asarray(scores)
    normal = np.sort(scores[~is_anomaly])
    threshold = normal[int((1 - true_positive_rate) * len(normal) + 1e-9)]
    return float(np.mean(scores[is_anomaly] >= threshold))


def result_path(benchmark: str, settings: Mapping[str, Any], results: Path = RESULTS) -> Path:
    """File of a run: ``<results>/<benchmark>/<settings>.json``."""
    name = "_".join(str(value) for value in settings.values()).replace("/", "-")
    return results / benchmark / f"{name}.json"


def run_once(
    benchmark: str,
    settings: Mapping[str, Any],
    measure: Callable[[], Mapping[str, Any]],
    *,
    results: Path = RESULTS,
) -> dict[str, Any]:
    """Return a run's stored result, or measure and store it: a benchmark can be taken up again.

    The result lies in `result_path` with versions, device, seconds and peak memory. Ctrl-C leaves
    none: a detector would keep what was trained by then, and its scores would pass for a result.
    """
    path = result_path(benchmark, settings, results)
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text())
        return stored
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingInterruptedWarning)
        try:
            result = dict(measure())
        except TrainingInterruptedWarning as warning:
            raise KeyboardInterrupt from warning
    record = {
        "benchmark": benchmark,
        **settings,
        **result,
        "seconds": round(time.perf_counter() - started, 1),
        **peak_memory(),
        "device": device_name(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    return record


@contextmanager
def watched_memory() -> Iterator[dict[str, int]]:
    """Peak of the memory that a block takes, as ``peak_bytes`` when it ends.

    On a GPU what torch allocated there, in all; else what the process's own memory grew by
    (mapped files do not count), looked at every few milliseconds.
    """
    found: dict[str, int] = {}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        yield found
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
        return

    def resident() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
        found["peak_bytes"] = peak - before


def peak_memory() -> dict[str, int]:
    """Most memory that this process has taken so far [MiB], and torch on a GPU where it ran."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit}
    if torch.cuda.is_initialized():
        peak["peak_cuda_mib"] = torch.cuda.max_memory_allocated() // 2**20
    return peak


def device_name() -> str:
    """The GPU's name, or the number of CPU threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; floats get three digits."""

    def cell(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)

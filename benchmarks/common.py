"""What every benchmark shares: data, one JSON file for each run, tables."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from ebgan_detect.files import write_atomically

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ebgan-detect", "torch", "numpy", "scikit-learn", "pyod")


def data_folder() -> Path:
    """Folder of the data files: ``EBGAN_DATA``, else ``shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EBGAN_DATA", default))
    if not folder.is_dir():
        raise SystemExit("no data: set EBGAN_DATA to the folder that holds images/ and tabular/")
    return folder


def metrics(is_anomaly: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """AUROC and average precision of scores whose low values are abnormal."""
    energy = -np.asarray(scores)
    return {
        "auroc": float(roc_auc_score(is_anomaly, energy)),
        "auprc": float(average_precision_score(is_anomaly, energy)),
    }


def run_once(
    benchmark: str, settings: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a run's stored result, or measure and store it: a benchmark can be taken up again.

    The result lies in ``results/<benchmark>/<settings>.json`` with versions, device and seconds.
    """
    name = "_".join(str(value) for value in settings.values()).replace("/", "-")
    path = RESULTS / benchmark / f"{name}.json"
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text())
        return stored
    started = time.perf_counter()
    result = dict(measure())
    record = {
        "benchmark": benchmark,
        **settings,
        **result,
        "seconds": round(time.perf_counter() - started, 1),
        "device": device_name(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    return record


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


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean over seeds, and the range of a seed's value."""
    if not values:
        return "not run"
    return f"{np.mean(values):.3f} ({min(values):.3f}…{max(values):.3f})"

"""The figure that the README shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks.images.protocols import DEVELOPMENT
from benchmarks.images.published import AIMS
from benchmarks.images.records import Records
from ebgan_detect.files import write_atomically
from ebgan_detect.plotting._display import BLUE, GREEN, ORANGE, PURPLE, finish, pyplot

MARKS = {
    "EBGAN": ("EBGAN", BLUE, "o"),
    "control": ("same autoencoder, no adversary", ORANGE, "o"),
    "kNN": ("kNN (PyOD)", GREEN, "^"),
    "IForest": ("IsolationForest (PyOD)", PURPLE, "v"),
}


def draw(results: Path, path: Path) -> None:
    """Held-out digits on the left, outliers of other kinds for MNIST on the right."""
    mpl.use("Agg")
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    records = Records.read(results, "heldout_digit").only(set="mnist")
    digits = sorted({r["digit"] for r in records.done})
    names = [f"{d}*" if d in DEVELOPMENT["mnist"] else str(d) for d in digits]
    _marks(left, [_by_method(records.only(digit=d), "auprc") for d in digits])
    aims = [(i, AIMS["heldout-digit"].get(str(d))) for i, d in enumerate(digits)]
    left.scatter(*zip(*[a for a in aims if a[1]] or [(0, np.nan)], strict=True), marker="_", s=200,
                 color="black", label="published (joint latent EBM)")  # fmt: skip
    left.set(xlabel="MNIST digit held out (* development case)", ylabel="AUPRC", ylim=(0, 1.02))
    left.set_xticks(range(len(digits)), names)
    records = Records.read(results, "out_of_manifold").only(set="mnist")
    kinds = list(dict.fromkeys(kind for r in records.done for kind in r["outliers"]))
    _marks(right, [_by_method(records, "auroc", outliers=kind) for kind in kinds], across=True)
    right.set(xlabel="AUROC, trained on MNIST")
    right.set_yticks(range(len(kinds)), kinds, fontsize="small")
    right.invert_yaxis()
    finish(left, legend=False)
    finish(right, legend=False)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize="small",
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomically(path, picture.getvalue())
    plt.close(figure)


def _by_method(records: Records, metric: str, **kind: Any) -> dict[str, list[float]]:
    """Every seed's value of the methods drawn."""
    return {method: list(records.by_seed(method, metric, **kind).values()) for method in MARKS}


def _marks(axis: Any, cases: Sequence[dict[str, list[float]]], *, across: bool = False) -> None:
    """A mark for each seed, and a line from the control's mean to EBGAN's."""
    for i, values in enumerate(cases):
        if values["EBGAN"] and values["control"]:
            ends = [float(np.mean(values[m])) for m in ("control", "EBGAN")]
            axis.plot(*((ends, [i, i]) if across else ([i, i], ends)), color="0.8", zorder=0)
    for method, (title, color, shape) in MARKS.items():
        points = [(i, value) for i, values in enumerate(cases) for value in values[method]]
        if points:
            place, value = zip(*points, strict=True)
            x, y = (value, place) if across else (place, value)
            axis.scatter(x, y, color=color, marker=shape, s=26, label=title)

"""The runs in brief, as the README shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import markdown
from benchmarks.images.methods import METHODS
from benchmarks.images.protocols import DEVELOPMENT, TRAINED_SETS
from benchmarks.images.published import AIMS
from benchmarks.images.records import Records, cell

SHOWN = ("EBGAN", "control", "untrained", "kNN", "IForest", "DeepSVDD")
NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar-10": "CIFAR-10"}


def summary(results: Path) -> str:
    """Held-out digits, means over normal classes, and images of other kinds."""
    return "\n\n".join(
        [
            "Nine digits of MNIST normal, the tenth in the whole test file, AUPRC, which depends "
            "on the anomaly's share:",
            _table("digit (share)", _heldout_digits(Records.read(results, "heldout_digit"))),
            "One class normal, the other nine in the test file, AUROC, mean over the classes run:",
            _table("set (classes)", _one_class(Records.read(results, "one_class"))),
            "A whole set normal, without labels, against images of other kinds, AUROC:",
            _table("set, outliers", _out_of_manifold(Records.read(results, "out_of_manifold"))),
            "\\* development case: defaults were chosen by it, on rows of the training file.",
        ]
    )


Row = tuple[str, Mapping[str, Mapping[int, float]], Mapping[int, float], float | None]
"""Name, values by method and seed, EBGAN minus its control by seed, figure to beat."""


def _table(corner: str, rows: Sequence[Row]) -> str:
    """A row for each case, a column for each method."""
    header = [corner, *(METHODS[m].title for m in SHOWN), "EBGAN minus no adversary", "to beat"]
    header[1] = f"**{header[1]}**"
    lines = [
        [
            name,
            *(cell(values[method]) for method in SHOWN),
            cell(difference, signed=True),
            "" if aim is None else f"{aim:.3f}",
        ]
        for name, values, difference, aim in rows
    ]
    return markdown(header, lines)


def _heldout_digits(records: Records) -> list[Row]:
    rows: list[Row] = []
    for digit in sorted({r["digit"] for r in records.done if r["set"] == "mnist"}):
        some = records.only(set="mnist", digit=digit)
        name = f"{digit}{_mark('mnist', digit)} ({some.done[0]['anomaly_share']:.1%})"
        values = {m: some.by_seed(m, "auprc") for m in SHOWN}
        aim = AIMS["heldout-digit"].get(str(digit))
        rows.append((name, values, some.differences("auprc"), aim))
    return rows


def _one_class(records: Records) -> list[Row]:
    """Means over the classes that EBGAN and its control have run, seed by seed."""
    rows: list[Row] = []
    for name in TRAINED_SETS:
        by_class = {label: records.only(set=name, **{"class": label}) for label in range(10)}
        both = {label: some for label, some in by_class.items() if some.differences("auroc").keys()}
        if not both:
            continue
        values = {m: _mean([some.by_seed(m, "auroc") for some in both.values()]) for m in SHOWN}
        difference = _mean([some.differences("auroc") for some in both.values()])
        labels = "all" if len(both) == 10 else " ".join(map(str, both))
        rows.append((f"{NAMES[name]} ({labels})", values, difference, AIMS["one-class"][name]))
    return rows


def _out_of_manifold(records: Records) -> list[Row]:
    rows: list[Row] = []
    for name in TRAINED_SETS:
        some = records.only(set=name)
        for kind in dict.fromkeys(kind for r in some.done for kind in r["outliers"]):
            values = {m: some.by_seed(m, "auroc", outliers=kind) for m in SHOWN}
            difference = some.differences("auroc", outliers=kind)
            title = f"{NAMES[name]}, {NAMES.get(kind, kind)}"
            rows.append((title, values, difference, AIMS.get(name, {}).get(kind)))
    return rows


def _mean(cases: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Mean over cases of every seed that all of them have."""
    seeds = set.intersection(*(set(case) for case in cases))
    return {seed: float(np.mean([case[seed] for case in cases])) for seed in sorted(seeds)}


def _mark(name: str, label: int) -> str:
    return "\\*" if label in DEVELOPMENT.get(name, ()) else ""

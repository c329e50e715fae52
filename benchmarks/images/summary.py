"""The runs in brief, as the README shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.common import markdown
from benchmarks.images.methods import METHODS
from benchmarks.images.protocols import DEVELOPMENT, TRAINED_SETS
from benchmarks.images.published import AIMS
from benchmarks.images.records import Records, cell, mean_by_seed, widest

SHOWN = ("EBGAN", "control", "untrained", "kNN", "IForest", "DeepSVDD")
NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar-10": "CIFAR-10"}

MARK = "\\*"
NOTE = f"{MARK} development case: defaults were chosen by it, on rows of the training file."


def summary(results: Path) -> str:
    """Held-out digits, means over normal classes, and images of other kinds."""
    tables = "\n\n".join(
        [
            "Nine digits of MNIST normal, the tenth in the whole test file, AUPRC, which depends "
            "on the anomaly's share:",
            _table("digit (share)", _heldout_digits(Records.read(results, "heldout_digit"))),
            "One class normal, the other nine in the test file, AUROC, mean over the classes run:",
            _table("set (classes)", _one_class(Records.read(results, "one_class"))),
            "A whole set normal, without labels, against images of other kinds, AUROC:",
            _table("set, outliers", _out_of_manifold(Records.read(results, "out_of_manifold"))),
        ]
    )
    return "\n\n".join([tables, NOTE] if MARK in tables else [tables])


Row = tuple[str, Mapping[str, Mapping[int, float]], Mapping[int, float], float | None]
"""Name, values by method and seed, EBGAN minus its control by seed, figure to beat."""


Values = Callable[[str], Mapping[int, float]]
"""From a method's name to its values by seed."""


def _row(name: str, values: Values, aim: float | None) -> Row | None:
    """A row where EBGAN has run."""
    shown = {method: values(method) for method in SHOWN}
    if not shown["EBGAN"]:
        return None
    both = shown["EBGAN"].keys() & shown["control"].keys()
    difference = {seed: shown["EBGAN"][seed] - shown["control"][seed] for seed in both}
    return name, shown, difference, aim


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
    rows = []
    for digit in sorted({r["digit"] for r in records.done if r["set"] == "mnist"}):
        some = records.only(set="mnist", digit=digit)
        name = f"{digit}{_mark('mnist', digit)} ({some.done[0]['anomaly_share']:.1%})"
        values = partial(some.by_seed, metric="auprc")
        rows.append(_row(name, values, AIMS["heldout-digit"].get(str(digit))))
    return list(filter(None, rows))


def _one_class(records: Records) -> list[Row]:
    """Means over the classes that EBGAN and its control have run with one seed, seed by seed."""
    rows = []
    for name in TRAINED_SETS:
        every = [records.only(set=name, **{"class": label}) for label in range(10)]
        both = widest({label: some.differences("auroc") for label, some in enumerate(every)})
        classes = [partial(every[label].by_seed, metric="auroc") for label in both]
        values = partial(_mean, classes)
        labels = "all" if len(both) == 10 else " ".join(map(str, both))
        aim = AIMS["one-class"][name] if len(both) == 10 else None  # a mean of ten
        rows.append(_row(f"{NAMES[name]} ({labels})", values, aim))
    return list(filter(None, rows))


def _out_of_manifold(records: Records) -> list[Row]:
    """Kinds of image that others have published figures for, and the mean of all kinds."""
    rows = []
    for name in TRAINED_SETS:
        some, aims = records.only(set=name), AIMS.get(name, {})
        kinds = {
            kind: partial(some.by_seed, metric="auroc", outliers=kind)
            for kind in dict.fromkeys(kind for r in some.done for kind in r["outliers"])
        }
        rows += [
            _row(f"{NAMES[name]}, {NAMES.get(kind, kind)}", values, aims[kind])
            for kind, values in kinds.items()
            if kind in aims
        ]
        every = partial(_mean, list(kinds.values()))
        rows.append(_row(f"{NAMES[name]}, mean of {len(kinds)} kinds", every, None))
    return list(filter(None, rows))


def _mean(cases: Sequence[Values], method: str) -> dict[int, float]:
    return mean_by_seed([values(method) for values in cases])


def _mark(name: str, label: int) -> str:
    return MARK if label in DEVELOPMENT.get(name, ()) else ""

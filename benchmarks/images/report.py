"""All runs as Markdown: one section for each protocol, with what is still missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import markdown
from benchmarks.images.methods import ABLATIONS, ALAD, METHODS, PEER_ROWS, PLAIN, SVDD
from benchmarks.images.protocols import DEVELOPMENT, TRAINED_SETS
from benchmarks.images.published import (
    AIMS,
    HELDOUT_DIGIT,
    ONE_CLASS,
    OUT_OF_MANIFOLD,
    Published,
)
from benchmarks.images.records import SAME_NETWORKS, Records, cell, mean_by_seed, widest
from ebgan_detect.files import write_atomically

TITLES = {name: method.title for name, method in (METHODS | ABLATIONS).items()}
TITLES |= {f"{name}{PLAIN}": f"{title}; plain squared error" for name, title in TITLES.items()}
LAST = {
    "false alarms": ("false_alarm_rate", ".3f"),
    "s": ("fit_seconds", ".0f"),
    "CPU s": ("fit_cpu_seconds", ".0f"),
    "MiB": ("peak_rss_mib", ".0f"),
}
"""Columns behind all others: what they are of a run, and their form."""
BASE = "noiseless" + PLAIN
"""What variants are variants of."""
DIFFERENCE = "EBGAN minus same autoencoder, no adversary"
PEERS = (
    f"Peers see flat pixels in [0, 1], of at most {PEER_ROWS:,} training images drawn by the "
    f"seed, and have PyOD's defaults but for DeepSVDD: {SVDD}, and ALAD: {ALAD} (one of its "
    "epochs is one batch)."
)


def report(results: Path, seeds: Sequence[int]) -> str:
    """Every protocol's tables."""
    parts = [
        "# Image benchmarks\n\nMade by `python -m benchmarks.images report`. Mean and, in "
        f"brackets, range over seeds; wanted are seeds {' '.join(map(str, seeds))}. \\* "
        "development case: settings were chosen by its labels in the training file, so its row "
        "says nothing new. - not run. False alarms: share of normal test images below a detector's "
        "threshold, which is set for .05 of rows like the training rows. s and CPU s: seconds to "
        "train, by the clock (beside other work, where machines were shared) and of processor "
        "time; MiB: the process's peak; these are means over a row's runs. Energies of networks "
        "are the default's, of unusually plain images relative to their complexity; rows of the "
        f"plain squared error are of the same training. {PEERS}",
        heldout_digit(Records.read(results, "heldout_digit"), seeds),
        *(one_class(Records.read(results, "one_class"), name, seeds) for name in TRAINED_SETS),
        *(
            out_of_manifold(Records.read(results, "out_of_manifold"), name, seeds)
            for name in TRAINED_SETS
        ),
        folder(Records.read(results, "folder")),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def heldout_digit(records: Records, seeds: Sequence[int]) -> str:
    """AUPRC with published figures, then AUROC; digits are columns."""
    records = records.only(set="mnist")
    shares = {r["digit"]: r["anomaly_share"] for r in records.done}
    heads = []
    for digit in range(10):
        mark = " \\*" if digit in DEVELOPMENT["mnist"] else ""
        heads.append(f"{digit}{mark}" + (f" ({shares[digit]:.1%})" if digit in shares else ""))
    auprc, auroc = (
        _matrix(records, "digit", range(10), metric, _shown(records))
        for metric in ("auprc", "auroc")
    )
    width = len(heads) + len(LAST)
    auprc += [_published_row(entry, map(str, range(10)), width) for entry in HELDOUT_DIGIT]
    aims = Published("to beat", AIMS["heldout-digit"], "joint latent EBM")
    auprc.append(_published_row(aims, map(str, range(10)), width))
    return "\n\n".join(
        [
            "## MNIST, a digit held out",
            "Nine digits of the training file train, the whole test file is scored, the held-out "
            "digit is the anomaly. AUPRC depends on its share, in brackets.",
            markdown(["AUPRC", *heads, *LAST], auprc),
            markdown(["AUROC", *heads, *LAST], auroc),
            _footnotes(records, "digit", range(10), seeds),
        ]
    )


def one_class(records: Records, name: str, seeds: Sequence[int]) -> str:
    """AUROC of one set; classes are columns, and their mean."""
    records = records.only(set=name)
    heads = [
        f"{label} \\*" if label in DEVELOPMENT.get(name, ()) else str(label) for label in range(10)
    ]
    methods = _shown(records)
    rows = _matrix(records, "class", range(10), "auroc", methods)
    for row, method in zip(rows, [*methods, None], strict=True):
        row.insert(11, _class_mean(records, method))
    aim = Published("to beat", {"mean": AIMS["one-class"][name]}, "mean of ten")
    keys = [*map(str, range(10)), "mean"]
    rows += [_published_row(entry, keys, 11 + len(LAST)) for entry in (*ONE_CLASS[name], aim)]
    return "\n\n".join(
        [
            f"## One class, {name}",
            "One class of the training file trains; all other classes of the test file are "
            "anomalies. AUROC.",
            markdown(["AUROC", *heads, "mean (classes run)", *LAST], rows),
            _footnotes(records, "class", range(10), seeds),
        ]
    )


def _class_mean(records: Records, method: str | None) -> str:
    """Mean over the classes run, of a method or of EBGAN minus its control."""
    by_class = {label: records.only(**{"class": label}) for label in range(10)}
    values = {
        label: some.differences("auroc") if method is None else some.by_seed(method, "auroc")
        for label, some in by_class.items()
    }
    labels = widest(values)
    told = cell(mean_by_seed([values[label] for label in labels]), signed=method is None)
    return f"{told} ({len(labels)} of 10)" if labels else told


def out_of_manifold(records: Records, name: str, seeds: Sequence[int]) -> str:
    """AUROC and FPR at 95 % TPR of one trained set; methods are columns."""
    records = records.only(set=name)
    kinds = list(dict.fromkeys(kind for r in records.done for kind in r["outliers"]))
    kinds = kinds or list(AIMS.get(name, {}))
    methods = _shown(records)
    rows = []
    for kind in kinds:
        cells = []
        for method in methods:
            auroc = records.by_seed(method, "auroc", outliers=kind)
            fpr = records.by_seed(method, "fpr95", outliers=kind)
            cells.append(f"{cell(auroc)} / {np.mean(list(fpr.values())):.2f}" if auroc else "-")
        difference = cell(records.differences("auroc", outliers=kind), signed=True)
        aim = AIMS.get(name, {}).get(kind, "")
        known = "; ".join(
            f"{entry.method} {entry.figures[kind]:.3f} ({entry.known})"
            for entry in OUT_OF_MANIFOLD[name]
            if kind in entry.figures
        )
        rows.append([kind, *cells, difference, aim, known])
    for title, entry in LAST.items():
        rows.append([title, *(records.mean(method, *entry) for method in methods), "", "", ""])
    header = [
        "outliers",
        *(TITLES[m] for m in methods),
        "EBGAN minus control",
        "to beat",
        "published",
    ]
    return "\n\n".join(
        [
            f"## Trained on {name} without labels, against other images",
            "AUROC / share of outliers that pass where 95 % of the normal test images do. Other "
            "sets are resized by area, colours turned grey or grey into three colours.",
            markdown(header, rows),
            _footnotes(records, "set", [name], seeds),
        ]
    )


def folder(records: Records) -> str:
    """A user's own folders."""
    rows = []
    for name, content in dict.fromkeys((r["set"], r["content"]) for r in records.all):
        some = records.only(set=name, content=content)
        for method in METHODS:
            figures = [cell(some.by_seed(method, m)) for m in ("auroc", "auprc", "fpr95")]
            if figures != ["-"] * 3:
                told = [some.mean(method, *entry) for entry in LAST.values()]
                rows.append([f"{name} ({content})", TITLES[method], *figures, *told])
    if not rows:
        return ""
    header = ["folder", "method", "AUROC", "AUPRC", "FPR at 95 % TPR", *LAST]
    return "\n\n".join(["## Folders", markdown(header, rows), *_notes(records)])


def ablation(results: Path, seeds: Sequence[int]) -> str:
    """What each ingredient does on the development cases, and how much that is."""
    parts = [
        (f"digit {{case}} held out, {metric.upper()}", "heldout_digit", "mnist", "digit", metric)
        for metric in ("auprc", "auroc")
    ]
    parts += [
        (f"{name}, one class, {{case}}, AUROC", "one_class", name, "class", "auroc")
        for name in ("mnist", "fashion-mnist")
    ]
    of_networks = {"EBGAN", *SAME_NETWORKS, *ABLATIONS}
    names = [n + PLAIN if n in of_networks else n for n in (*METHODS, *ABLATIONS)]
    titles = [TITLES[n.removesuffix(PLAIN)] for n in names]
    read = {
        part: Records.read(results, f"{part[1]}_development").only(set=part[2]) for part in parts
    }
    columns = [
        (part[0].format(case=case), read[part].only(**{part[3]: case}), part[4])
        for part in parts
        for case in sorted(DEVELOPMENT[part[2]])
    ]
    columns = [column for column in columns if column[1].done]
    rows, waiting = [], []
    for name, title in zip(names, titles, strict=True):
        cells = []
        for _, some, metric in columns:
            values = some.by_seed(name, metric)
            change = {} if name == BASE else some.differences(metric, name, BASE)
            told = f" [{np.mean(list(change.values())):+.3f}]" if change else ""
            cells.append(cell(values) + told)
        if any(text != "-" for text in cells):
            rows.append([title, *cells])
        else:
            waiting.append(name.removesuffix(PLAIN))
    if not rows:
        return "No development case has been run with the present defaults yet."
    counts = {len(some.by_seed(name, metric)) for name in names for _, some, metric in columns}
    return "\n\n".join(
        [
            "Rows 0…49,999 of the training files train, rows 50,000…59,999 are scored; in square "
            "brackets the mean change from EBGAN without noise, which is what the variants change, "
            "on the same seeds. All by plain squared errors, whatever the default. Settings may be "
            "chosen by these figures; none is a result.",
            markdown(["variant", *(title for title, _, _ in columns)], rows),
            f"At most {max(counts)} of {len(seeds)} seeds. "
            f"Not run: {', '.join(waiting) or 'none'}.",
            *dict.fromkeys(note for some in read.values() for note in _notes(some)),
        ]
    )


def renew(path: Path, table: str) -> None:
    """Put a table into a Markdown file, between the two comments that mark its place."""
    start, end = "<!-- made by the command above -->", "<!-- end -->"
    if not path.is_file():
        raise SystemExit(f"{path} must be a Markdown file that holds {start} and {end}")
    before, _, rest = path.read_text().partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path} must hold {start} and {end}")
    write_atomically(path, f"{before}{start}\n\n{table}\n\n{end}{after}".encode())


# --- parts of a section -------------------------------------------------------------------------


def _shown(records: Records) -> list[str]:
    """Methods in the tables' order; behind each the same networks by plain error, if they ran.

    What was run before there was noise stands behind what has some now.
    """
    run = {r["method"] for r in records.all}
    methods = [*METHODS]
    methods.insert(1, "noiseless")
    names = [name for method in methods for name in (method, method + PLAIN)]
    return [name for name in names if name in METHODS or name in run]


def _matrix(
    records: Records,
    key: str,
    cases: Iterable[int],
    metric: str,
    methods: Iterable[str],
) -> list[list[Any]]:
    """A row for each method, a column for each case, and EBGAN minus its control."""
    by_case = [records.only(**{key: case}) for case in cases]
    rows: list[list[Any]] = [
        [
            TITLES[method],
            *(cell(some.by_seed(method, metric), failed=some.failed(method)) for some in by_case),
            *(records.mean(method, *entry) for entry in LAST.values()),
        ]
        for method in methods
    ]
    differences = [cell(some.differences(metric), signed=True) for some in by_case]
    return [*rows, [f"**{DIFFERENCE}**", *differences, *[""] * len(LAST)]]


def _published_row(entry: Published, keys: Iterable[str], width: int) -> list[Any]:
    """A published method's figures under the columns that they belong to."""
    row = [f"*{entry.method}* ({entry.known})", *(entry.figures.get(key, "") for key in keys)]
    return row + [""] * (width + 1 - len(row))


def _footnotes(records: Records, key: str, cases: Iterable[Any], seeds: Sequence[int]) -> str:
    """What the rows were made of, and what is missing."""
    missing = _list("Still missing:", records.missing(list(METHODS), key, cases, seeds))
    return "\n\n".join([*_notes(records), missing])


def _notes(records: Records) -> list[str]:
    """Data and devices of the runs, failures, and networks that do not match."""
    if not records.all:
        return []
    devices = "; ".join(sorted({r["device"] for r in records.all}))
    used = {f"{r['set']}: {r['used']}" if "others_used" in r else r["used"] for r in records.all}
    for record in records.all:
        used |= {f"{name}: {what}" for name, what in record.get("others_used", {}).items()}
    notes = [f"Data: {'; '.join(sorted(used))}. Devices: {devices}."]
    notes += [_list("Failed:", lines) for lines in [records.failures()] if lines]
    notes += [_list("Not on the same networks:", lines) for lines in [records.unlike()] if lines]
    notes += [_list("With different settings:", lines) for lines in [records.mixed()] if lines]
    return notes


def _list(title: str, lines: Sequence[str]) -> str:
    """A titled list; nothing but 'none' where it is empty."""
    return "\n".join([title, "", *(f"- {line}" for line in lines)]) if lines else f"{title} none."

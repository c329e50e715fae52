"""Tables and pictures of the stored runs, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import RESULTS, markdown
from benchmarks.stability.classifier import CACHE
from benchmarks.stability.grid import CONTROLS, SYSTEMS
from benchmarks.stability.runs import Run
from ebgan_detect.files import read_sealed

__all__ = ["draw_histograms", "draw_samples", "stored", "summary"]

Results = dict[str, list[dict[str, Any]]]
COLOURS = {"GAN": "#D55E00", "EBGAN": "#0072B2", "EBGAN-PT": "#009E73"}
ALL = SYSTEMS + CONTROLS
PAIRS = (("GAN", "EBGAN"), ("EBGAN", "EBGAN-PT"))
BINS = 24


def stored(runs: Sequence[Run], folder: Path = RESULTS) -> tuple[Results, list[Run]]:
    """Results of the runs that have a file, by system, and the runs that have none."""
    found: Results = {}
    missing = []
    for run in runs:
        path = run.file(folder)
        if path.exists():
            result = json.loads(path.read_text())
            found.setdefault(run.system, []).append({**result, "run": run})
        else:
            missing.append(run)
    return found, missing


def summary(results: Results, missing: Sequence[Run], judge: dict[str, Any]) -> str:
    """Everything to say about the runs, as Markdown."""
    others = {r["classifier"] for rs in results.values() for r in rs} - {judge["sha256"]}
    if others:
        raise SystemExit(
            "the classifier must be the one that judged the stored runs, got another one: their "
            "scores cannot be compared; remove build/stability and train it again, or the results"
        )
    absent = {system: sum(run.system == system for run in missing) for system in ALL}
    said = [f"{n} of {system}" for system, n in absent.items() if n]
    parts = [
        f"Classifier: accuracy {judge['accuracy']:.4f} on the test file.",
        _table_of_systems(results, judge["real"]),
        _table_of_pairs(results),
        "Missing: " + (", ".join(said) if said else "nothing") + ".",
    ]
    return "\n\n".join(part for part in parts if part)


def _table_of_systems(results: Results, real: dict[str, Any]) -> str:
    """One row for each system, and one for real images."""
    header = [
        *("system", "runs", "I' median", "I' quartiles", "I' best", "log inception score"),
        *("modes of 10", "all 10", "duplicates", "spread", "diverged"),
    ]
    rows: list[list[Any]] = []
    for system in ALL:
        if not (found := results.get(system)):
            continue
        scores = _column(found, "score")
        low, middle, high = np.quantile(scores, [0.25, 0.5, 0.75]).tolist()
        modes = _column(found, "modes")
        rows.append(
            [
                *(system, len(found), middle, f"{low:.3f}…{high:.3f}", float(scores.max())),
                _median(found, "inception_score"),
                float(modes.mean()),
                f"{np.mean(modes == 10):.0%}",
                *(_median(found, name) for name in ("duplicates", "spread")),
                sum("diverged" in result for result in found),
            ]
        )
    rows.append(
        [
            *("real test images", "", real["score"], "", "", real["inception_score"]),
            *(real["modes"], "", real["duplicates"], real["spread"], ""),
        ]
    )
    return markdown(header, rows)


def _table_of_pairs(results: Results) -> str:
    """What the pulling-away term changes in the same configuration."""
    plain = {result["run"].configuration: result for result in results.get("EBGAN", [])}
    pairs = [
        (plain[result["run"].configuration], result)
        for result in results.get("EBGAN-PT", [])
        if result["run"].configuration in plain
    ]
    rows = []
    for name in ("score", "inception_score", "modes", "duplicates", "spread"):
        both = [pair for pair in pairs if all(name in result for result in pair)]
        if not both:
            continue
        change = np.array([with_term[name] - without[name] for without, with_term in both])
        row = [name, len(both), float(np.median(change)), float(change.mean())]
        rows.append([*row, int((change > 0).sum()), int((change < 0).sum())])
    header = ["EBGAN-PT minus EBGAN", "pairs", "median", "mean", "higher", "lower"]
    return markdown(header, rows) if rows else ""


def _column(found: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """One figure of every run that has it."""
    return np.array([result[name] for result in found if name in result], dtype=np.float64)


def _median(found: Sequence[dict[str, Any]], name: str) -> float:
    """Median of one figure."""
    return float(np.median(_column(found, name))) if len(_column(found, name)) else float("nan")


def draw_histograms(results: Results, path: Path) -> None:
    """Share of the runs over their score, two systems in each panel, as in the paper."""
    plt = _pyplot()
    scores = {system: _column(found, "score") for system, found in results.items()}
    edges = np.linspace(0, max(values.max() for values in scores.values()) * 1.0001, BINS + 1)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
    for axis, pair in zip(axes, PAIRS, strict=True):
        for system in pair:
            if (values := scores.get(system)) is None:
                continue
            share = np.full(len(values), 100 / len(values))
            colour = COLOURS[system]
            label = f"{system}, {len(values)} runs, median {np.median(values):.2f}"
            axis.hist(values, edges, weights=share, color=colour, alpha=0.5, label=label)
            axis.axvline(np.median(values), color=colour, linestyle="--", linewidth=1)
        axis.set_xlabel("score I' [nat]")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize="small")
    axes[0].set_ylabel("runs [%]")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_samples(results: Results, path: Path, cache: Path = CACHE) -> None:
    """The first samples of each system's best run, where they are still in the cache."""
    best = {s: max(results[s], key=lambda result: result["score"]) for s in SYSTEMS if s in results}
    pictures = {}
    for system, result in best.items():
        file = cache / "samples" / f"{result['run'].file().stem}.safetensors"
        if file.exists():
            rows = read_sealed(file)[0]["samples"].numpy()
            pictures[f"{system}: I' {result['score']:.2f}, {result['modes']} modes"] = rows
    if not pictures:
        return
    plt = _pyplot()
    size = (3 * len(pictures), 3.2)
    figure, axes = plt.subplots(1, len(pictures), figsize=size, layout="constrained", squeeze=False)
    for axis, (title, rows) in zip(axes.flat, pictures.items(), strict=True):
        axis.imshow(tiled(rows), cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize="small")
        axis.axis("off")
    figure.canvas.draw()
    grey = np.asarray(figure.canvas.buffer_rgba())[..., 0]
    Image.fromarray(grey).save(path, optimize=True)  # a third of the bytes that colours take
    plt.close(figure)


def tiled(rows: np.ndarray) -> np.ndarray:
    """A hundred square images as one."""
    side, across = int(rows.shape[1] ** 0.5), int(len(rows) ** 0.5)
    images = rows[: across**2].reshape(across, across, side, side)
    return images.swapaxes(1, 2).reshape(across * side, across * side)


def _pyplot() -> Any:
    """Matplotlib without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt

"""`write_report`: what to show of a detector, and the page that shows it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base import ANSWERS, BaseDetector
from ebgan_detect.data import as_rows
from ebgan_detect.errors import InvalidInputError, InvalidParameterError, MissingDependencyError
from ebgan_detect.files import check_writable, write_atomically
from ebgan_detect.parameters import check_parameters, integer
from ebgan_detect.plotting import (
    EnergyHistogramDisplay,
    EnergyMapDisplay,
    SampleGridDisplay,
    TrainingHistoryDisplay,
)
from ebgan_detect.plotting._display import MAX_ROWS, anomalies
from ebgan_detect.report.facts import facts_of, in_words
from ebgan_detect.report.pictures import Picture, drawing
from ebgan_detect.thresholds import rows_needed

__all__ = ["write_report"]

N_SAMPLES = 64


@dataclass(frozen=True)
class ScoredRow:
    """One line of the table of the most abnormal rows.

    Attributes
    ----------
    name : str
        What the row is called.
    energy : float
        Its energy [scaled input unit ** 2].
    p_value : float
        Its conformal p-value, in (0, 1].
    is_outlier : bool
        Whether its energy is above the threshold.
    is_anomaly : bool or None
        What its label says.
    """

    name: str
    energy: float
    p_value: float
    is_outlier: bool
    is_anomaly: bool | None


@dataclass(frozen=True)
class ScoredRows:
    """What the page says of the rows given.

    Attributes
    ----------
    n, n_outliers, n_anomalies : int
        Numbers of rows, of those above the threshold, and of those labelled so.
    quality : dict of str to float
        How well energies tell anomalies, by name of the measure; empty without labels of both
        kinds.
    energies : Picture or None
        Their histogram, where some are finite.
    top : list of ScoredRow
        The most abnormal rows, the first one most.
    maps : Picture or None
        Where their energies come from.
    """

    n: int
    n_outliers: int
    n_anomalies: int
    quality: dict[str, float]
    energies: Picture | None
    top: list[ScoredRow]
    maps: Picture | None


def write_report(
    detector: BaseDetector | Pipeline,
    path: str | os.PathLike[str],
    X: Any = None,
    y: Any = None,
    *,
    names: Sequence[Any] | NDArray[Any] | None = None,
    top: int = 8,
    title: str | None = None,
) -> Path:
    """Write one HTML page about a fitted detector, and about rows if some are given.

    The page tells the detector's health and threshold, its training, its calibration energies
    and, for images, what its generator makes; of the rows given it shows how their energies
    lie to the threshold, and where those of the most abnormal ones come from. It needs
    nothing beside itself: pictures are inside, there is no script, and nothing is loaded.

    Parameters
    ----------
    detector : EBGANDetector or another detector of this library, or Pipeline
        Fitted detector, or a fitted pipeline that ends in one; `X` are rows for that then.
    path : path-like
        File to write, replaced in one step.
    X : array-like, Tensor, DataFrame, memmap or Dataset, default=None
        Rows of the fitted shape to score.
    y : array-like of shape (n,), default=None
        Labels of the rows, 0 normal and 1 anomaly, or +1 inlier and -1 outlier: then AUROC
        and AUPRC are told. No label changes the detector.
    names : sequence of length n, default=None
        What to call the rows; by default a pandas frame's index, or numbers from 0.
    top : int, default=8
        Number of most abnormal rows to show, from 1 to 16.
    title : str, default=None
        Title of the page; the detector's class by default.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidInputError
        If `X` does not fit the detector, or `y` or `names` do not fit `X`.
    InvalidParameterError
        If `detector` is none of this library, `top` is out of its range, or `y` or `names` come
        without `X`.
    MissingDependencyError
        If matplotlib or Jinja is not installed.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.
    OSError
        If the file cannot be written.
    """
    steps, detector = _divided(detector)
    check_is_fitted(detector, "model_")
    check_parameters({"top": top}, {"top": integer(1, MAX_ROWS)})
    if X is None and not (y is None and names is None):
        raise InvalidParameterError("X must be given with y or names, got None")
    check_writable(path)
    if names is None and hasattr(X, "iloc"):
        names = X.index
    if X is not None and steps is not None:
        X = steps.transform(X)
    is_drawable = len(detector.input_shape_) != 3 or detector.input_shape_[0] in (1, 3)
    with drawing() as picture:
        scored = None
        if X is not None:
            scored = _scored(detector, X, y, names, top, picture, is_drawable=is_drawable)
        calibration = _histogram(detector, detector.calibration_energies_)
        shown: dict[str, Any] = {
            "training": picture(TrainingHistoryDisplay.from_estimator(detector)),
            "calibration": picture(calibration.plot()),
            "samples": None,
        }
        if len(detector.input_shape_) > 1 and is_drawable and _has_generator(detector):
            samples = SampleGridDisplay.from_estimator(
                detector, n_samples=N_SAMPLES, random_state=0
            )
            shown["samples"] = picture(samples, "png")
    page = _template().render(
        title=title or type(detector).__name__,
        facts=_listed(detector),
        health=detector.health_,
        threshold=_threshold_in_words(detector),
        scored=scored,
        version=version("ebgan-detect"),
        **shown,
    )
    write_atomically(path, page.encode())
    return Path(path)


def _divided(detector: Any) -> tuple[Pipeline | None, BaseDetector]:
    """The steps before a detector, and the detector."""
    steps, last = None, detector
    if isinstance(detector, Pipeline):
        steps, last = detector[:-1] if len(detector) > 1 else None, detector[-1]
    if not isinstance(last, BaseDetector):
        raise InvalidParameterError(
            "detector must be one of ebgan_detect's, such as EBGANDetector, or a pipeline that "
            f"ends in one, got {type(last).__name__}"
        )
    return steps, last


def _scored(
    detector: BaseDetector,
    X: Any,
    y: Any,
    names: Sequence[Any] | NDArray[Any] | None,
    top: int,
    picture: Any,
    *,
    is_drawable: bool,
) -> ScoredRows:
    """Score rows once, and look closer at the most abnormal ones."""
    energies = detector.energy(X)
    n = len(energies)
    is_anomaly = None if y is None else anomalies(y, n)
    names = list(range(n) if names is None else names)
    if len(names) != n:
        raise InvalidInputError(
            f"names must have one entry for each of the {n} rows of X, got {len(names)}"
        )
    is_outlier = ANSWERS["label"](detector, energies) < 0
    p_values = ANSWERS["p_value"](detector, energies)
    order = np.argsort(-energies, kind="stable")[:top]
    histogram = _histogram(detector, energies, is_anomaly)
    maps = None
    if is_drawable and hasattr(detector, "energy_map"):
        few = _safe_indexing(X, order) if hasattr(X, "columns") else as_rows(X).read(order)
        kind = "svg" if len(detector.input_shape_) == 1 else "png"
        maps = picture(EnergyMapDisplay.from_estimator(detector, few), kind)
    return ScoredRows(
        n,
        int(is_outlier.sum()),
        0 if is_anomaly is None else int(is_anomaly.sum()),
        {} if is_anomaly is None else _quality(is_anomaly, energies),
        picture(histogram.plot()) if np.isfinite(energies).any() else None,
        [
            ScoredRow(
                str(names[k]),
                float(energies[k]),
                float(p_values[k]),
                bool(is_outlier[k]),
                None if is_anomaly is None else bool(is_anomaly[k]),
            )
            for k in map(int, order)
        ],
        maps,
    )


def _histogram(
    detector: BaseDetector,
    energies: NDArray[np.float64],
    is_anomaly: NDArray[np.bool_] | None = None,
) -> EnergyHistogramDisplay:
    """Energies beside the detector's threshold."""
    return EnergyHistogramDisplay(
        energies=energies,
        threshold=-detector.offset_,
        is_anomaly=is_anomaly,
        unit=detector._energy_unit,
    )


def _quality(is_anomaly: NDArray[np.bool_], energies: NDArray[np.float64]) -> dict[str, float]:
    """How well energies tell anomalies from normal rows."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if is_anomaly.all() or not is_anomaly.any():
        return {}
    # An infinite energy is the largest.
    finite = np.minimum(energies, np.finfo(np.float64).max)
    return {
        "AUROC": float(roc_auc_score(is_anomaly, finite)),
        "AUPRC": float(average_precision_score(is_anomaly, finite)),
    }


def _has_generator(detector: BaseDetector) -> bool:
    """Whether there is something to sample from."""
    return hasattr(detector, "sample") and bool(detector.model_.games()[0].latent_dim)


def _threshold_in_words(detector: BaseDetector) -> str:
    """What the threshold promises."""
    rule = f"A row whose energy is above {-detector.offset_:.4g} is called an outlier"
    if detector.contamination != "auto":
        share = 100 * detector.contamination
        return f"{rule}, as {share:.3g} % of the rows are that the threshold was taken from."
    n, rate = len(detector.calibration_energies_), 100 * detector.false_alarm_rate
    if not detector._calibration_rows.apart:
        return (
            f"{rule}. That and p-values come from rows that were trained on, which fit better than "
            "new ones."
        )
    if n < rows_needed(detector.false_alarm_rate):
        return (
            f"{rule}, as no calibration row is: {n} are too few for false alarms of {rate:.3g} %."
        )
    return (
        f"{rule}, which befalls at most {rate:.3g} % of new rows drawn like the {n} calibration "
        "rows, in expectation."
    )


def _listed(detector: BaseDetector) -> dict[str, str]:
    """Facts for the page's list; what the page tells elsewhere is left out."""
    elsewhere = ("threshold", "calibration_rows", "health", "detector")
    facts = {
        name: value
        for name, value in facts_of(detector).items()
        if value is not None and name not in elsewhere
    }
    seconds = math.fsum(detector.history_.get("seconds", ()))
    facts = {"detector": type(detector).__name__, **facts, "seconds_of_training": seconds}
    return {name.replace("_", " "): in_words(value) for name, value in facts.items()}


def _template() -> Any:
    """The page, with blanks."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs jinja2: pip install 'ebgan-detect[plot]'"
        ) from error
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    text = files("ebgan_detect.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text)

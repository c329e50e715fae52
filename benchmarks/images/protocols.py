"""The protocols: which images train, which are scored, and what counts as abnormal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, false_positive_rate, metrics, result_path, run_once
from benchmarks.images.corruptions import outliers
from benchmarks.images.datasets import ImageSet, development_part, load
from benchmarks.images.methods import ABLATIONS, METHODS, Method, MethodFailedError
from ebgan_detect.datafiles import ReadOptions, read_rows

Array = NDArray[Any]
Result = dict[str, Any]

TRAINED_SETS = ("mnist", "fashion-mnist", "cifar-10")
OTHER_SETS = (*TRAINED_SETS, "usps", "omniglot")
DEVELOPMENT = {"mnist": frozenset({1, 9}), "fashion-mnist": frozenset(range(5))}
"""Classes on which settings may be chosen; their rows in the tables say nothing new."""


@dataclass(frozen=True)
class Run:
    """One method on one case with one seed.

    Attributes
    ----------
    protocol : str
        'heldout-digit', 'one-class', 'out-of-manifold' or 'folder'.
    case : mapping
        ``set``, and ``digit`` or ``class`` where the protocol has one.
    method : str
        Key of `METHODS` or, on development cases, of `ABLATIONS`.
    seed : int
        Seed of everything random.
    development : bool
        Whether rows of the training file take the test file's place.
    folder, size : str and tuple of int, optional
        A user's images, and the height and width they are resized to.
    keep : Path, optional
        Folder for the trained detectors, one file for each run beside the name of its result.
    """

    protocol: str
    case: Mapping[str, Any]
    method: str
    seed: int
    development: bool = False
    folder: str | None = None
    size: tuple[int, int] | None = None
    keep: Path | None = None

    @property
    def benchmark(self) -> str:
        """Name of the folder of results."""
        name = self.protocol.replace("-", "_")
        return f"{name}_development" if self.development else name

    @property
    def settings(self) -> dict[str, Any]:
        """What tells this run from the others of its benchmark."""
        return {**self.case, "method": self.method, "seed": self.seed}

    def once(self, results: Path = RESULTS) -> Result:
        """The stored result, or a new one."""
        return run_once(self.benchmark, self.settings, self.measure, results=results)

    def measure(self) -> Result:
        """Train and score; a failure that the method is known for is a result too."""
        method = (METHODS | ABLATIONS)[self.method]
        if self.keep is not None:
            file = result_path(self.benchmark, self.settings, self.keep)
            method = method.keeping(file.with_suffix(".ebgan"))
        if self.protocol == "folder":
            images = load_folder(str(self.folder), self.size, self.seed)
        else:
            images = load(self.case["set"])
        if self.development:
            images = development_part(images)
        try:
            result = PROTOCOLS[self.protocol](images, self.case, method, self.seed)
        except MethodFailedError as error:
            result = {"failed": str(error)}
        return {"used": images.used, **result}


def _against_labels(
    method: Method, train: Array, test: Array, is_normal: Array, seed: int
) -> Result:
    """Train on normal images, and score images of both kinds."""
    fitted = method.fit(train, seed)
    scores = fitted.score(test)
    result = {
        **metrics(~is_normal, scores),
        "fpr95": false_positive_rate(~is_normal, scores),
        "anomaly_share": float(np.mean(~is_normal)),
        "n_normal": len(train),
        "n_test": len(test),
    }
    if fitted.threshold is not None:
        result["false_alarm_rate"] = float(np.mean(scores[is_normal] < fitted.threshold))
    if fitted.plain is not None:
        plain = fitted.plain(test)
        fpr95 = false_positive_rate(~is_normal, plain)
        result["plain_error"] = {**metrics(~is_normal, plain), "fpr95": fpr95}
    return result | fitted.told


def heldout_digit(images: ImageSet, case: Mapping[str, Any], method: Method, seed: int) -> Result:
    """Train on all classes but one; that one is the anomaly in the whole test file."""
    normal = images.train_labels != case["digit"]
    is_normal = images.test_labels != case["digit"]
    return _against_labels(method, images.train[normal], images.test, is_normal, seed)


def one_class(images: ImageSet, case: Mapping[str, Any], method: Method, seed: int) -> Result:
    """Train on one class; all others are anomalies in the whole test file."""
    normal = images.train_labels == case["class"]
    is_normal = images.test_labels == case["class"]
    return _against_labels(method, images.train[normal], images.test, is_normal, seed)


def out_of_manifold(images: ImageSet, case: Mapping[str, Any], method: Method, seed: int) -> Result:
    """Train once on all images of a set, without classes; score every kind of other image."""
    others = {} if case["set"] == "digits" else _other_sets(case["set"])
    fitted = method.fit(images.train, seed)
    tests = {name: other.test for name, other in others.items()}
    abnormal = outliers(images.test, tests)
    normal, found = _against_outliers(fitted.score, images.test, abnormal)
    result = {
        "others_used": {name: other.used for name, other in others.items()},
        "outliers": found,
        "n_normal": len(images.train),
        "n_test": len(normal),
    }
    if fitted.threshold is not None:
        result["false_alarm_rate"] = float(np.mean(normal < fitted.threshold))
    if fitted.plain is not None:
        _, found = _against_outliers(fitted.plain, images.test, abnormal)
        result["plain_error"] = {"outliers": found}
    return result | fitted.told


def _against_outliers(
    score: Callable[[Array], Array], test: Array, abnormal: Mapping[str, Array]
) -> tuple[Array, Result]:
    """Scores of normal images, and how each kind of outlier is told from them."""
    normal = score(test)
    found = {}
    for name, images in abnormal.items():
        scores = np.r_[normal, score(images)]
        is_anomaly = np.arange(len(scores)) >= len(normal)
        found[name] = {
            **metrics(is_anomaly, scores),
            "fpr95": false_positive_rate(is_anomaly, scores),
            "n": len(images),
        }
    return normal, found


def _other_sets(trained: str) -> dict[str, ImageSet]:
    """Every set but the trained one."""
    return {name: load(name) for name in OTHER_SETS if name != trained}


def _folder(images: ImageSet, case: Mapping[str, Any], method: Method, seed: int) -> Result:
    """A user's images: normal ones to train, held-out normal ones and anomalies to score."""
    is_normal = images.test_labels == 0
    return _against_labels(method, images.train, images.test, is_normal, seed)


PROTOCOLS = {
    "heldout-digit": heldout_digit,
    "one-class": one_class,
    "out-of-manifold": out_of_manifold,
    "folder": _folder,
}


def read_folder(folder: str, size: tuple[int, int] | None) -> dict[str, Array]:
    """Pictures below ``normal/`` and ``anomaly/``, brought to one size where one is given."""
    options = ReadOptions(size=size)
    return {
        kind: np.asarray(read_rows(Path(folder) / kind, options).values)
        for kind in ("normal", "anomaly")
    }


def load_folder(folder: str, size: tuple[int, int] | None, seed: int) -> ImageSet:
    """Four fifths of the normal pictures, drawn by the seed, to train; the rest to score."""
    kinds = read_folder(folder, size)
    normal, anomaly = kinds["normal"], kinds["anomaly"]
    order = np.random.default_rng(seed).permutation(len(normal))
    train, held_out = np.split(order, [len(order) * 4 // 5])
    return ImageSet(
        normal[train],
        np.zeros(len(train), int),
        np.concatenate([normal[held_out], anomaly]),
        np.repeat([0, 1], [len(held_out), len(anomaly)]),
        f"{len(normal)} normal pictures, a fifth of them to score, and {len(anomaly)} anomalies",
    )


def folder_case(folder: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """A name for a folder as it is now: other pictures in it make other runs."""
    digest = hashlib.sha256()
    for kind, images in read_folder(folder, size).items():
        digest.update(f"{kind} {images.shape}".encode())
        digest.update(np.ascontiguousarray(images).tobytes())
    return {"set": Path(folder).resolve().name, "content": digest.hexdigest()[:8]}

"""What is compared: EBGAN, its controls on the same networks, and peers on pixels.

A method takes normal uint8 training images and a seed, and gives a `Fitted`.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.images.variants import VARIANTS
from ebgan_detect import EBGANDetector, TrainingHealthWarning, save
from ebgan_detect.errors import TrainingDivergedError

Array = NDArray[Any]

PEER_ROWS = 20_000
"""Training images that a peer gets at most, drawn by the seed."""
PEER_FAILURES = (ArithmeticError, RuntimeError, ValueError)
"""What a peer may fail with and be recorded as failed; anything else is a fault of ours."""


class MethodFailedError(Exception):
    """A method could not train or score: a result, which no repetition would change."""


@dataclass(frozen=True)
class Fitted:
    """A trained method.

    Attributes
    ----------
    score : callable
        From uint8 images to scores of shape (n,), lower = more abnormal.
    told : dict
        What it tells of its training, for the run's record.
    threshold : float or None
        Score below which a method that promises a false alarm rate calls an image abnormal.
    plain : callable or None
        As `score`, by the plain squared error, of a method whose energies are relative to
        the image's complexity.
    save : callable or None
        Writes the trained detector to a file, where the method has one that `load` reads.
    """

    score: Callable[[Array], Array]
    told: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    plain: Callable[[Array], Array] | None = None
    save: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Method:
    """A name in the tables, and how to train it."""

    title: str
    fit: Callable[[Array, int], Fitted]

    def keeping(self, file: Path) -> Method:
        """The same, that also writes what it has trained to a file."""

        def fit(images: Array, seed: int) -> Fitted:
            fitted = self.fit(images, seed)
            if fitted.save is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                fitted.save(file)
            return fitted

        return replace(self, fit=fit)


@contextmanager
def _failing(*known: type[Exception]) -> Iterator[None]:
    """What a method is known to fail with, told from faults of ours."""
    try:
        yield
    except known as error:
        raise MethodFailedError(f"{type(error).__name__}: {error}") from error


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Seconds of a training, by the clock and of processor time, which others' work leaves be."""
    told: dict[str, float] = {}
    clock, processor = time.perf_counter(), time.process_time()
    yield told
    told["fit_seconds"] = round(time.perf_counter() - clock, 1)
    told["fit_cpu_seconds"] = round(time.process_time() - processor, 1)


# --- the detector and its controls ------------------------------------------------------------


def detector_method(
    title: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    make: type[EBGANDetector] = EBGANDetector,
    most_rows: int | None = None,
) -> Method:
    """EBGANDetector with all but the given parameters at their defaults."""

    def fit(images: Array, seed: int) -> Fitted:
        detector = make(random_state=seed, **(parameters or {}))
        with _failing(TrainingDivergedError), warnings.catch_warnings(), _timed() as seconds:
            warnings.simplefilter("ignore", TrainingHealthWarning)  # the record holds the verdict
            detector.fit(images[:most_rows])
        settings = {k: v for k, v in detector.settings_.items() if not callable(v)}
        if detector.adversarial:
            # What the rule has led to stands for the rule.
            settings["hinge_weight"] = round(detector.hinge_weight_, 6)
            settings["noise"] = round(detector.noise_, 6)
            settings.pop("turned_ratios", None)
        told = {
            **seconds,
            "n_train": len(images[:most_rows]),
            "health": detector.health_,
            "settings": settings,
            "last_epoch": {name: values[-1] for name, values in detector.history_.items()},
        }
        plain = None if detector.model_.complexity is None else _by_plain_error(detector)
        keep = partial(save, detector) if make is EBGANDetector else None  # no file holds others
        return Fitted(detector.score_samples, told, detector.offset_, plain, keep)

    return Method(title, fit)


def _by_plain_error(detector: EBGANDetector) -> Callable[[Array], Array]:
    """Scores of the same networks without regard to complexity."""
    plain = copy.copy(detector)
    plain.model_ = detector.model_.portable()
    plain.model_.complexity = None
    return plain.score_samples


# --- peers --------------------------------------------------------------------------------------


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators, from which some peers draw, and put them back."""
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        np.random.set_state(np.random.RandomState(seed).get_state())  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def peer_method(title: str, make: Callable[[int, int], Any], **stated: Any) -> Method:
    """A PyOD detector on flat pixels in [0, 1]; `stated` is what differs from its defaults."""

    def pixels(images: Array) -> Array:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    def fit(images: Array, seed: int) -> Fitted:
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.choice(len(images), min(PEER_ROWS, len(images)), replace=False))
        x = pixels(images[kept])
        with _failing(*PEER_FAILURES), _global_seed(seed), _timed() as seconds:
            detector = make(x.shape[1], seed).fit(x)
        told: dict[str, Any] = {**seconds, "n_train": len(x)}
        if stated:
            told["settings"] = stated

        def score(images: Array) -> Array:
            with _failing(*PEER_FAILURES), _global_seed(seed):  # ALAD drops out while it scores
                return -detector.decision_function(pixels(images))

        return Fitted(score, told)

    return Method(title, fit)


def _knn(n_features: int, seed: int) -> Any:
    from pyod.models.knn import KNN

    return KNN()


def _iforest(n_features: int, seed: int) -> Any:
    from pyod.models.iforest import IForest

    return IForest(random_state=seed)


SVDD = {"epochs": 50, "batch_size": 128, "preprocessing": False}
ALAD = {
    # PyOD counts one batch as an epoch: half as many updates as EBGAN, of twice the rows.
    "epochs": 1500,
    "batch_size": 128,
    "latent_dim": 32,
    "enc_layers": [512, 256],
    "dec_layers": [256, 512],
    "disc_xx_layers": [512, 256],
    "disc_xz_layers": [512, 256],
    "disc_zz_layers": [64, 32],
}


def _svdd(n_features: int, seed: int) -> Any:
    from pyod.models.deep_svdd import DeepSVDD

    return DeepSVDD(n_features, random_state=seed, verbose=0, **SVDD)


def _alad(n_features: int, seed: int) -> Any:
    from pyod.models.alad import ALAD as PyodALAD

    return PyodALAD(**ALAD)


UNTRAINED = {"adversarial": False, "max_epochs": 1, "learning_rate": 1e-30, "n_snapshots": 1}
UNTRAINED_ROWS = 2000
"""A network as its weights are drawn; these rows give it scaling and threshold."""

METHODS: dict[str, Method] = {
    "EBGAN": detector_method("EBGAN"),
    "control": detector_method("same autoencoder, no adversary", {"adversarial": False}),
    "denoising": detector_method(
        "same autoencoder, denoising (0.3)", {"adversarial": False, "noise": 0.3}
    ),
    "untrained": detector_method(
        "same autoencoder, untrained", UNTRAINED, most_rows=UNTRAINED_ROWS
    ),
    "kNN": peer_method("kNN (5th neighbour; PyOD)", _knn),
    "IForest": peer_method("IsolationForest (PyOD)", _iforest),
    "DeepSVDD": peer_method("DeepSVDD (PyOD)", _svdd, **SVDD),
    "ALAD": peer_method("ALAD (PyOD)", _alad, **ALAD),
}
"""Methods of every table, in its order."""

PLAIN = "-plain"
"""Ends the name of the same trained networks, scored by the plain squared error."""

ABLATIONS: dict[str, Method] = {
    name: detector_method(
        variant.title, {"noise": 0.0, **variant.parameters}, make=variant.detector()
    )
    for name, variant in VARIANTS.items()
}
"""EBGAN without noise and with one ingredient changed; for development cases only."""

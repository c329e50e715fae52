"""What is measured on the samples of a generator: the paper's score, modes, duplicates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

__all__ = [
    "class_shares",
    "inception_score",
    "nearest_distances",
    "paper_score",
    "shapes",
]

Array = NDArray[np.float64]

COVERED_SHARE = 0.01
"""Share of the samples, a tenth of a class's fair share of ten, from which it is covered."""
CONFIDENCE = 0.9
"""Probability from which a sample counts as one of its class."""
BLOCKS = 7
"""Blocks across an image whose shape is compared with others'."""
TINY = 1e-6
"""Length of a shape below which an image is blank."""


def paper_score(log_probabilities: Array) -> float:
    """The paper's modified inception score ``I' = E_x KL(p(y) || p(y|x))``.

    Unlike the inception score, whose divergence is the other way round, it has no upper
    bound: it grows with the confidence of the classifier.

    Parameters
    ----------
    log_probabilities : ndarray of shape (n, n_classes), float64
        ``log p(y|x)`` of each sample.

    Returns
    -------
    float
        Score [nat], >= 0; 0 when all samples are classified alike.
    """
    marginal = np.exp(log_probabilities).mean(axis=0)
    return float(_entropy_terms(marginal).sum() - marginal @ log_probabilities.mean(axis=0))


def inception_score(log_probabilities: Array) -> float:
    """The logarithm of the usual inception score, ``E_x KL(p(y|x) || p(y))``.

    Parameters
    ----------
    log_probabilities : ndarray of shape (n, n_classes), float64
        ``log p(y|x)`` of each sample.

    Returns
    -------
    float
        Score [nat], between 0 and the logarithm of the number of classes.
    """
    probabilities = np.exp(log_probabilities)
    conditional = (probabilities * log_probabilities).sum(axis=1).mean()
    return float(conditional - _entropy_terms(probabilities.mean(axis=0)).sum())


def class_shares(log_probabilities: Array) -> Array:
    """Share of the samples that are classified with confidence as each class.

    Parameters
    ----------
    log_probabilities : ndarray of shape (n, n_classes), float64
        ``log p(y|x)`` of each sample.

    Returns
    -------
    ndarray of shape (n_classes,)
        Shares; what is missing to 1 was not classified with confidence. A class whose share
        is at least `COVERED_SHARE` is covered.
    """
    n, n_classes = log_probabilities.shape
    sure = log_probabilities.max(axis=1) >= np.log(CONFIDENCE)
    counts = np.bincount(log_probabilities[sure].argmax(axis=1), minlength=n_classes)
    return np.asarray(counts / n, dtype=np.float64)


def shapes(rows: NDArray[np.floating]) -> Array:
    """What is drawn, whatever the contrast, the sharpness and the noise of single pixels.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features)
        Square images as rows.

    Returns
    -------
    ndarray of shape (n, n_blocks)
        Means over the blocks of a grid of `BLOCKS` by `BLOCKS` or more, their mean taken off
        and scaled to length 1; a blank image is 0.
    """
    side = math.isqrt(rows.shape[1])
    block = max(1, side // BLOCKS)
    across = side // block
    images = rows.reshape(-1, side, side)[:, : across * block, : across * block]
    means = images.reshape(-1, across, block, across, block).mean(axis=(2, 4), dtype=np.float64)
    flat = means.reshape(len(rows), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(length, TINY), dtype=np.float64)


def nearest_distances(rows: NDArray[np.floating]) -> Array:
    """Distance of each row to the nearest of the others.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features)
        Rows, n >= 2.

    Returns
    -------
    ndarray of shape (n,)
        Euclidean distances.
    """
    distances, _ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(rows).kneighbors()
    return np.asarray(distances[:, 0], dtype=np.float64)


def _entropy_terms(probabilities: Array) -> Array:
    """``p log p``, and its limit 0 at p = 0."""
    positive = probabilities > 0
    return np.where(positive, probabilities * np.log(np.where(positive, probabilities, 1.0)), 0.0)

"""Rows of numbers that several test files fit, and settings that fit them in no time."""

import numpy as np

SMALL = {"max_epochs": 3, "hidden_sizes": (16,), "code_dim": 4, "random_state": 0}


def ring(n: int, seed: int = 0) -> np.ndarray:
    """Points on a noisy circle."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.05, (n, 2))

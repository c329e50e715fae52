"""What there is to say about a fitted detector."""

from __future__ import annotations

import math
from typing import Any

from ebgan_detect.base import BaseDetector

__all__ = ["facts_of", "in_words", "last_energies"]


def facts_of(detector: BaseDetector) -> dict[str, Any]:
    """Settings and state of a detector, as JSON can hold them.

    Parameters
    ----------
    detector : EBGANDetector or another detector of this library
        Fitted detector.

    Returns
    -------
    dict of str to Any
        Facts by name; None where there is none. Of the parameters those that are not default.
    """
    defaults = type(detector)().get_params()
    # `load` sets the device: it is not the model's own.
    parameters = {
        name: value
        for name, value in detector.get_params().items()
        if name != "device" and value != defaults[name]
    }
    energies = last_energies(detector)
    names = getattr(detector, "feature_names_in_", None)
    return {
        "detector": type(detector).__name__,
        "input_shape": list(detector.input_shape_),
        "feature_names": None if names is None else list(names),
        "architecture": detector.settings_["architecture"],
        "hidden_sizes": list(detector.settings_["hidden_sizes"]),
        "code_dim": detector.settings_.get("code_dim"),
        "members": len(detector.model_.members),
        "weights": sum(p.numel() for p in detector.model_.parameters()),
        "parameters": parameters,
        "threshold": -float(detector.offset_),
        "calibration_rows": len(detector.calibration_energies_),
        "epochs": detector.n_iter_,
        "energy_real": energies.get("real"),
        "energy_generated": energies.get("generated"),
        "margin": energies.get("margin"),
        "health": detector.health_,
    }


def last_energies(detector: BaseDetector) -> dict[str, float]:
    """Energies in the last epoch, and the margin if there is one.

    Parameters
    ----------
    detector : EBGANDetector or another detector of this library
        Fitted detector.

    Returns
    -------
    dict of str to float
        `real`, `generated` and `margin`, as far as there are such [scaled input unit ** 2].
    """
    history = detector.history_
    last = {name: history.get(f"energy_{name}", [math.nan])[-1] for name in ("real", "generated")}
    last["margin"] = getattr(detector, "margin_", math.nan)
    return {name: value for name, value in last.items() if not math.isnan(value)}


def in_words(value: Any) -> str:
    """A value as a reader likes it.

    Parameters
    ----------
    value : Any
        Value of a fact.

    Returns
    -------
    str
        Six digits of a float; the entries of a list or dict with commas between them.

    Examples
    --------
    >>> in_words(0.123456789), in_words([32, 64]), in_words({})
    ('0.123457', '32, 64', 'all default')
    """
    if isinstance(value, dict):
        return ", ".join(f"{name}={entry!r}" for name, entry in value.items()) or "all default"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)

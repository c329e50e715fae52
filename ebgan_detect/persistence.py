"""Save and load fitted detectors: safetensors with a versioned JSON header, no pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ebgan_detect.base import BaseDetector, CalibrationRows, MemberPlan
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.complexity import Complexity
from ebgan_detect.detector import EBGANDetector
from ebgan_detect.errors import InvalidParameterError, ModelFileError
from ebgan_detect.files import read_sealed, write_sealed
from ebgan_detect.model import EnergyModel
from ebgan_detect.networks import Factory
from ebgan_detect.partition import Partition
from ebgan_detect.scaling import Scaler
from ebgan_detect.torch_state import usual_defaults
from ebgan_detect.training import place, resolve_device

__all__ = ["load", "save"]

FORMAT = 2
CLASSES: Mapping[str, type[BaseDetector]] = {
    kind.__name__: kind for kind in (EBGANDetector, AutoEncoderDetector, VAEDetector, GANDetector)
}
OF_THIS_MACHINE = frozenset({"callbacks", "checkpoint", "device"})
"""Parameters that mean nothing elsewhere; a loaded detector has their defaults."""


def save(detector: BaseDetector, path: str | os.PathLike[str]) -> None:
    """Write a fitted detector to one file.

    The file replaces an older one in one step: a crash leaves either of them whole. It
    holds weights, scaling, calibration, history and parameters, but neither optimisers nor
    code: parameters that are functions (a network factory, a margin schedule) are left out.

    Parameters
    ----------
    detector : BaseDetector
        Fitted detector.
    path : path-like
        Target file; by custom its name ends in ``.ebgan``.

    Raises
    ------
    InvalidParameterError
        If it is no detector of this library, or of a class derived from one.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Read the file back.
    """
    if not isinstance(detector, BaseDetector):
        raise InvalidParameterError(
            f"detector must be one of this library's detectors, got {type(detector).__name__}; "
            "of a pipeline, save the last step, and give it what the other steps make of new rows"
        )
    kind = type(detector)
    if CLASSES.get(kind.__name__) is not kind:
        raise InvalidParameterError(
            f"detector must be one of {', '.join(CLASSES)}, got {kind.__module__}.{kind.__name__}, "
            "whose code a file cannot hold; write a class of your own with pickle or joblib"
        )
    check_is_fitted(detector, "model_")
    model = detector.model_
    kept = detector._calibration_rows
    tensors: dict[str, Tensor] = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors["calibration/energies"] = torch.from_numpy(detector.calibration_energies_)
    tensors["calibration/positions"] = torch.from_numpy(kept.positions)
    tensors["calibration/values"] = torch.from_numpy(_storable(kept.values))
    header = {
        "kind": "detector",
        "format": FORMAT,
        "library": version("ebgan-detect"),
        "class": kind.__name__,
        "parameters": {
            name: _plain(value)
            for name, value in (detector.get_params(deep=False) | detector._settled).items()
            if name not in OF_THIS_MACHINE and _is_plain(value)
        },
        "settings": {k: _plain(v) for k, v in detector.settings_.items() if _is_plain(v)},
        "fitted": {
            "input_shape_": list(detector.input_shape_),
            "n_features_in_": detector.n_features_in_,
            "n_iter_": detector.n_iter_,
            "offset_": detector.offset_,
            "history_": detector.history_,
            "health_": detector.health_,
            "_seed": detector._seed,
            "_annealed": detector._annealed,
        },
        "feature_names": _names(detector),
        "scaler": {"bounded": model.scaler.bounded, **_range(model.scaler)},
        "partition": asdict(detector._partition),
        "calibration_apart": kept.apart,
        "calibration_calls": kept.calls,
        "fitted_on_uint8": detector._fitted_on_uint8,
        "members": len(model.members),
    }
    write_sealed(path, tensors, header)


@usual_defaults()
def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    architecture: Factory | None = None,
) -> BaseDetector:
    """Read a detector back; it scores bit for bit as the saved one did.

    Parameters
    ----------
    path : path-like
        File written by `save`.
    device : str or device
        Where the loaded detector computes.
    architecture : callable, optional
        The network factory that the detector was fitted with, if it was one.

    Returns
    -------
    BaseDetector
        The fitted detector.

    Raises
    ------
    ModelFileError
        If the file is damaged, truncated, of another kind or from a newer version, or its
        weights do not fit the networks.
    FileNotFoundError
        If there is no such file.
    InvalidParameterError
        If `device` is unknown or absent.

    See Also
    --------
    save : Write the file.
    """
    resolve_device(device)
    tensors, header = read_sealed(path)
    if header.get("kind") != "detector" or header.get("class") not in CLASSES:
        raise ModelFileError(
            f"{path} must hold a detector, got a {header.get('class') or header.get('kind')}"
        )
    if header["format"] > FORMAT:
        raise ModelFileError(
            f"model file has format {header['format']}, this version reads up to {FORMAT}; "
            "upgrade ebgan-detect"
        )
    parameters = {name: _tupled(value) for name, value in header["parameters"].items()}
    if "architecture" not in header["settings"]:
        if architecture is None:
            raise ModelFileError(
                f"{path} was fitted with a network factory, which a file cannot hold; "
                "give it as load(path, architecture=...)"
            )
        parameters["architecture"] = header["settings"]["architecture"] = architecture
    try:
        detector = CLASSES[header["class"]](device=device, **parameters)
    except TypeError as error:
        raise ModelFileError(
            f"{path} has parameters of another version: {error}; {_remedy(header)}"
        ) from error
    detector._settle()
    for name in detector._settled.keys() - header["parameters"].keys():
        del detector._settled[name]  # a function, which the file does not hold
    detector.settings_ = {name: _tupled(value) for name, value in header["settings"].items()}
    for name, value in header["fitted"].items():
        setattr(detector, name, _tupled(value))
    if header["feature_names"] is not None:
        detector.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    detector._partition = Partition(**header["partition"])
    detector.calibration_energies_ = tensors.pop("calibration/energies").numpy()
    detector._calibration_rows = CalibrationRows(
        tensors.pop("calibration/positions").numpy(),
        tensors.pop("calibration/values").numpy(),
        header.get("calibration_apart", True),
        header.get("calibration_calls", 1),
    )
    as_calibrated = detector._calibration_rows.values.dtype == np.uint8  # older files say no more
    detector._fitted_on_uint8 = header.get("fitted_on_uint8", as_calibrated)
    weights = {name.removeprefix("model/"): value for name, value in tensors.items()}
    detector.model_ = _rebuild(detector, header, weights, path)
    return detector


def _rebuild(
    detector: BaseDetector,
    header: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    path: str | os.PathLike[str],
) -> EnergyModel:
    """Build the networks anew and fill them with the stored weights."""
    scaler = Scaler(weights["scaler.shift"], weights["scaler.scale"], **header["scaler"])
    relative = any(name.startswith("complexity.") for name in weights)
    complexity = Complexity(1.0, 1.0) if relative else None  # to be filled
    model = EnergyModel(scaler, [], detector.input_shape_, complexity)
    try:
        for k in range(header["members"]):
            prefix = f"members.{k}."
            own = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
            plan = MemberPlan(model.network_shape, scaler.bounded, k, own)
            model.members.append(detector._make_objective(plan))
        model.load_state_dict(dict(weights))
    except KeyError as error:
        if callable(detector.architecture):  # the factory's own
            raise
        raise ModelFileError(
            f"{path} must hold the setting {error}, got none; {_remedy(header)}"
        ) from error
    except (RuntimeError, InvalidParameterError) as error:
        by_factory = callable(detector.architecture)
        remedy = "give the factory it was fitted with" if by_factory else _remedy(header)
        raise ModelFileError(f"{path} does not fit its networks: {error}; {remedy}") from error
    place(model, torch.device("cpu"))
    return model.eval()


def _remedy(header: Mapping[str, Any]) -> str:
    """What to do with a file of another version."""
    return f"fit again, or load it with ebgan-detect {header['library']}"


def _range(scaler: Scaler) -> dict[str, float]:
    """Extremes of the fitted values."""
    return {"low": scaler.low, "high": scaler.high}


def _names(detector: BaseDetector) -> list[str] | None:
    """Column names, where there are some."""
    names = getattr(detector, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold a parameter."""
    if isinstance(value, tuple | list):
        return all(_is_plain(entry) for entry in value)
    return value is None or isinstance(value, str | bool | int | float | np.generic)


def _plain(value: Any) -> Any:
    """A parameter as JSON takes it."""
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def _tupled(value: Any) -> Any:
    """JSON's lists back as tuples, as parameters and shapes were."""
    return tuple(_tupled(entry) for entry in value) if isinstance(value, list) else value


def _storable(values: np.ndarray) -> np.ndarray:
    """Rows in a type that a safetensors file knows."""
    known = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
    return np.ascontiguousarray(values if values.dtype.name in known else values.astype(float))

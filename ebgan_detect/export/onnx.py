"""One self-contained ONNX file from a fitted detector, checked before it is kept."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ebgan_detect.base import BaseDetector
from ebgan_detect.data import Rows
from ebgan_detect.errors import ExportError, InvalidParameterError, MissingDependencyError
from ebgan_detect.export.graph import ServedModel, output_names
from ebgan_detect.files import write_atomically

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["export_onnx"]

FORMAT = 1
OPSET = 20
NEWEST_OPSET, NEWEST_IR = 21, 10
"""What Triton 24.10 and the ONNX Runtime in it can load."""
EXAMPLE_ROWS = 3
"""Rows to trace with: 0 and 1 would be taken for constants."""
TOLERANCE = 1e-5
SAMPLE_ROWS = 64


def export_onnx(
    detector: BaseDetector,
    path: str | os.PathLike[str],
    *,
    reconstruction: bool = False,
    energy_map: bool = False,
    input_dtype: str = "auto",
) -> Path:
    """Write a fitted detector as one ONNX file that takes raw rows.

    Parameters
    ----------
    detector : BaseDetector
        Fitted detector.
    path : path-like
        Target file, replaced atomically.
    reconstruction : bool
        Whether the file also answers reconstructions.
    energy_map : bool
        Whether it also answers the energies' split over features.
    input_dtype : {'auto', 'float32', 'uint8'}
        Type of the input. `'auto'` is uint8 for images fitted on uint8, else float32.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        If the detector cannot be exported, or its export scores differently.
    InvalidParameterError
        If `input_dtype` is unknown, or uint8 for a detector fitted on other values.
    MissingDependencyError
        If onnx, onnxscript or onnxruntime is not installed.
    OSError
        If the file cannot be written.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _require(package)
    check_is_fitted(detector, "model_")
    dtype = _input_dtype(detector, input_dtype)
    served = ServedModel(detector, reconstruction=reconstruction, energy_map=energy_map).eval()
    names = output_names(reconstruction=reconstruction, energy_map=energy_map)
    example = torch.zeros(EXAMPLE_ROWS, *detector.input_shape_, dtype=dtype)
    model = _trace(served, example, names)
    _clean(model, _metadata(detector))
    content = _checked(model)
    _rescore(content, detector, dtype)
    write_atomically(path, content)
    return Path(path)


def _require(package: str) -> Any:
    """Import a package of the extra."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX export needs {package}: pip install 'ebgan-detect[onnx]'"
        ) from error


def _input_dtype(detector: BaseDetector, asked: str) -> torch.dtype:
    """The input's type."""
    fitted_on_uint8 = detector._calibration_rows.values.dtype == np.uint8
    if asked == "auto":
        asked = "uint8" if fitted_on_uint8 and len(detector.input_shape_) > 1 else "float32"
    allowed = {"float32": torch.float32} | ({"uint8": torch.uint8} if fitted_on_uint8 else {})
    if asked not in allowed:
        raise InvalidParameterError(
            f"input_dtype must be one of {('auto', *allowed)} for this detector, got {asked!r}"
        )
    return allowed[asked]


def _trace(served: ServedModel, example: torch.Tensor, names: list[str]) -> ModelProto:
    """Let torch write the graph."""
    with _quiet():
        try:
            program = torch.onnx.export(
                served,
                (example,),
                input_names=["input"],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=OPSET,
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            raise ExportError(f"torch cannot export the networks: {error}") from error
        assert program is not None
        return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from talking about itself."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
            yield
    finally:
        registry.setLevel(level)


def _metadata(detector: BaseDetector) -> dict[str, str]:
    """What the file says about itself."""
    names = getattr(detector, "feature_names_in_", None)
    return {
        "ebgan_detect.version": version("ebgan-detect"),
        "ebgan_detect.format": str(FORMAT),
        "ebgan_detect.offset": repr(float(detector.offset_)),
        "ebgan_detect.input_names": json.dumps(None if names is None else list(map(str, names))),
        "ebgan_detect.training_digest": _training_digest(detector),
        "ebgan_detect.n_calibration": str(len(detector.calibration_energies_)),
    }


def _training_digest(detector: BaseDetector) -> str:
    """SHA-256 over weights, scaling and calibration."""
    digest = hashlib.sha256()
    for name, value in sorted(detector.model_.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    digest.update(detector.calibration_energies_.tobytes())
    return digest.hexdigest()


def _clean(model: ModelProto, metadata: Mapping[str, str]) -> None:
    """Strip everything that names this machine, and say what the file is."""
    _strip(model)
    model.producer_name, model.producer_version = "ebgan-detect", version("ebgan-detect")
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


def _strip(message: Any) -> None:
    """Drop notes and documentation, at every depth."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)


def _checked(model: ModelProto) -> bytes:
    """The model as bytes, once it is known to be valid and loadable by older servers."""
    import onnx

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets[""] > NEWEST_OPSET or model.ir_version > NEWEST_IR:
        raise ExportError(
            f"ONNX opset must be <= {NEWEST_OPSET} and IR version <= {NEWEST_IR}, got "
            f"{opsets['']} and {model.ir_version}"
        )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _rescore(content: bytes, detector: BaseDetector, dtype: torch.dtype) -> None:
    """Compare the file's answers with the estimator's, before anyone relies on them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    values = np.asarray(detector._calibration_rows.values[:SAMPLE_ROWS])
    rows = torch.from_numpy(values).to(dtype).numpy()
    model = detector.model_.portable()
    parts = list(model.stream(Rows(rows), model, torch.device("cpu")))
    expected: NDArray[np.float64] = torch.cat(parts).numpy()
    for size in (len(rows), 1):
        energy, label = session.run(["energy", "label"], {"input": rows[:size]})
        worst = np.max(np.abs(energy / expected[:size] - 1))
        if not worst <= TOLERANCE:
            raise ExportError(
                f"energies of the ONNX file must equal the estimator's within {TOLERANCE:g} "
                f"relative, got {worst:.2g} at batch {size}"
            )

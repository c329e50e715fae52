"""One self-contained ONNX file from a fitted detector, checked before it takes its place."""

from __future__ import annotations

import errno
import hashlib
import importlib
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from ebgan_detect.base import BaseDetector
from ebgan_detect.errors import ExportError, InvalidParameterError, MissingDependencyError
from ebgan_detect.export.graph import ExportedGraph, output_names
from ebgan_detect.export.pipeline import Source, prepend, transformer_graphs
from ebgan_detect.export.rescoring import rescore
from ebgan_detect.export.tolerance import Limits
from ebgan_detect.files import write_atomically
from ebgan_detect.interchange import INPUT, MAPS, ModelCard
from ebgan_detect.torch_state import usual_defaults

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["export_onnx"]

OPSET = 20
NEWEST_OPSET, NEWEST_IR = 21, 10
"""What Triton 24.10 and the ONNX Runtime in it can load."""
DIGEST = 2
"""Number of what the digest is taken over: the first, without a number, left out the threshold."""
EXAMPLE_ROWS = 3
"""Rows to trace with: 0 and 1 would be taken for constants."""
_ONE_AT_A_TIME = threading.Lock()
"""While torch traces a network, it changes how all threads call theirs."""


def export_onnx(
    detector: BaseDetector | Pipeline,
    path: str | os.PathLike[str],
    *,
    reconstruction: bool = False,
    energy_map: bool = False,
    input_dtype: str = "auto",
) -> Path:
    """Write a fitted detector as one ONNX file that takes raw rows and needs no Python.

    The file scales, scores, decides and calibrates by itself. Its input is `input`, of
    shape (batch, ...) for any batch >= 1; its answers, each of shape (batch,), are
    `energy`, `score`, `decision` and `p_value` (float32) and `label` (int64, +1 or -1). A
    row that is not finite gets energy +inf, label -1 and the smallest p-value. Before the
    file takes its place, it is run beside the estimator.

    Parameters
    ----------
    detector : BaseDetector or Pipeline
        Fitted detector, or fitted Pipeline of transformers that skl2onnx knows and, at its
        end, a detector.
    path : path-like
        Target file, replaced in one step. Its folder must exist.
    reconstruction : bool
        Whether the file also answers `reconstruction`, in the unit of the detector's rows.
    energy_map : bool
        Whether it also answers `energy_map`, the energies' split over features.
    input_dtype : {'auto', 'float32', 'uint8'}
        Type of the input. `'auto'` is uint8 for images fitted on uint8, else float32.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        If the networks or a transformer cannot be exported, their export answers differently
        than the estimator, or the detector has nothing to answer an option with.
    InvalidParameterError
        If `detector` is something else, or `input_dtype` is unknown, or uint8 for a
        detector fitted on other values.
    MissingDependencyError
        If a package of the `onnx` extra is not installed.
    OSError
        If the folder does not exist or cannot be written.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    Notes
    -----
    Energies agree with the estimator's to a relative error of 1e-5, or to a few float32
    roundings of the scaled values where a row is reconstructed almost exactly, on rows that
    float32 holds. Energies of any sign, as a VAE's and a GAN's, agree to 1e-5 of their size
    on typical rows. Threshold and calibration energies are raised by as much, so that a row
    that repeats in the data stays on the side where the estimator has it although the file
    rounds its energy otherwise: within that distance above the threshold the decision is 0 and
    the label +1. p-values come from at most 1024 calibration energies: they equal the
    estimator's when there are no more than that and none lies so near; otherwise the smallest
    ones do, and the others are up to one per cent larger (at a million), never smaller.
    Transformers compute in float64, as scikit-learn does on float64 rows. Encoders must take
    unknown categories, and those that they know be whole numbers; a fraction may count as one
    of them.

    Exports of several threads wait for each other: torch can trace one network at a time.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> detector = EBGANDetector(random_state=0, max_epochs=1).fit(X)
    >>> export_onnx(detector, "energy.onnx").name
    'energy.onnx'
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _require(package)
    source = Source.of(detector)
    target = _writable(Path(path))
    dtype = _input_dtype(source, input_dtype)
    if source.transformers:
        _require("skl2onnx")
    answers = {"reconstruction": reconstruction, "energy_map": energy_map}
    _require_answers(source.detector, answers)
    with _ONE_AT_A_TIME, usual_defaults():
        transformers = transformer_graphs(source, OPSET)
        limits = Limits.of(source.detector)
        served = ExportedGraph(source.detector, limits, **answers)
        rows = torch.zeros(EXAMPLE_ROWS, *source.detector.input_shape_, dtype=dtype)
        model = _trace(served, rows.double() if transformers else rows, output_names(**answers))
        metadata = _metadata(source, [graph.SerializeToString() for graph in transformers])
        if transformers:
            model = prepend(transformers, model)
        content = _checked(_clean(model, metadata))
        rescore(content, source, limits, dtype)
    write_atomically(target, content)
    return target


def _require(package: str) -> Any:
    """Import a package of the extra."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX export needs {package}: pip install 'ebgan-detect[onnx]'"
        ) from error


def _require_answers(detector: BaseDetector, answers: Mapping[str, bool]) -> None:
    """Refuse what only a reconstruction can answer where there is none."""
    for name, wanted in answers.items():
        if wanted and not hasattr(detector, MAPS[name]):
            raise ExportError(
                f"{name}=True needs a detector with a reconstruction, got "
                f"{type(detector).__name__}; leave it out"
            )


def _writable(target: Path) -> Path:
    """The target, unless it is known now that it cannot be written in the end."""
    if not target.parent.is_dir():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    return target


def _input_dtype(source: Source, asked: str) -> torch.dtype:
    """The input's type."""
    on_uint8 = source.detector._fitted_on_uint8 and not source.transformers
    if asked == "auto":
        asked = "uint8" if on_uint8 and len(source.input_shape) > 1 else "float32"
    allowed = {"float32": torch.float32} | ({"uint8": torch.uint8} if on_uint8 else {})
    if asked not in allowed:
        raise InvalidParameterError(
            f"input_dtype must be one of {('auto', *allowed)} for a detector fitted on "
            f"{'uint8' if on_uint8 else 'other numbers than uint8'}, got {asked!r}"
        )
    return allowed[asked]


def _trace(served: ExportedGraph, rows: torch.Tensor, names: list[str]) -> ModelProto:
    """Let torch write the graph."""
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                served.eval(),
                (rows,),
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=OPSET,
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise ExportError(
                f"torch cannot export the networks: {reason}; modules of a factory must not "
                "branch on the rows' values or their number"
            ) from error
    model: ModelProto = program.model_proto
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from talking about itself."""
    # It logs that torchvision, which nothing here uses, is not installed.
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # It copies tree specifications of a class that torch itself has deprecated.
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
            yield
    finally:
        registry.setLevel(level)


def _metadata(source: Source, transformers: Sequence[bytes]) -> dict[str, str]:
    """What the file says about itself."""
    detector, names = source.detector, source.feature_names
    card = ModelCard(
        version=version("ebgan-detect"),
        offset=float(detector.offset_),
        input_names=None if names is None else tuple(names),
        training_digest=_training_digest(detector, transformers),
        n_calibration=len(detector.calibration_energies_),
    )
    return card.metadata()


def _training_digest(detector: BaseDetector, transformers: Sequence[bytes]) -> str:
    """SHA-256 over weights, scaling, calibration, threshold and transformers."""
    digest = hashlib.sha256(np.float64(detector.offset_).tobytes())
    for name, value in sorted(detector.model_.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    digest.update(detector.calibration_energies_.tobytes())
    for graph in transformers:
        digest.update(graph)
    return f"{DIGEST}:{digest.hexdigest()}"


def _clean(model: ModelProto, metadata: Mapping[str, str]) -> ModelProto:
    """Strip what the exporters noted, paths of this machine included; add our own."""
    _strip(model)
    del model.graph.value_info[:]
    model.graph.name = "ebgan_detect"
    model.producer_name, model.producer_version = "ebgan-detect", version("ebgan-detect")
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model


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
    from onnx.checker import ValidationError, check_model
    from onnx.shape_inference import InferenceError

    opset = max(entry.version for entry in model.opset_import if not entry.domain)
    if opset > NEWEST_OPSET or model.ir_version > NEWEST_IR:
        raise ExportError(
            f"the ONNX file must have opset <= {NEWEST_OPSET} and IR version <= {NEWEST_IR}, "
            f"got {opset} and {model.ir_version}"
        )
    try:
        check_model(model, full_check=True)
    except (ValidationError, InferenceError) as error:
        raise ExportError(f"the ONNX file must be valid, got: {error}") from error
    content: bytes = model.SerializeToString()
    return content

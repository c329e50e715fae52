"""A Triton model repository from fitted detectors, one version after the other."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

from ebgan_detect.base import BaseDetector
from ebgan_detect.errors import ExportError, InvalidParameterError
from ebgan_detect.export._triton_config import (
    CONFIG,
    LABELS,
    PYTHON_CONFIG,
    as_text,
    new_config,
    pb,
    read_config,
    updated,
)
from ebgan_detect.export.onnx import export_onnx
from ebgan_detect.files import write_atomically
from ebgan_detect.parameters import Rule, check_parameters, flag, integer, none_or, one_of

__all__ = ["export_triton"]

HIDDEN = ".ebgan-detect-"
SERVED_MODEL = Path(__file__).with_name("_served_model.py")
LABEL_TEXT = "1 for an inlier, -1 for an outlier\n"
INT32, UINT32, INT64 = 2**31 - 1, 2**32 - 1, 2**63 - 1
"""Largest numbers of the types that Triton keeps the settings in."""
_SERVED = integer(1, UINT32)
_RULES = {
    "name": Rule(
        lambda v: (
            isinstance(v, str)
            and re.fullmatch(r"\w[\w.-]*", v, re.ASCII) is not None
            and ".." not in v
        ),
        "letters, digits, '_', '-' and single dots, beginning with none of the last two",
    ),
    "version": none_or(integer(1, INT64)),
    "max_batch_size": none_or(integer(1, INT32)),
    "instances": none_or(integer(1, INT32)),
    "device": none_or(one_of("cpu", "gpu", "auto")),
    "intra_op_thread_count": none_or(integer(0, INT32)),
    "versions_served": Rule(
        lambda v: v is None or v == "all" or _SERVED.holds(v), f"None, 'all' or {_SERVED.text}"
    ),
    "tensorrt": none_or(one_of("off", "fp32", "fp16")),
    "cuda_graphs": flag(),
    "overwrite": flag(),
}


def export_triton(
    detector: BaseDetector | Pipeline,
    repository: str | os.PathLike[str],
    *,
    name: str = "energy",
    version: int | None = None,
    max_batch_size: int | None = None,
    instances: int | None = None,
    device: str | None = None,
    intra_op_thread_count: int | None = None,
    versions_served: int | str | None = None,
    tensorrt: str | None = None,
    cuda_graphs: bool = False,
    reconstruction: bool = False,
    energy_map: bool = False,
    input_dtype: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Write a fitted detector as a version of a model in a Triton model repository.

    The model can be served by Triton's ONNX Runtime backend, which NVIDIA's container ships, and
    by its Python backend (``tritonserver --model-config-name=python``), whose environment then
    needs numpy and onnxruntime. A server that polls the repository takes the new version up
    whole, and goes on with the old one if the new one cannot be loaded.

    Parameters
    ----------
    detector : BaseDetector or Pipeline
        Fitted detector, perhaps behind transformers, as in `export_onnx`.
    repository : path-like
        Folder of models; made if there is none.
    name : str, default='energy'
        Name of the model.
    version : int, default=None
        Number of the version; None takes the next one.
    max_batch_size : int, default=None
        Most rows in a request. For this and the settings below, None leaves a model's
        configuration as it is; that of a new model is 256.
    instances : int, default=None
        Copies of the model that run at the same time; 1 for a new model.
    device : {'cpu', 'gpu', 'auto'}, default=None
        Where they run; `'auto'` is a GPU if the server has one; `'cpu'` for a new model.
    intra_op_thread_count : int, default=None
        Threads of each copy, 0 for as many as there are cores; 1 for a new model.
    versions_served : int or 'all', default=None
        How many of the newest versions the server loads; 1 for a new model.
    tensorrt : {'off', 'fp32', 'fp16'}, default=None
        Whether ONNX Runtime hands what it can to TensorRT, and in which precision. Needs a GPU.
    cuda_graphs : bool, default=False
        Whether TensorRT replays its kernels as CUDA graphs. For requests of one fixed size.
    reconstruction, energy_map : bool, default=False
        Whether the server also answers these, as in `export_onnx`.
    input_dtype : {'auto', 'float32', 'uint8'}, default='auto'
        Type of the input, as in `export_onnx`.
    overwrite : bool, default=False
        Whether a version that exists may be replaced.

    Returns
    -------
    Path
        Folder of the version, ``repository/name/version``.

    Raises
    ------
    ExportError
        If the version exists, if its tensors or columns are not those of the model's other
        versions, or as in `export_onnx`.
    InvalidParameterError
        If a parameter is outside its range.
    MissingDependencyError
        If onnx, onnxscript, onnxruntime or tritonclient is not installed.
    OSError
        If the repository cannot be written.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    See Also
    --------
    export_onnx : Write the model file alone.

    Notes
    -----
    The configuration's parameters hold the metadata of the newest version, the one that a
    server answers with unless it is asked for another, and its number as
    ``ebgan_detect.model_version``. Writing an older version leaves them as they are.

    TensorRT and CUDA graphs change the energies' rounding; compare them with the estimator's
    on your GPU before you rely on them.
    """
    settings = {
        "max_batch_size": max_batch_size,
        "instances": instances,
        "device": device,
        "intra_op_thread_count": intra_op_thread_count,
        "versions_served": versions_served,
        "tensorrt": tensorrt,
    }
    rest = {"version": version, "cuda_graphs": cuda_graphs, "overwrite": overwrite}
    check_parameters({"name": name, **rest, **settings}, _RULES)
    settings = {key: value for key, value in settings.items() if value is not None}
    if cuda_graphs:
        settings["cuda_graphs"] = True
    pb()
    repository = Path(repository)
    repository.mkdir(parents=True, exist_ok=True)
    model = repository / name
    is_new = not model.exists() or not any(model.iterdir())
    if not is_new and not (model / CONFIG).exists():
        raise ExportError(
            f"{model} must be a model's folder, got one without {CONFIG}; give another name"
        )
    number = _number(model, version, overwrite=overwrite)
    with _staging(repository) as staging:
        staged = staging / str(number)
        staged.mkdir()
        export_onnx(
            detector,
            staged / "model.onnx",
            reconstruction=reconstruction,
            energy_map=energy_map,
            input_dtype=input_dtype,
        )
        write_atomically(staged / "model.py", SERVED_MODEL.read_bytes())
        with _locked(repository):
            if not overwrite:
                _check_absent(model if is_new else model / str(number))
            _write_configs(model, staged, settings)
            if is_new:
                write_atomically(staging / LABELS, LABEL_TEXT.encode())
                _take_place(staging, model)
            else:
                _add(staging, model, number, overwrite=overwrite)
    return model / str(number)


def _versions(model: Path) -> list[int]:
    """Numbers of the versions that there are."""
    return [int(p.name) for p in model.glob("[1-9]*") if p.name.isdecimal() and p.is_dir()]


def _number(model: Path, asked: int | None, *, overwrite: bool) -> int:
    """Number of the version to write."""
    existing = _versions(model)
    if asked is None:
        return max(existing, default=0) + 1
    if asked in existing and not overwrite:
        raise ExportError(
            f"version {asked} of model {model.name!r} exists in {model.parent}; leave the version "
            "out to write the next one, or ask to overwrite it"
        )
    return asked


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """Folder on the repository's file system in which a model grows unseen.

    A polling server complains of a folder in the repository that is not a model, and loads a
    model again when anything in its folder has changed. So it lies beside the repository where
    that is possible.
    """
    beside = repository.resolve().parent
    place = beside if _leads_into(beside, repository) else repository
    with tempfile.TemporaryDirectory(dir=place, prefix=HIDDEN) as folder:
        staging = Path(folder) / "model"
        staging.mkdir()  # with the user's umask: the server may be another user
        yield staging


def _leads_into(folder: Path, repository: Path) -> bool:
    """Whether a file may be made in a folder and moved into the repository as it is."""
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=HIDDEN)
    except OSError:
        return False
    os.close(handle)
    probe = Path(name)
    try:
        probe = probe.rename(repository / probe.name)
    except OSError:  # another file system, perhaps
        return False
    finally:
        probe.unlink()
    return True


@contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """Keep other exports, of any process, out of a repository, without a file in it.

    Where folders cannot be locked, as on Windows, exports can still not take each other's
    version, but two that end in the same moment may mix their configurations.
    """
    try:
        import fcntl

        handle = os.open(repository, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):  # some network drives lock files alone
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # ends the lock


def _write_configs(model: Path, staged: Path, settings: Mapping[str, Any]) -> None:
    """Put both configurations beside the staged version."""
    for file in (CONFIG, PYTHON_CONFIG):
        new = new_config(model.name, staged / "model.onnx", python=file == PYTHON_CONFIG)
        config = updated(read_config(model / file), new, settings, _versions(model))
        _check_accelerator(config, settings)
        target = staged.parent / file
        target.parent.mkdir(exist_ok=True)
        write_atomically(target, as_text(config))


def _check_accelerator(config: Any, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a server would ignore in silence."""
    if config.backend == "python":
        return
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    names = [entry.name for entry in accelerators]
    if "cuda_graphs" in settings and "tensorrt" not in names:
        raise InvalidParameterError("cuda_graphs=True needs tensorrt='fp32' or 'fp16', got neither")
    on_cpu = all(g.kind == pb().ModelInstanceGroup.KIND_CPU for g in config.instance_group)
    if "tensorrt" in names and on_cpu:
        raise InvalidParameterError("tensorrt needs device='gpu' or 'auto', got 'cpu'")


def _check_absent(target: Path) -> None:
    """Refuse a name that another export has taken since this one began."""
    if target.exists() and any(target.iterdir()):
        raise _taken(target)


def _taken(target: Path) -> ExportError:
    """The other export was faster."""
    return ExportError(f"{target} must be new, but another export has just written it; call again")


def _take_place(source: Path, target: Path) -> None:
    """Give a staged folder its final name, in one step."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _taken(target) from error


def _add(staging: Path, model: Path, number: int, *, overwrite: bool) -> None:
    """Add a staged version to a model: configurations first, then the version as a whole."""
    (model / PYTHON_CONFIG).parent.mkdir(exist_ok=True)
    for file in (PYTHON_CONFIG, CONFIG):
        (staging / file).replace(model / file)
    staged, target = staging / str(number), model / str(number)
    if overwrite and target.exists():
        # File by file: the version is there at every moment.
        for path in staged.iterdir():
            path.replace(target / path.name)
    else:
        _take_place(staged, target)

"""A model's configuration as Triton reads it: written, read back, and brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ebgan_detect.errors import ExportError, MissingDependencyError
from ebgan_detect.interchange import ModelCard

CONFIG, PYTHON_CONFIG = "config.pbtxt", "configs/python.pbtxt"
"""For the ONNX Runtime backend, and for the Python backend (``--model-config-name=python``)."""
LABELS = "labels.txt"
DEFAULTS: Mapping[str, Any] = {
    "max_batch_size": 256,
    "instances": 1,
    "device": "cpu",
    "intra_op_thread_count": 1,
    "versions_served": 1,
}
_KINDS = {"cpu": "KIND_CPU", "gpu": "KIND_GPU", "auto": "KIND_AUTO"}


def pb() -> Any:
    """Triton's protobuf messages."""
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingDependencyError(
            "Triton export needs tritonclient: pip install 'ebgan-detect[onnx,triton]'"
        ) from error
    return model_config_pb2


def read_config(path: Path) -> Any:
    """The configuration in a file, None if there is none."""
    from google.protobuf import text_format

    if not path.exists():
        return None
    try:
        return text_format.Parse(path.read_text(), pb().ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} must be a model configuration, got: {error}") from error


def as_text(config: Any) -> bytes:
    """A configuration as a file holds it."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config)).encode()


def new_config(name: str, file: Path, *, python: bool) -> Any:
    """Configuration of a model file: its tensors and metadata, without any setting."""
    import onnx

    types = {
        onnx.TensorProto.FLOAT: pb().TYPE_FP32,
        onnx.TensorProto.INT64: pb().TYPE_INT64,
        onnx.TensorProto.UINT8: pb().TYPE_UINT8,
    }
    model = onnx.load(file)
    config = pb().ModelConfig(name=name)
    if python:
        config.backend = "python"
    else:
        config.platform = "onnxruntime_onnx"
    for tensors, target in ((model.graph.input, config.input), (model.graph.output, config.output)):
        for tensor in tensors:
            kind = tensor.type.tensor_type
            dims = [axis.dim_value for axis in kind.shape.dim[1:]]
            entry = target.add(name=tensor.name, data_type=types[kind.elem_type], dims=dims or [1])
            if not dims:
                entry.reshape.SetInParent()  # the graph's (n,) is the client's (n, 1)
            if tensor.name == "label":
                entry.label_filename = LABELS
    config.dynamic_batching.SetInParent()
    card = ModelCard.read({prop.key: prop.value for prop in model.metadata_props})
    for key, value in replace(card, model_version=file.parent.name).metadata().items():
        config.parameters[key].string_value = value
    return config


def card_of(config: Any) -> ModelCard:
    """What a configuration says of its newest version."""
    return ModelCard.read({key: value.string_value for key, value in config.parameters.items()})


def _described(config: Any) -> int:
    """Number of the version that a configuration speaks of; 0 where it names none."""
    version = card_of(config).model_version
    return int(version) if version.isdecimal() else 0


def updated(old: Any, new: Any, settings: Mapping[str, Any], versions: Collection[int]) -> Any:
    """The configuration with the newest version's metadata and the settings that are given.

    What is not given stays as it was, tuning by hand included. So does the metadata of a
    version that is newer than the one that is written, and still among the versions.
    """
    if old is None:
        config, settings = new, {**DEFAULTS, **settings}
    else:
        _check_same_tensors(old, new)
        config = pb().ModelConfig()
        config.CopyFrom(old)
        described, written = map(_described, (old, new))
        if described <= written or described not in versions:
            for key, value in new.parameters.items():
                config.parameters[key].CopyFrom(value)
    for name, value in settings.items():
        _SETTERS[name](config, value)
    return config


def _check_same_tensors(old: Any, new: Any) -> None:
    """Refuse a version that answers other requests than the ones before it."""
    differing = f"a new version of model {new.name!r} must have the {{}} of those before it"
    remedy = "give the model another name"
    try:
        columns, new_columns = (card_of(config).input_names for config in (old, new))
    except (KeyError, ValueError) as error:
        raise ExportError(
            f"model {new.name!r} was not written by ebgan-detect; {remedy}"
        ) from error
    for kind in ("input", "output"):
        before, now = (sorted(map(_in_words, getattr(config, kind))) for config in (old, new))
        if before != now:
            raise ExportError(
                f"{differing.format(kind)} ({', '.join(before)}), got {', '.join(now)}; {remedy}"
            )
    if columns and new_columns and columns != new_columns:
        raise ExportError(
            f"{differing.format('columns')} ({', '.join(columns)}), got "
            f"{', '.join(new_columns)}; {remedy}"
        )


def _in_words(tensor: Any) -> str:
    """Name, type and shape of one row."""
    kind = pb().DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return f"{tensor.name} {kind} {list(tensor.dims)}"


def _set_max_batch_size(config: Any, value: int) -> None:
    """Set the largest batch, and warm up with one row and with that many."""
    config.max_batch_size = value
    del config.model_warmup[:]
    (rows,) = config.input
    for size in sorted({1, value}):
        request = config.model_warmup.add(name=f"batch of {size}", batch_size=size, count=1)
        request.inputs[rows.name].CopyFrom(
            pb().ModelWarmup.Input(data_type=rows.data_type, dims=rows.dims, zero_data=True)
        )


def _instance_group(config: Any) -> Any:
    """The one group of instances that settings speak of."""
    del config.instance_group[1:]
    return config.instance_group[0] if config.instance_group else config.instance_group.add()


def _set_instances(config: Any, value: int) -> None:
    """Set the number of copies."""
    _instance_group(config).count = value


def _set_device(config: Any, value: str) -> None:
    """Set where the copies run."""
    _instance_group(config).kind = pb().ModelInstanceGroup.Kind.Value(_KINDS[value])


def _set_intra_op_thread_count(config: Any, value: int) -> None:
    """Set the threads of each copy."""
    config.parameters["intra_op_thread_count"].string_value = str(value)


def _set_versions_served(config: Any, value: int | str) -> None:
    """Set the version policy."""
    if value == "all":
        config.version_policy.all.SetInParent()
    else:
        config.version_policy.latest.num_versions = value


def _set_tensorrt(config: Any, value: str) -> None:
    """Switch TensorRT on or off."""
    if config.backend == "python":
        return
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    kept = [entry for entry in accelerators if entry.name != "tensorrt"]
    del accelerators[:]
    accelerators.extend(kept)
    if value != "off":
        accelerators.add(name="tensorrt").parameters["precision_mode"] = value.upper()


def _set_cuda_graphs(config: Any, value: bool) -> None:
    """Switch TensorRT's CUDA graphs on or off."""
    for entry in config.optimization.execution_accelerators.gpu_execution_accelerator:
        if entry.name == "tensorrt":
            entry.parameters["trt_cuda_graph_enable"] = str(int(value))


_SETTERS: Mapping[str, Callable[[Any, Any], None]] = {
    "max_batch_size": _set_max_batch_size,
    "instances": _set_instances,
    "device": _set_device,
    "intra_op_thread_count": _set_intra_op_thread_count,
    "versions_served": _set_versions_served,
    "tensorrt": _set_tensorrt,
    "cuda_graphs": _set_cuda_graphs,
}

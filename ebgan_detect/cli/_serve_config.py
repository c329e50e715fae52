"""``ebgan-detect serve-config``."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from ebgan_detect.errors import ExportError
from ebgan_detect.export._triton_config import CONFIG, pb, read_config

IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"


def serve_config(
    repository: Annotated[
        Path, typer.Argument(help="Repository that export has written.", show_default=False)
    ],
    backend: Annotated[
        Literal["onnxruntime", "python"],
        typer.Option(
            help="What runs the models. The container holds onnxruntime; python needs a server "
            "whose Python has numpy<2 and onnxruntime."
        ),
    ] = "onnxruntime",
    mode: Annotated[
        Literal["poll", "none", "explicit"],
        typer.Option(help="poll: take up new versions. explicit: load models on request."),
    ] = "poll",
    http_port: Annotated[int, typer.Option(help="Port for HTTP.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="Port for gRPC.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Port for metrics.")] = 8002,
    image: Annotated[str, typer.Option(help="Container image, 24.10 or later.")] = IMAGE,
) -> None:
    """Print the commands that serve a Triton model repository.

    The first runs a server that is installed, the second one from a container.
    There, --ipc=host lets clients on the machine use shared memory.

    For example:

    ebgan-detect serve-config models

    ebgan-detect serve-config models --backend python --mode none
    """
    if not repository.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(repository))
    configs = [read_config(path) for path in sorted(repository.glob(f"*/{CONFIG}"))]
    if not configs:
        raise ExportError(
            f"{repository} must be a model repository, got a folder without models; write one "
            f"with ebgan-detect export MODEL --triton {repository}"
        )
    options = [f"--model-control-mode={mode}", "--disable-auto-complete-config"]
    if mode == "poll":
        options.append("--repository-poll-secs=5")
    if mode == "explicit":
        options.append("--load-model=*")
    if backend == "python":
        options.append("--model-config-name=python")
    ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    place = repository.resolve()
    asked = [f"--{name}-port={port}" for name, port in ports.items()]
    typer.echo("# with a server on this machine")
    typer.echo(shlex.join(["tritonserver", f"--model-repository={place}", *options, *asked]))
    if backend == "python":
        return
    on_cpu = pb().ModelInstanceGroup.KIND_CPU
    on_gpu = any(group.kind != on_cpu for c in configs for group in c.instance_group)
    inside = {"http": 8000, "grpc": 8001, "metrics": 8002}
    container = ["docker", "run", "--rm", "--ipc=host", *(["--gpus=all"] if on_gpu else [])]
    for name, port in ports.items():
        container.append(f"--publish={port}:{inside[name]}")
    container += [f"--volume={place}:/models:ro", image]
    typer.echo("# with a container")
    typer.echo(shlex.join([*container, "tritonserver", "--model-repository=/models", *options]))

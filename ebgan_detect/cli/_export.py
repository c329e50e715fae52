"""``ebgan-detect export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ebgan_detect.cli._display import note
from ebgan_detect.cli._options import Quiet, refuse_overwriting
from ebgan_detect.export import export_onnx, export_triton
from ebgan_detect.files import check_writable
from ebgan_detect.persistence import load


def all_or_int(text: str) -> Any:
    """'all' or a whole number."""
    if text == "all" or text.isdecimal():
        return text if text == "all" else int(text)
    raise typer.BadParameter(f"must be all or a whole number, got {text!r}")


def triton_option(text: str, *names: str, **more: Any) -> Any:
    """An option that only ``--triton`` takes."""
    return typer.Option(
        *names, help=text, rich_help_panel="With --triton", show_default=False, **more
    )


def export(
    model: Annotated[Path, typer.Argument(help="Model file written by fit.", show_default=False)],
    onnx: Annotated[
        Path | None, typer.Option("--onnx", help="ONNX file to write.", show_default=False)
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            "--triton",
            help="Triton model repository (a folder) to write a version into.",
            show_default=False,
        ),
    ] = None,
    reconstruction: Annotated[
        bool, typer.Option("--reconstruction", help="Answer reconstructions too.")
    ] = False,
    energy_map: Annotated[
        bool, typer.Option("--energy-map", help="Answer the energies' split over features too.")
    ] = False,
    input_dtype: Annotated[
        Literal["auto", "float32", "uint8"],
        typer.Option(help="Type of the input. auto: uint8 for pictures, else float32."),
    ] = "auto",
    name: Annotated[str | None, triton_option("Name of the model; energy by default.")] = None,
    version: Annotated[
        int | None, triton_option("Number of the version; by default the next one.")
    ] = None,
    max_batch_size: Annotated[
        int | None, triton_option("Most rows in a request; 256 for a new model.")
    ] = None,
    instances: Annotated[
        int | None, triton_option("Copies that run at the same time; 1 for a new model.")
    ] = None,
    device: Annotated[
        Literal["cpu", "gpu", "auto"] | None,
        triton_option("Where they run; cpu for a new model. auto: a GPU if there is one."),
    ] = None,
    threads: Annotated[
        int | None, triton_option("Threads of each copy, 0 for all cores; 1 for a new model.")
    ] = None,
    versions_served: Annotated[
        Any,
        triton_option(
            "How many of the newest versions are served; 1 for a new model.",
            parser=all_or_int,
            metavar="all|INT",
        ),
    ] = None,
    tensorrt: Annotated[
        Literal["off", "fp32", "fp16"] | None,
        triton_option("Whether TensorRT runs what it can, and in which precision."),
    ] = None,
    cuda_graphs: Annotated[
        bool, triton_option("Let TensorRT replay CUDA graphs.", "--cuda-graphs")
    ] = False,
    overwrite: Annotated[
        bool, triton_option("Replace the version if it exists.", "--overwrite")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model for other programs: an ONNX file, or a Triton repository.

    Both take raw rows, scale them, and answer energy, score, decision, label
    and p_value. In a repository that holds the model already, a new version
    joins the old ones, and settings that no option names stay as they are.

    For example:

    ebgan-detect export model.ebgan --onnx energy.onnx

    ebgan-detect export model.ebgan --triton models --name pumps
    """
    settings = {
        "name": name,
        "version": version,
        "max_batch_size": max_batch_size,
        "instances": instances,
        "device": device,
        "intra_op_thread_count": threads,
        "versions_served": versions_served,
        "tensorrt": tensorrt,
        "cuda_graphs": cuda_graphs or None,
        "overwrite": overwrite or None,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    outputs: dict[str, Any] = {
        "reconstruction": reconstruction,
        "energy_map": energy_map,
        "input_dtype": input_dtype,
    }
    if triton is not None and onnx is None:
        typer.echo(export_triton(load(model, device="cpu"), triton, **outputs, **given))
        if not quiet:
            note(f"ebgan-detect serve-config {triton} says how to serve it")
        return
    if onnx is None or triton is not None:
        raise typer.BadParameter(f"give one of --onnx and --triton, got {triton and 'both'}")
    if given:
        raise typer.BadParameter("options under 'With --triton' need --triton, got --onnx")
    check_writable(onnx)
    refuse_overwriting(onnx, model, option="--onnx")
    typer.echo(export_onnx(load(model, device="cpu"), onnx, **outputs))

"""``ebgan-detect report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ebgan_detect.cli._options import (
    Columns,
    Device,
    Drop,
    Header,
    Key,
    Model,
    Size,
    read_options,
    refuse_overwriting,
)
from ebgan_detect.cli._score import check_names
from ebgan_detect.datafiles import read_rows
from ebgan_detect.files import check_writable
from ebgan_detect.persistence import load
from ebgan_detect.report import write_report


def report(
    data: Annotated[
        Path | None,
        typer.Argument(help="Rows to score on the page, of the kinds that score takes."),
    ] = None,
    model: Model = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path(
        "report.html"
    ),
    top: Annotated[int, typer.Option(help="Number of most abnormal rows to show, up to 16.")] = 8,
    label: Annotated[
        str | None,
        typer.Option(
            help="Column that tells anomalies: 0 normal and 1 anomaly, or 1 and -1. It is not "
            "scored.",
            rich_help_panel="Data",
        ),
    ] = None,
    columns: Columns = "",
    drop: Drop = "",
    header: Header = None,
    key: Key = None,
    size: Size = None,
    device: Device = "auto",
) -> None:
    """Write a page about a model, and about rows that it scores.

    The page is one HTML file that needs no other: health, training,
    threshold, and what makes the most abnormal rows abnormal. Rows are
    held in memory.

    For example:

    ebgan-detect report -m model.ebgan

    ebgan-detect report new.csv -m model.ebgan --label failed -o new.html
    """
    if model is None:
        raise typer.BadParameter("give --model FILE")
    if data is None and label is not None:
        raise typer.BadParameter("--label needs rows")
    check_writable(output)
    refuse_overwriting(output, data, model)
    detector = load(model, device=device)
    rows = y = names = None
    if data is not None:
        without = drop if label is None else f"{drop},{label}"
        read = read_rows(data, read_options(columns, without, header, key, size))
        check_names(detector, read, data)
        rows, names = read.values, read.names
        if label is not None:
            labels = read_rows(data, read_options(label, "", header, key, size))
            y = np.asarray(labels.values).ravel()
    typer.echo(write_report(detector, output, rows, y, names=names, top=top, title=str(model.name)))

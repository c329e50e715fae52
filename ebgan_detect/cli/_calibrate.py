"""``ebgan-detect calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ebgan_detect.cli._display import print_facts
from ebgan_detect.cli._options import (
    Columns,
    Data,
    Device,
    Drop,
    Header,
    Key,
    Model,
    Quiet,
    Size,
    read_options,
    refuse_overwriting,
)
from ebgan_detect.cli._score import check_names
from ebgan_detect.datafiles import read_rows
from ebgan_detect.files import check_writable
from ebgan_detect.persistence import load, save


def calibrate(
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model file to write.", show_default=False)
    ],
    model: Model = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Largest share of new normal rows to call outliers. By default: as fitted.",
            rich_help_panel="Threshold",
        ),
    ] = None,
    columns: Columns = "",
    drop: Drop = "",
    header: Header = None,
    key: Key = None,
    size: Size = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Take a model's threshold and p-values from other normal rows.

    Nothing is trained. For rows that come in groups, such as readings of a
    machine, give rows of machines that did not train; for a new site, rows of
    that site.

    For example:

    ebgan-detect calibrate site-2.csv -m model.ebgan -o site-2.ebgan

    ebgan-detect calibrate other.csv -m model.ebgan -o strict.ebgan --false-alarm-rate 0.01
    """
    if model is None:
        raise typer.BadParameter("give --model FILE")
    check_writable(output)
    refuse_overwriting(output, data, model)
    detector = load(model, device=device)
    rows = read_rows(data, read_options(columns, drop, header, key, size))
    check_names(detector, rows, data)
    if false_alarm_rate is not None:
        detector.set_params(contamination="auto", false_alarm_rate=false_alarm_rate)
    save(detector.calibrate(rows.values), output)
    if not quiet:
        facts = {
            "rows": len(rows.names),
            "threshold": f"energy above {-detector.offset_:.6g} is an outlier",
            "model": output,
        }
        print_facts(facts)

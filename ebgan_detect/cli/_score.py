"""``ebgan-detect score``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ebgan_detect.base import BaseDetector
from ebgan_detect.cli._display import note
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
from ebgan_detect.datafiles import DataRows, as_csv, check_output, stream_rows, write_table
from ebgan_detect.errors import InvalidInputError
from ebgan_detect.persistence import load
from ebgan_detect.serving import TritonDetector


def score(
    data: Data,
    model: Model = None,
    triton: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Let a Triton server score instead: HOST:PORT for gRPC, or http://HOST:PORT.",
            rich_help_panel="Server",
        ),
    ] = None,
    model_name: Annotated[
        str, typer.Option(help="Name of the model there.", rich_help_panel="Server")
    ] = "energy",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="CSV or Parquet file to write. By default: CSV to stdout."
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
    """Score rows with a fitted model, from a file or on a Triton server.

    One line for each row: its line, file or number; score (lower is more
    abnormal); decision (score minus threshold); label (1 inlier, -1 outlier);
    p_value (small is abnormal). Data are read in pieces, so that a file may be
    larger than memory (but for NPZ).

    For example:

    ebgan-detect score new.csv -m model.ebgan -o scores.csv

    ebgan-detect score pictures/ -m model.ebgan --size 32 | grep ,-1,

    ebgan-detect score new.csv --triton localhost:8001 --model-name energy
    """
    if (model is None) == (triton is None):
        raise typer.BadParameter("give either --model FILE or --triton URL")
    if output is not None:
        check_output(output)
        refuse_overwriting(output, data, model)
    parts: list[dict[str, NDArray[Any]]] = []
    n = n_outliers = 0
    with ExitStack() as connections:
        detector: BaseDetector | TritonDetector
        if triton is not None:
            detector = connections.enter_context(TritonDetector(triton, model_name))
        elif model is not None:
            detector = load(model, device=device)
        for rows in stream_rows(data, read_options(columns, drop, header, key, size)):
            table = score_table(detector, rows, data)
            if output is None:
                typer.echo(as_csv(table, header=not n), nl=False)
            else:
                parts.append(table)
            n += len(rows.names)
            n_outliers += int((table["label"] < 0).sum())
    if output is not None:
        write_table(output, {k: np.concatenate([part[k] for part in parts]) for k in parts[0]})
    if not quiet:
        place = "" if output is None else f"; scores in {output}"
        note(f"{n_outliers} of {n} rows are outliers ({n_outliers / n:.1%}){place}")


def score_table(
    detector: BaseDetector | TritonDetector, rows: DataRows, data: Path
) -> dict[str, NDArray[Any]]:
    """Everything about some rows from one pass through the networks."""
    check_names(detector, rows, data)
    answers = detector.outputs(rows.values, "score", "decision", "label", "p_value")
    return {rows.kind: rows.names, **answers}


def check_names(detector: BaseDetector | TritonDetector, rows: DataRows, data: Path) -> None:
    """Refuse other columns than the fitted ones before scikit-learn does, naming a remedy."""
    fitted = [str(name) for name in getattr(detector, "feature_names_in_", ())]
    given = [] if isinstance(rows.values, np.ndarray) else [str(c) for c in rows.values.columns]
    if not (fitted and given) or fitted == given:
        return
    missing = [name for name in fitted if name not in given]
    unknown = [name for name in given if name not in fitted]
    if missing:
        got, remedy = f"no column {missing[0]!r}", "add it or fit without it"
    elif unknown:
        got, remedy = f"column {unknown[0]!r} too", f"leave it out with --drop {unknown[0]}"
    else:
        first = next(name for name, right in zip(given, fitted, strict=True) if name != right)
        got = f"{first!r} in another place"
        remedy = f"put them in order with --columns {','.join(fitted)}"
    raise InvalidInputError(
        f"columns of {data} must be those of the fit in the same order, got {got}; {remedy}"
    )

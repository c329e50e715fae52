"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ebgan_detect.datafiles import ReadOptions


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of pictures."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise typer.BadParameter(f"must be like 32 or 24x32 (height x width), got {text!r}")
    return int(sides[0]), int(sides[-1])


def auto_or_numbers(text: str) -> Any:
    """'auto', a number, or two with a comma between them."""
    if text == "auto":
        return text
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"must be auto or a number, got {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


def auto_or_int(text: str) -> Any:
    """'auto' or a whole number."""
    if text == "auto" or text.lstrip("-").isdecimal():
        return text if text == "auto" else int(text)
    raise typer.BadParameter(f"must be auto or a whole number, got {text!r}")


Data = Annotated[
    Path,
    typer.Argument(
        help="Rows: a CSV, TSV, NPY, NPZ or Parquet file, a picture, or a folder of pictures "
        "(subfolders included).",
        show_default=False,
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        help="Columns to use, in this order, with commas between them. Without names: 0,1,...",
        rich_help_panel="Data",
    ),
]
Drop = Annotated[
    str,
    typer.Option(help="Columns to leave out, such as label,id.", rich_help_panel="Data"),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line of a CSV file holds names. By default: if it holds text.",
        rich_help_panel="Data",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(help="Name of the array in an NPZ file of several.", rich_help_panel="Data"),
]
Size = Annotated[
    Any,
    typer.Option(
        parser=parse_size,
        metavar="SIDE|HEIGHTxWIDTH",
        help="Resize pictures to so many pixels.",
        rich_help_panel="Data",
    ),
]
Device = Annotated[str, typer.Option(help="auto (CUDA if there, else cpu), cpu, cuda, cuda:1, ...")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show nothing but warnings, errors and data.")
]


def read_options(
    columns: str, drop: str, header: bool | None, key: str | None, size: Any
) -> ReadOptions:
    """Options of a command as readers take them."""
    split = [tuple(filter(None, map(str.strip, text.split(",")))) for text in (columns, drop)]
    return ReadOptions(columns=split[0], drop=split[1], header=header, key=key, size=size)


Model = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model file written by fit.", show_default=False),
]


def refuse_overwriting(output: Path, *inputs: Path | None, option: str = "--output") -> None:
    """Refuse an output that is one of the files read, before any work."""
    for path in inputs:
        if path is not None and output.exists() and path.exists() and output.samefile(path):
            raise typer.BadParameter(f"{option} {output} is read too, and would be overwritten")

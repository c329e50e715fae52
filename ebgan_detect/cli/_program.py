"""The program and its commands.

A command is a function in a module of its own: its docstring and annotations are its help.
It raises the library's errors; `Commands` turns them into a sentence and an exit status. A
line below adds it.
"""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from ebgan_detect.cli._calibrate import calibrate
from ebgan_detect.cli._display import Commands
from ebgan_detect.cli._export import export
from ebgan_detect.cli._fit import fit
from ebgan_detect.cli._info import info
from ebgan_detect.cli._report import report
from ebgan_detect.cli._score import score
from ebgan_detect.cli._serve_config import serve_config

app = typer.Typer(
    cls=Commands,
    name="ebgan-detect",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    """Answer ``--version``."""
    if wanted:
        typer.echo(f"ebgan-detect {importlib.metadata.version('ebgan-detect')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Find anomalies with energy-based generative adversarial networks.

    Fit a model on rows that are mostly normal, then score new ones:

    ebgan-detect fit normal.csv -o model.ebgan

    ebgan-detect score new.csv -m model.ebgan -o scores.csv

    Exit status: 0 when all went well, 1 for data or a model that is of no use,
    2 for a wrong command line, 130 after Ctrl-C.
    """


for command in (fit, calibrate, score, report, info, export, serve_config):
    app.command()(command)

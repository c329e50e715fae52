"""``ebgan-detect info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ebgan_detect.cli._display import print_facts
from ebgan_detect.files import read_sealed
from ebgan_detect.persistence import load
from ebgan_detect.report.facts import facts_of


def info(
    model: Annotated[Path, typer.Argument(help="Model file written by fit.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for other programs.")] = False,
) -> None:
    """Show what a model file holds.

    For example:

    ebgan-detect info model.ebgan

    ebgan-detect info model.ebgan --json | jq .threshold
    """
    facts = facts_of(load(model, device="cpu"))
    facts["library_version"] = str(read_sealed(model)[1]["library"])
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        print_facts(facts, title=str(model))

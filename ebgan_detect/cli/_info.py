"""``ebgan-detect info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ebgan_detect.base import BaseDetector
from ebgan_detect.cli._display import print_facts
from ebgan_detect.cli._fit import last_energies
from ebgan_detect.files import read_sealed
from ebgan_detect.persistence import load


def info(
    model: Annotated[Path, typer.Argument(help="Model file written by fit.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for other programs.")] = False,
) -> None:
    """Show what a model file holds.

    For example:

    ebgan-detect info model.ebgan

    ebgan-detect info model.ebgan --json | jq .threshold
    """
    facts = facts_of(load(model, device="cpu"), str(read_sealed(model)[1]["library"]))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        print_facts(facts, title=str(model))


def facts_of(detector: BaseDetector, version: str) -> dict[str, Any]:
    """What there is to say about a model, as JSON can hold it."""
    defaults = type(detector)().get_params()
    # `load` sets the device: it is not the model's own.
    parameters = {
        name: value
        for name, value in detector.get_params().items()
        if name != "device" and value != defaults[name]
    }
    energies = last_energies(detector)
    names = getattr(detector, "feature_names_in_", None)
    return {
        "detector": type(detector).__name__,
        "library_version": version,
        "input_shape": list(detector.input_shape_),
        "feature_names": None if names is None else list(names),
        "architecture": detector.settings_["architecture"],
        "hidden_sizes": list(detector.settings_["hidden_sizes"]),
        "code_dim": detector.settings_.get("code_dim"),
        "members": len(detector.model_.members),
        "weights": sum(p.numel() for p in detector.model_.parameters()),
        "parameters": parameters,
        "threshold": -float(detector.offset_),
        "calibration_rows": len(detector.calibration_energies_),
        "epochs": detector.n_iter_,
        "energy_real": energies.get("real"),
        "energy_generated": energies.get("generated"),
        "margin": energies.get("margin"),
        "health": detector.health_,
    }

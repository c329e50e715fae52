"""The command line, `ebgan-detect`.

A command is a function below ``@app.command()``: its docstring and annotations are its help.
It raises the library's errors; `_Commands` turns them into a sentence and an exit status.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ebgan_detect import EBGANDetector, __version__
from ebgan_detect.base import BaseDetector
from ebgan_detect.datafiles import (
    DataRows,
    ReadOptions,
    as_csv,
    check_output,
    read_rows,
    stream_rows,
    write_table,
)
from ebgan_detect.errors import EBGANError, InvalidInputError
from ebgan_detect.files import read_sealed
from ebgan_detect.persistence import load, save
from ebgan_detect.thresholds import conformal_p_values
from ebgan_detect.training import Callback

try:
    import typer
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from typer.core import TyperGroup
except ImportError as error:
    # This module is what the console script imports: there, a sentence beats a traceback.
    raise SystemExit(
        f"error: the command line needs {error.name}: pip install 'ebgan-detect[cli]'"
    ) from error

__all__ = ["app", "main"]

FAILED, INTERRUPTED = 1, 130


class _Commands(TyperGroup):
    """Runs a command; errors and warnings become one line each on stderr."""

    @override
    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _once_per_place()
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                _note("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            except BrokenPipeError:  # `... | head`: nobody reads on, which is no error
                sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
                raise typer.Exit(FAILED) from None
            except (EBGANError, OSError) as error:
                _note(f"error: {_one_line(error)}")
                raise typer.Exit(FAILED) from None


def _note(line: str) -> None:
    """Tell the user something that is not data."""
    typer.echo(line, err=True)


def _one_line(error: BaseException) -> str:
    """The message of an error."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _once_per_place() -> Any:
    """A way to show warnings that does not repeat one for every chunk of the data."""
    shown: set[tuple[type[Warning], str, int]] = set()

    def show(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        if (category, filename, lineno) not in shown:
            shown.add((category, filename, lineno))
            _note(f"warning: {_one_line(message)}")

    return show


app = typer.Typer(
    cls=_Commands,
    name="ebgan-detect",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find anomalies with energy-based generative adversarial networks.

    Fit a model on rows that are mostly normal, then score new ones:

    \b
    ebgan-detect fit normal.csv -o model.ebgan
    ebgan-detect score new.csv -m model.ebgan -o scores.csv

    Exit status: 0 when all went well, 1 for data or a model that cannot be used, 2 for a
    wrong command line, 130 after Ctrl-C.
    """


# --- options that commands share --------------------------------------------------------------


def _size(text: str) -> tuple[int, int]:
    """Height and width of pictures."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise typer.BadParameter(f"must be like 32 or 24x32 (height x width), got {text!r}")
    return int(sides[0]), int(sides[-1])


def _auto_or_numbers(text: str) -> Any:
    """'auto', a number, or two with a comma between them."""
    if text == "auto":
        return text
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"must be auto or a number, got {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _auto_or_int(text: str) -> Any:
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
        parser=_size,
        metavar="SIDE|HEIGHTxWIDTH",
        help="Resize pictures to so many pixels.",
        rich_help_panel="Data",
    ),
]
Device = Annotated[
    str, typer.Option(help="auto (CUDA if there, else cpu), cpu, cuda, cuda:1, mps, ...")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show nothing but warnings, errors and data.")
]


def _options(
    columns: str, drop: str, header: bool | None, key: str | None, size: Any
) -> ReadOptions:
    """Options of a command as readers take them."""
    split = [tuple(filter(None, map(str.strip, text.split(",")))) for text in (columns, drop)]
    return ReadOptions(columns=split[0], drop=split[1], header=header, key=key, size=size)


# --- fit -----------------------------------------------------------------------------------


class _Interruption(Callback):
    """Remembers whether Ctrl-C ended training."""

    seen = False

    @override
    def on_train_end(self, run: Any) -> None:
        self.seen = self.seen or run.interrupted


def _training(help: str, **options: Any) -> Any:
    """An option in the help's section on training."""
    return typer.Option(help=help, rich_help_panel="Training", **options)


@app.command()
def fit(
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model file to write.", show_default=False)
    ],
    columns: Columns = "",
    drop: Drop = "",
    header: Header = None,
    key: Key = None,
    size: Size = None,
    control: Annotated[
        bool,
        typer.Option(
            "--control",
            "--no-adversary",
            help="Train the same autoencoder without its adversary, for comparison.",
            rich_help_panel="Training",
        ),
    ] = False,
    margin: Annotated[
        Any,
        _training(
            "Energy up to which generated rows are lifted; two numbers go from the first to the "
            "second. auto: a multiple of what a short pilot reaches.",
            parser=_auto_or_numbers,
            metavar="auto|FLOAT|FLOAT,FLOAT",
        ),
    ] = "auto",
    n_estimators: Annotated[int, _training("Members whose energies are averaged.")] = 1,
    max_epochs: Annotated[
        Any,
        _training("Passes over the rows.", parser=_auto_or_int, metavar="auto|INT"),
    ] = "auto",
    batch_size: Annotated[int, _training("Rows in an update.")] = 128,
    learning_rate: Annotated[float, _training("Step size of both players.")] = 1e-3,
    scaling: Annotated[
        Literal["auto", "standard", "minmax", "none"], _training("Scaling of the input.")
    ] = "auto",
    precision: Annotated[
        Literal["float32", "bf16-mixed"], _training("Precision of training.")
    ] = "float32",
    checkpoint: Annotated[
        Path | None,
        _training("Folder for the state after each epoch. The same command then goes on from it."),
    ] = None,
    seed: Annotated[int | None, _training("The same seed gives the same model.")] = None,
    contamination: Annotated[
        Any,
        typer.Option(
            parser=_auto_or_numbers,
            metavar="auto|FLOAT",
            help="Share of outliers among the rows, at most 0.5. auto: they are normal, and "
            "--false-alarm-rate sets the threshold.",
            rich_help_panel="Threshold",
        ),
    ] = "auto",
    false_alarm_rate: Annotated[
        float,
        typer.Option(
            help="Largest share of new normal rows to call outliers.", rich_help_panel="Threshold"
        ),
    ] = 0.05,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Fit a detector on rows taken as normal, and write it to a file.

    Ctrl-C after the first epoch ends training early: the model is written as it is then.

    \b
    ebgan-detect fit normal.csv -o model.ebgan --drop label --seed 0
    ebgan-detect fit pictures/ -o model.ebgan --size 32 --max-epochs 20
    """
    if not output.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output.parent))
    if output.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))
    rows = read_rows(data, _options(columns, drop, header, key, size))
    interruption = _Interruption()
    detector = EBGANDetector(
        adversarial=not control,
        margin=margin,
        n_estimators=n_estimators,
        max_epochs=max_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        contamination=contamination,
        false_alarm_rate=false_alarm_rate,
        scaling=scaling,
        device=device,
        precision=precision,
        checkpoint=checkpoint,
        callbacks=[interruption],
        random_state=seed,
        verbose=int(not quiet and sys.stderr.isatty()),
    ).fit(rows.values)
    save(detector, output)
    if not quiet:
        _print_facts(_fit_summary(detector, len(rows.names), output))
    if interruption.seen:
        _note(f"interrupted: the model after epoch {detector.n_iter_} is saved in {output}")
        raise typer.Exit(INTERRUPTED)


def _fit_summary(detector: EBGANDetector, n: int, output: Path) -> dict[str, Any]:
    """What came out of a fit."""
    n_calibration = len(detector.calibration_energies_)
    # A handful of rows is too few to divide: all of them do both.
    n_training = n - n_calibration or n
    return {
        "rows": f"{n} ({n_training} training, {n_calibration} calibration)",
        "epochs": detector.n_iter_,
        "threshold": f"energy above {-detector.offset_:.6g} is an outlier",
        "energy": ", ".join(f"{k} {v:.4g}" for k, v in _last_energies(detector).items()),
        "health": detector.health_,
        "model": output,
    }


def _last_energies(detector: BaseDetector) -> dict[str, float]:
    """Energies in the last epoch, and the margin if there is one."""
    history = detector.history_
    last = {name: history.get(f"energy_{name}", [math.nan])[-1] for name in ("real", "generated")}
    last["margin"] = getattr(detector, "margin_", math.nan)
    return {name: value for name, value in last.items() if not math.isnan(value)}


# --- score ---------------------------------------------------------------------------------

Model = Annotated[
    Path, typer.Option("--model", "-m", help="Model file written by fit.", show_default=False)
]


@app.command()
def score(
    data: Data,
    model: Model,
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
    """Score rows with a fitted model.

    One line for each row: its line, file or number; score (lower is more abnormal); decision
    (score minus threshold); label (1 inlier, -1 outlier); p_value (small is abnormal).
    Data are read in pieces: files larger than memory are fine, but for NPZ.

    \b
    ebgan-detect score new.csv -m model.ebgan -o scores.csv
    ebgan-detect score new.csv -m model.ebgan --drop label | sort -t, -g -k2 | head
    """
    if output is not None:
        check_output(output)
    detector = load(model, device=device)
    parts: list[dict[str, NDArray[Any]]] = []
    n = n_outliers = 0
    for rows in stream_rows(data, _options(columns, drop, header, key, size)):
        table = _score_table(detector, rows, data)
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
        _note(f"{n_outliers} of {n} rows are outliers ({n_outliers / n:.1%}){place}")


def _score_table(detector: BaseDetector, rows: DataRows, data: Path) -> dict[str, NDArray[Any]]:
    """Everything about some rows from one pass through the networks."""
    _check_names(detector, rows, data)
    scores = detector.score_samples(rows.values)
    decision = scores - detector.offset_
    return {
        rows.kind: rows.names,
        "score": scores,
        "decision": decision,
        "label": np.where(decision >= 0, 1, -1),
        "p_value": conformal_p_values(detector.calibration_energies_, -scores),
    }


def _check_names(detector: BaseDetector, rows: DataRows, data: Path) -> None:
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


# --- info ----------------------------------------------------------------------------------


@app.command()
def info(
    model: Annotated[Path, typer.Argument(help="Model file written by fit.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for other programs.")] = False,
) -> None:
    """Show what a model file holds.

    \b
    ebgan-detect info model.ebgan
    ebgan-detect info model.ebgan --json | jq .threshold
    """
    facts = _facts(load(model, device="cpu"), str(read_sealed(model)[1]["library"]))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_facts(facts, title=str(model))


def _facts(detector: BaseDetector, version: str) -> dict[str, Any]:
    """What there is to say about a model, as JSON can hold it."""
    defaults = type(detector)().get_params()
    # `load` sets the device: it is not the model's own.
    parameters = {
        name: value
        for name, value in detector.get_params().items()
        if name != "device" and value != defaults[name]
    }
    energies = _last_energies(detector)
    names = getattr(detector, "feature_names_in_", None)
    return {
        "detector": type(detector).__name__,
        "library_version": version,
        "input_shape": list(detector.input_shape_),
        "feature_names": None if names is None else list(names),
        "architecture": detector.settings_["architecture"],
        "hidden_sizes": list(detector.settings_["hidden_sizes"]),
        "code_dim": detector.settings_["code_dim"],
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


def _print_facts(facts: dict[str, Any], title: str | None = None) -> None:
    """Names and values in two columns."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name.replace("_", " "), Text(_in_words(value)))
    Console().print(table)


def _in_words(value: Any) -> str:
    """A value as a reader likes it."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={entry!r}" for name, entry in value.items()) or "all default"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run the command line."""
    app(prog_name="ebgan-detect")


if __name__ == "__main__":
    main()

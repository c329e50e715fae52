"""``ebgan-detect fit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typing_extensions import override

from ebgan_detect.cli._display import INTERRUPTED, note, print_facts
from ebgan_detect.cli._options import (
    Columns,
    Data,
    Device,
    Drop,
    Header,
    Key,
    Quiet,
    Size,
    auto_or_int,
    auto_or_numbers,
    read_options,
    refuse_overwriting,
)
from ebgan_detect.datafiles import read_rows
from ebgan_detect.detector import EBGANDetector
from ebgan_detect.files import check_writable
from ebgan_detect.persistence import save
from ebgan_detect.report.facts import last_energies
from ebgan_detect.training import Callback


class Interruption(Callback):
    """Remembers whether Ctrl-C ended training."""

    seen = False

    @override
    def on_train_end(self, run: Any) -> None:
        self.seen = self.seen or run.interrupted


def training_option(help: str, **options: Any) -> Any:
    """An option in the help's section on training."""
    return typer.Option(help=help, rich_help_panel="Training", **options)


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
        training_option(
            "Energy up to which generated rows are lifted; two numbers go from the first to the "
            "second. auto: a multiple of what a short pilot reaches.",
            parser=auto_or_numbers,
            metavar="auto|FLOAT|FLOAT,FLOAT",
        ),
    ] = "auto",
    n_estimators: Annotated[int, training_option("Members whose energies are averaged.")] = 1,
    max_epochs: Annotated[
        Any,
        training_option("Passes over the rows.", parser=auto_or_int, metavar="auto|INT"),
    ] = "auto",
    batch_size: Annotated[
        Any, training_option("Rows in an update.", parser=auto_or_int, metavar="auto|INT")
    ] = "auto",
    learning_rate: Annotated[float, training_option("Step size of both players.")] = 1e-3,
    scaling: Annotated[
        Literal["auto", "standard", "minmax", "none"], training_option("Scaling of the input.")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bf16-mixed"], training_option("Precision of training.")
    ] = "auto",
    checkpoint: Annotated[
        Path | None,
        training_option(
            "Folder for the state after each epoch. The same command then goes on from it."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        training_option("The same seed gives the same model.", min=0, max=2**32 - 1),
    ] = None,
    contamination: Annotated[
        Any,
        typer.Option(
            parser=auto_or_numbers,
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

    Ctrl-C after the first epoch ends training early, and what has been learned
    until then is written.

    For example:

    ebgan-detect fit normal.csv -o model.ebgan --drop label --seed 0

    ebgan-detect fit pictures/ -o model.ebgan --size 32 --max-epochs 20
    """
    check_writable(output)
    refuse_overwriting(output, data)
    rows = read_rows(data, read_options(columns, drop, header, key, size))
    interruption = Interruption()
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
        print_facts(summary(detector, len(rows.names), output))
    if interruption.seen:
        note(f"interrupted: the model after epoch {detector.n_iter_} is saved in {output}")
        raise typer.Exit(INTERRUPTED)


def summary(detector: EBGANDetector, n: int, output: Path) -> dict[str, Any]:
    """What came out of a fit."""
    n_calibration = len(detector.calibration_energies_)
    # A handful of rows is too few to divide: all of them do both.
    n_training = n - n_calibration or n
    return {
        "rows": f"{n} ({n_training} training, {n_calibration} calibration)",
        "epochs": detector.n_iter_,
        "threshold": f"energy above {-detector.offset_:.6g} is an outlier",
        "energy": ", ".join(f"{k} {v:.4g}" for k, v in last_energies(detector).items()),
        "health": detector.health_,
        "model": output,
    }

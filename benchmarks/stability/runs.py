"""One run for each system and configuration, several at a time."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import SGD
from typing_extensions import override

from benchmarks.common import RESULTS, result_path, run_once
from benchmarks.stability.classifier import CACHE, Judge, mnist
from benchmarks.stability.grid import Configuration
from benchmarks.stability.networks import (
    LATENT_DIM,
    autoencoder_and_generator,
    discriminator_and_generator,
)
from ebgan_detect.errors import TrainingDivergedError
from ebgan_detect.files import write_sealed
from ebgan_detect.objectives import EBGANObjective, GANObjective, Objective
from ebgan_detect.training import (
    SCHEDULES,
    ResidentRows,
    Trainer,
    fastest_precision,
    resolve_device,
)

__all__ = ["Run", "game", "perform", "perform_all"]

BENCHMARK = "stability"
MARGIN = 10.0
PULL_AWAY_WEIGHTS = {"EBGAN": 0.0, "EBGAN-PT": 0.1, "EBGAN-PT-strong": 10.0}
"""The paper's margin and weight, for an energy that is a sum over the pixels. Here it is their
mean: both are divided by the number of pixels, so that the games are the same up to a common
factor of the losses, to which Adam is blind. The strong term's weight is the margin."""
BETAS = (0.5, 0.999)
N_SAMPLES, N_DRAWN = 10_000, 100
"""Samples to measure, and to keep for pictures."""
EPOCH_STEPS = 100
"""Updates between two entries of the history, at most."""


@dataclass(frozen=True)
class Run:
    """What one run plays, for how many updates of how many rows, and its seed."""

    system: str
    configuration: Configuration
    steps: int
    batch_size: int
    seed: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What tells the run from others."""
        flat = {"system": self.system, **asdict(self.configuration)}
        return {**flat, "steps": self.steps, "batch_size": self.batch_size, "seed": self.seed}

    def file(self, folder: Path = RESULTS) -> Path:
        """Where its result lies."""
        return result_path(BENCHMARK, self.settings, folder)


class GridGAN(GANObjective):
    """A GAN whose players may use plain gradient descent instead of Adam."""

    def __init__(self, *players: nn.Module, choices: dict[str, str], **options: Any) -> None:
        super().__init__(*players, **options)
        self.choices = choices

    @override
    def configure_optimizers(self, learning_rate: float) -> None:
        super().configure_optimizers(learning_rate)
        for player, choice in self.choices.items():
            if choice == "sgd":
                weights = getattr(self, player).parameters()
                self.optimizers[player] = SGD(weights, lr=learning_rate)


def game(run: Run, n_features: int) -> Objective:
    """The players of a run, and the rules they play by."""
    setup: dict[str, Any] = {"batch_size": run.batch_size, "seed": run.seed}
    options: dict[str, Any] = {
        "input_shape": (n_features,),
        "latent_dim": LATENT_DIM,
        "betas": BETAS,
    }
    cell = run.configuration
    if run.system not in PULL_AWAY_WEIGHTS:
        players = discriminator_and_generator(cell, n_features, **setup)
        choices = {
            "discriminator": cell.discriminator_optimizer,
            "generator": cell.generator_optimizer,
        }
        return GridGAN(*players, choices=choices, **options)
    return EBGANObjective(
        autoencoder_and_generator(cell, n_features, **setup),
        margin=MARGIN / n_features,
        pull_away_weight=PULL_AWAY_WEIGHTS[run.system] / n_features,
        **options,
    )


def measure(
    run: Run, rows: NDArray[np.float32], judge: Judge, samples_folder: Path
) -> dict[str, Any]:
    """Train one configuration and judge its samples; keep some of them to be drawn."""
    device = resolve_device("auto")
    longest = min(EPOCH_STEPS, max(1, len(rows) // run.batch_size))
    per_epoch = max(n for n in range(1, longest + 1) if run.steps % n == 0)
    precision = fastest_precision(device)
    trainer = Trainer(
        max_epochs=run.steps // per_epoch,
        batch_size=run.batch_size,
        learning_rate=run.configuration.learning_rate,
        device=device,
        seed=run.seed,
        schedule=SCHEDULES["constant"],
        precision=precision,
        max_steps_per_epoch=per_epoch,
        passes_interrupt=True,
    )
    objective = game(run, rows.shape[1])
    known = {
        "classifier": judge.record["sha256"],
        "classifier_accuracy": judge.record["accuracy"],
        "precision": precision,
    }
    try:
        history = trainer.fit(objective, ResidentRows(torch.from_numpy(rows).to(device))).history
    except TrainingDivergedError as error:
        # What a constant output gets: there are no samples to judge.
        return {**known, "score": 0.0, "inception_score": 0.0, "modes": 0, "diverged": str(error)}
    with torch.no_grad():
        rng = torch.Generator(device).manual_seed(run.seed)
        samples = objective.sample(N_SAMPLES, rng).float().cpu()
    samples_folder.mkdir(parents=True, exist_ok=True)
    drawn = {"samples": (255 * samples[:N_DRAWN]).round().byte()}
    write_sealed(samples_folder / f"{run.file().stem}.safetensors", drawn, run.settings)
    return {
        **known,
        **judge.measure(samples.numpy()),
        "training_seconds": round(sum(history["seconds"]), 1),
        "last_epoch": {name: values[-1] for name, values in history.items()},
        "health": objective.diagnose(history),
    }


def perform(
    run: Run,
    rows: NDArray[np.float32],
    judge: Judge,
    *,
    results: Path = RESULTS,
    cache: Path = CACHE,
) -> dict[str, Any]:
    """Result of a run, from its file where there is one."""
    work: Callable[[], dict[str, Any]] = partial(measure, run, rows, judge, cache / "samples")
    return run_once(BENCHMARK, run.settings, work, results=results)


@lru_cache(maxsize=1)
def _material(cache: Path) -> tuple[NDArray[np.float32], Judge]:
    """Training rows and classifier of a process."""
    return mnist().x_train, Judge.read(cache)


def _perform_alone(run: Run, results: Path, cache: Path) -> dict[str, Any]:
    """A run in a process of its own."""
    return perform(run, *_material(cache), results=results, cache=cache)


def perform_all(
    runs: Sequence[Run], *, jobs: int, results: Path = RESULTS, cache: Path = CACHE
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Perform runs in their order, `jobs` at a time on one thread each; yield what is done."""
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin)
    try:
        waiting = {pool.submit(_perform_alone, run, results, cache): run for run in runs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Set up a process: one thread, and an end at Ctrl-C, which reaches all of a terminal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)

"""The MNIST classifier that judges samples, and what real images get from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from typing_extensions import override

from benchmarks.common import data_folder
from benchmarks.stability.score import (
    COVERED_SHARE,
    class_shares,
    inception_score,
    nearest_distances,
    paper_score,
    shapes,
)
from ebgan_detect.files import read_sealed, write_sealed
from ebgan_detect.objectives import Objective
from ebgan_detect.objectives.objective import make_adam
from ebgan_detect.training import Checkpoint, ProgressBar, ResidentRows, Trainer, resolve_device

__all__ = ["CACHE", "Images", "Judge", "mnist", "train_judge"]

CACHE = Path(__file__).parents[2] / "build" / "stability"
"""Ignored by git: the classifier, and samples to draw."""

N_CLASSES = 10
EPOCHS = 4
NEIGHBOUR_ROWS = 2_000
"""Samples among which nearest neighbours are sought."""
DUPLICATE_QUANTILE = 0.01
"""Share of real images whose shape is nearer to another's than the duplicate distance."""
CHUNK = 1_000


@dataclass(frozen=True)
class Images:
    """Square grey images as rows on [0, 1], with their classes."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def mnist() -> Images:
    """All ten digits of both files of MNIST."""
    with np.load(data_folder() / "images" / "mnist.npz") as file:
        parts = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    x_train, x_test = (x.reshape(len(x), -1).astype(np.float32) / 255 for x in parts[::2])
    y_train, y_test = (y.astype(np.int64) for y in parts[1::2])
    return Images(x_train, y_train, x_test, y_test)


class Classification(Objective):
    """Lower the energy ``-log p(y|x)`` of pairs of an image and its class.

    Rows are such pairs, the class behind the pixels.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        side = math.isqrt(n_features)
        self.network = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (side // 4) ** 2, 64),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(64, N_CLASSES),
        )

    @override
    def configure_optimizers(self, learning_rate: float) -> None:
        self.optimizers = {"classifier": make_adam([self], learning_rate, (0.9, 0.999))}

    @override
    def update(self, real: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        optimizer = self.optimizers["classifier"]
        optimizer.zero_grad()
        loss = self.energy(real).mean()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    @override
    def energy(self, x: Tensor) -> Tensor:
        logits = self.network(x[:, :-1]).double()
        return cross_entropy(logits, x[:, -1].long(), reduction="none")


class Judge:
    """Classify samples and compare them with each other, and with what real images get.

    Parameters
    ----------
    network : Module
        ``(n, n_features) -> (n, 10)`` logits; in evaluation mode, on the CPU.
    record : dict
        The classifier's `accuracy` and `sha256`, the `duplicate_distance`, the
        `real_distance` and what `real` test images get.
    """

    def __init__(self, network: nn.Module, record: dict[str, Any]) -> None:
        self.network = network
        self.record = record

    @classmethod
    def read(cls, cache: Path = CACHE) -> Self:
        """Load the trained classifier."""
        path = cache / "classifier.safetensors"
        if not path.exists():
            raise SystemExit("no classifier: train it first, python -m benchmarks.stability train")
        tensors, record = read_sealed(path)
        objective = Classification(record["n_features"])
        objective.load_state_dict(tensors)
        return cls(objective.eval().network, record)

    def learn(self, images: Images) -> None:
        """Measure the classifier, and real test images with it."""
        weights = b"".join(v.numpy().tobytes() for v in self.network.state_dict().values())
        nearest = nearest_distances(shapes(images.x_test[:NEIGHBOUR_ROWS]))
        right = self.log_probabilities(images.x_test).argmax(axis=1) == images.y_test
        self.record |= {
            "n_features": images.x_train.shape[1],
            "sha256": hashlib.sha256(weights).hexdigest(),
            "accuracy": float(np.mean(right)),
            "duplicate_distance": float(np.quantile(nearest, DUPLICATE_QUANTILE)),
            "real_distance": float(np.median(nearest)),
        }
        self.record["real"] = self.measure(images.x_test)

    @torch.no_grad()
    def log_probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """``log p(y|x)`` of each row, normalised in float64."""
        logits = [self.network(chunk) for chunk in torch.from_numpy(rows).split(CHUNK)]
        return log_softmax(torch.cat(logits).double(), dim=1).numpy()

    def measure(self, rows: NDArray[np.float32]) -> dict[str, Any]:
        """Score, modes and duplicates of a generator's samples."""
        found = self.log_probabilities(rows)
        shares = class_shares(found)
        nearest = nearest_distances(shapes(rows[:NEIGHBOUR_ROWS]))
        return {
            "score": paper_score(found),
            "inception_score": inception_score(found),
            "modes": int((shares >= COVERED_SHARE).sum()),
            "class_shares": [round(share, 4) for share in shares.tolist()],
            "duplicates": float(np.mean(nearest < self.record["duplicate_distance"])),
            "spread": float(np.median(nearest) / self.record["real_distance"]),
        }


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order: a classifier that is trained again gets the same weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_judge(images: Images, cache: Path = CACHE, *, epochs: int = EPOCHS) -> Judge:
    """Train the classifier, unless it has been, and measure real test images with it."""
    path = cache / "classifier.safetensors"
    if path.exists():
        return Judge.read(cache)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        objective = Classification(images.x_train.shape[1])
    pairs = np.column_stack([images.x_train, images.y_train]).astype(np.float32)
    device = resolve_device("auto")
    trainer = Trainer(
        max_epochs=epochs,
        batch_size=64,
        learning_rate=2e-3,
        device=device,
        seed=0,
        callbacks=[ProgressBar()],
        checkpoint=Checkpoint(cache / "classifier.checkpoint", {"epochs": epochs}),
    )
    with one_thread():
        trainer.fit(objective, ResidentRows(torch.from_numpy(pairs).to(device)))
    objective.cpu().eval()
    objective.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    judge = Judge(objective.network, {})
    judge.learn(images)
    write_sealed(path, objective.state_dict(), judge.record)
    (cache / "classifier.checkpoint").unlink()
    return judge

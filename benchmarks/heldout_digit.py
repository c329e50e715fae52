"""MNIST held-out digit: train on nine digits, find the tenth.

Train on nine digits of the training file; score the whole test file, in which the held-out
digit, about a tenth, is the anomaly. The average precision depends on that share, so the
table states it. One JSON file for each run; a stopped benchmark goes on where it was.

    python -m benchmarks.heldout_digit --digits 1 9 --seeds 0 1 2
    python -m benchmarks.heldout_digit --development --digits 9 --seeds 0

With ``--development`` the last 10,000 rows of the training file take the test file's place
and variants are compared: settings may be chosen by these figures, and none is to be reported.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import data_folder, markdown, mean_and_spread, metrics, run_once
from ebgan_detect import EBGANDetector
from ebgan_detect.networks import Networks, conv_networks

DEVELOPMENT_ROWS = 10_000


def with_narrow_generator(input_shape: tuple[int, int, int]) -> Networks:
    """The default networks for MNIST, but a generator with the decoder's channels."""
    default, half = (
        conv_networks(input_shape, hidden_sizes=sizes, code_dim=32, latent_dim=32, bounded=True)
        for sizes in ((32, 64), (16, 32))
    )
    return Networks(default.encoder, default.decoder, half.generator)


METHODS: dict[str, dict[str, Any]] = {
    "EBGAN": {},
    "same autoencoder, no adversary": {"adversarial": False},
    "untrained": {"adversarial": False, "max_epochs": 1, "learning_rate": 1e-30},
}


VARIANTS: dict[str, dict[str, Any]] = {
    "EBGAN": {},
    "narrow generator": {"architecture": with_narrow_generator},
}


def rows_of(*, development: bool) -> tuple[NDArray[Any], ...]:
    """Images and digits to train on, images and digits to score."""
    with np.load(data_folder() / "images" / "mnist.npz") as file:
        x, y, x_test, y_test = (file[n] for n in ("x_train", "y_train", "x_test", "y_test"))
    if not development:
        return x, y, x_test, y_test
    n = len(x) - DEVELOPMENT_ROWS
    return x[:n], y[:n], x[n:], y[n:]


def measure(digit: int, method: str, seed: int, *, development: bool) -> dict[str, Any]:
    """Fit one method, all else at its default, and score the rows set aside for it."""
    x_train, y_train, x_test, y_test = rows_of(development=development)
    parameters = (VARIANTS if development else METHODS)[method]
    detector = EBGANDetector(random_state=seed, verbose=1, **parameters)
    detector.fit(x_train[y_train != digit])
    scores = detector.score_samples(x_test)
    normal = y_test != digit
    return {
        **metrics(~normal, scores),
        "anomaly_share": float(np.mean(~normal)),
        "false_alarm_rate": float(np.mean(scores[normal] < detector.offset_)),
        "health": detector.health_,
        "fit_seconds": round(sum(detector.history_["seconds"]), 1),
        "settings": {k: v for k, v in detector.settings_.items() if not callable(v)},
        "last_epoch": {name: values[-1] for name, values in detector.history_.items()},
    }


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=int, nargs="+", default=[1, 9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--development", action="store_true")
    arguments = parser.parse_args()
    development = arguments.development
    rows = []
    for digit in arguments.digits:
        for method in VARIANTS if development else METHODS:
            runs = [
                run_once(
                    "heldout_digit_development" if development else "heldout_digit",
                    {"digit": digit, "method": method.split()[0].strip(","), "seed": seed},
                    partial(measure, digit, method, seed, development=development),
                )
                for seed in arguments.seeds
            ]
            share = runs[0]["anomaly_share"]
            auprc, auroc = ([run[name] for run in runs] for name in ("auprc", "auroc"))
            seconds = [run["fit_seconds"] for run in runs]
            rows.append(
                [
                    f"{digit} ({share:.1%})",
                    method,
                    mean_and_spread(auprc),
                    mean_and_spread(auroc),
                    f"{np.mean(seconds):.0f}",
                ]
            )
    place = "rows of the training file" if development else "test file"
    print(f"\nMNIST, held-out digit, {place}; mean (range) over seeds {arguments.seeds}\n")
    header = ["digit (anomaly share)", "method", "AUPRC", "AUROC", "training s"]
    print(markdown(header, rows))


if __name__ == "__main__":
    main()

"""From a fitted detector to a Triton server and back: deploy it, call it, compare.

Fits a detector on scikit-learn's digits without the 9, writes it as the next version of a model
in a Triton repository, waits for a server to serve that, and scores unseen digits there.

    python -m examples.deploy --url grpc://localhost:8001

The server may run already. Where there is none, `ebgan-detect serve-config` prints the command
that starts one; in a checkout, `python -m benchmarks.triton_server build/deploy/models` installs
and starts one.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ebgan_detect import (
    EBGANDetector,
    ServerError,
    TrainingHealthWarning,
    TritonDetector,
    export_triton,
)

NAME = "digits"


def wait_for(served: TritonDetector, image: np.ndarray, seconds: float) -> None:
    """Return once the server answers, or raise what it says when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            served.energy(image)
        except ServerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def main() -> None:
    """Fit, export, wait for the server, call it, and print a comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="grpc://localhost:8001")
    parser.add_argument("--repository", type=Path, default=Path("build/deploy/models"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--wait", type=float, default=300.0, help="for the server, in seconds")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", TrainingHealthWarning)

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.float32)
    train, test = train_test_split(images[labels != 9], test_size=0.3, random_state=0)
    nines = images[labels == 9]
    detector = EBGANDetector(max_epochs=arguments.epochs, random_state=0).fit(train)

    version = export_triton(detector, arguments.repository, name=NAME)
    print(f"wrote {version}")
    print(f"waiting for {arguments.url}; without a server, start what this prints:")
    print(f"  ebgan-detect serve-config {arguments.repository}", flush=True)
    served = TritonDetector(arguments.url, NAME, version=version.name, retries=0)
    wait_for(served, test[:1], arguments.wait)

    rows = np.concatenate([test, nines])
    local, remote = detector.energy(rows), served.energy(rows)
    print(f"\n{len(rows)} images, here and on the server")
    print(f"largest relative difference of energies: {np.max(np.abs(remote / local - 1)):.1e}")
    print(f"same labels: {np.mean(detector.predict(rows) == served.predict(rows)):.2%}")
    for name, kind in (("other digits", test), ("nines", nines)):
        print(f"called outliers on the server, {name}: {np.mean(served.predict(kind) == -1):.1%}")


if __name__ == "__main__":
    main()

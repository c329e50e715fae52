"""Fitted detectors, repositories that serve them, and servers that misbehave."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pandas as pd

from ebgan_detect import EBGANDetector
from ebgan_detect.export import export_triton

COLUMNS = ["pressure", "flow", "speed", "load"]


def table(n, seed=0):
    """Rows of four named columns, two of them far from the origin."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4)) * [1, 2, 3, 4] + [0, 0, 100, 1000]
    return pd.DataFrame(values.astype(np.float32), columns=COLUMNS)


def pictures(n, seed=0):
    """Grey pictures of random noise."""
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


def fit(rows):
    """A small detector that has hardly been trained."""
    sizes = {"hidden_sizes": (4,), "code_dim": 3}
    return EBGANDetector(**sizes, max_epochs=1, random_state=0, device="cpu").fit(rows)


def export(detector, repository, name, **options):
    """Write a detector, with small batches so that calls need several."""
    export_triton(detector, repository, name=name, **{"max_batch_size": 64, **options})


def copy_model(repository, name, new, replacements=(), model=None):
    """Add a model with another configuration or another model.py."""
    shutil.copytree(repository / name, repository / new)
    for file in ("config.pbtxt", "configs/python.pbtxt"):
        path = repository / new / file
        text = path.read_text().replace(f'name: "{name}"', f'name: "{new}"')
        for old, other in replacements:
            assert old in text, f"{old!r} is not in {path}"
            text = text.replace(old, other)
        path.write_text(text)
    if model is not None:
        (repository / new / "1" / "model.py").write_text(model)


def regions():
    """Names of the client's shared memory."""
    return {path.name for path in Path("/dev/shm").glob("ebgan_detect_*")}


def workers():
    """Threads of the client."""
    return [thread for thread in threading.enumerate() if thread.name == "ebgan-detect"]


@contextlib.contextmanager
def listener(serve):
    """A port of this machine; `serve` gets every connection, on a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.settimeout(3)
                    threads.append(threading.Thread(target=guarded, args=(connection,)))
                    threads[-1].start()

        def guarded(connection):
            with connection, contextlib.suppress(OSError):
                serve(connection)

        threads = [threading.Thread(target=accept)]
        threads[0].start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()

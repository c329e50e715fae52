"""Speed and memory, as ratios within one run on one machine.

    python -m benchmarks.speed            # training, scoring, images, memory, import
    python -m benchmarks.speed gpu        # on a machine with CUDA: MNIST training

Every peer does the same work on the same rows in the same process, in turn with ours, after
a warm-up of both; medians are quoted. Memory is read in fresh processes.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.common import RESULTS, data_folder, device_name, markdown, watched_memory
from ebgan_detect import EBGANDetector
from ebgan_detect.files import write_atomically
from ebgan_detect.training import resolve_device

ROWS, COLUMNS, EPOCHS, BATCH = 50_000, 32, 5, 128
SCORED_ROWS = 1_000_000
BUDGETED_BYTES = 200 * 10**6


def table(n: int) -> NDArray[np.float32]:
    """Rows of correlated columns."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(n, 8)) @ rng.normal(size=(8, COLUMNS))
    return (mixed + 0.1 * rng.normal(size=(n, COLUMNS))).astype(np.float32)


def ours(**parameters: Any) -> EBGANDetector:
    """A detector with the peer's widths 64-32-64."""
    return EBGANDetector(
        hidden_sizes=(64,),
        code_dim=32,
        noise=0.0,
        margin=1.0,
        batch_size=BATCH,
        max_epochs=EPOCHS,
        random_state=0,
        **parameters,
    )


def peer() -> Any:
    """PyOD's AutoEncoder with widths 64-32-64, as it comes."""
    from pyod.models.auto_encoder import AutoEncoder

    return AutoEncoder(
        hidden_neuron_list=[64, 32], batch_size=BATCH, epoch_num=EPOCHS, verbose=0, random_state=0
    )


def median_seconds(actions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median time of each action, run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def measure_training() -> dict[str, Any]:
    """Rows trained in a second, whole fits: validation, scaling and calibration included."""
    x = table(ROWS)
    actions: dict[str, Callable[[], Any]] = {
        "PyOD AutoEncoder": lambda: peer().fit(x),
        "adversarial=False": lambda: ours(adversarial=False).fit(x),
        "EBGAN": lambda: ours().fit(x),
    }
    median_seconds(actions, 1)
    seconds = median_seconds(actions, 5)
    rates = {name: ROWS * EPOCHS / value for name, value in seconds.items()}
    # Both hold out rows or score them all at the end of fit; both are charged for every row.
    return {
        "rows_per_second": rates,
        "ratio_control": rates["adversarial=False"] / rates["PyOD AutoEncoder"],
        "ratio_ebgan": rates["EBGAN"] / rates["PyOD AutoEncoder"],
    }


def measure_scoring() -> dict[str, Any]:
    """Rows scored in a second, beside PyOD, the bare module, and its network on scaled rows."""
    x, fitted = table(SCORED_ROWS), table(5000)
    detector, other = ours(adversarial=False).fit(fitted), peer().fit(fitted)
    model = detector.model_
    raw = torch.from_numpy(x).to(resolve_device(detector.device))
    scaled = model.scaler(raw)

    @torch.inference_mode()
    def bare(energy: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> None:
        for part in rows.split(model.chunk_rows(rows.device)):
            energy(part).cpu()

    actions: dict[str, Callable[[], Any]] = {
        "ours": lambda: detector.score_samples(x),
        "bare module": lambda: bare(model, raw),
        "its network on scaled rows": lambda: bare(model.members[0].energy, scaled),
    }
    median_seconds(actions, 1)
    seconds = median_seconds(actions, 15)
    tenth = x[: SCORED_ROWS // 10]
    other.decision_function(tenth[:1000])
    seconds |= median_seconds({"PyOD AutoEncoder": lambda: other.decision_function(tenth)}, 3)
    seconds["PyOD AutoEncoder"] *= 10
    rates = {name: SCORED_ROWS / value for name, value in seconds.items()}
    return {
        "rows_per_second": rates,
        "ratio_pyod": rates["ours"] / rates["PyOD AutoEncoder"],
        "ratio_bare_module": rates["ours"] / rates["bare module"],
        "ratio_network": rates["ours"] / rates["its network on scaled rows"],
    }


def measure_images() -> dict[str, Any]:
    """Seconds of a default fit of MNIST, and images scored beside PyTorch's own last layer."""
    x = mnist()
    started = time.perf_counter()
    detector = EBGANDetector(random_state=0).fit(x)
    fit_seconds = time.perf_counter() - started
    usual = copy.deepcopy(detector)
    for layer in usual.model_.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            layer.__class__ = nn.ConvTranspose2d
    some = x[:5000]
    actions: dict[str, Callable[[], Any]] = {
        "ours": lambda: detector.score_samples(some),
        "PyTorch's transposed convolutions": lambda: usual.score_samples(some),
    }
    median_seconds(actions, 1)
    seconds = median_seconds(actions, 7)
    rates = {name: len(some) / value for name, value in seconds.items()}
    return {
        "fit_seconds": fit_seconds,
        "images_scored_per_second": rates,
        "ratio_convolution": rates["ours"] / rates["PyTorch's transposed convolutions"],
    }


def mnist() -> NDArray[np.uint8]:
    """The training images."""
    with np.load(data_folder() / "images" / "mnist.npz") as file:
        images: NDArray[np.uint8] = file["x_train"]
    return images


def score_watched(detector: EBGANDetector, x: NDArray[Any]) -> tuple[int, float]:
    """Score rows; return the peak of the process's own memory, and the seconds it took.

    Input, returned array and mapped file pages do not count.
    """
    started = time.perf_counter()
    with watched_memory() as memory:
        scores = detector.score_samples(x)
    seconds = time.perf_counter() - started
    return memory["peak_bytes"] - scores.nbytes, round(seconds, 1)


def memory_of_table() -> dict[str, Any]:
    """Peak beyond input and result while a million rows are scored."""
    detector = ours().fit(table(5000))
    x = table(SCORED_ROWS)
    detector.score_samples(x[:50_000])
    peak, seconds = score_watched(detector, x)
    return {"rows": len(x), "peak_bytes": peak, "seconds": seconds}


def memory_of_memmap() -> dict[str, Any]:
    """The same for ten gigabytes of uint8 images in a file (sparse: its size is what counts)."""
    side, n = 28, 10 * 10**9 // 28**2
    images = np.random.default_rng(0).integers(0, 256, (2000, side, side), dtype=np.uint8)
    # The smallest of networks: what is measured is memory, and convolutions take half an hour.
    detector = EBGANDetector(
        architecture="mlp",
        hidden_sizes=(4,),
        code_dim=4,
        n_snapshots=1,
        max_epochs=2,
        random_state=0,
    )
    detector.fit(images).score_samples(images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.dat"
        x = np.memmap(path, np.uint8, "w+", shape=(n, side, side))
        x[-1] = 255
        peak, seconds = score_watched(detector, x)
        del x
    return {
        "rows": n,
        "input_bytes": n * side**2,
        "peak_bytes": peak,
        "seconds": seconds,
    }


def measure_memory() -> dict[str, Any]:
    """Both memory figures, each in a fresh process."""
    return {name: in_fresh_process(name) for name in ("memory_of_table", "memory_of_memmap")}


def in_fresh_process(function: str) -> Any:
    """Call a function of this module in a new interpreter."""
    code = f"import json, benchmarks.speed as s; print(json.dumps(s.{function}()))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    return json.loads(subprocess.check_output(command).splitlines()[-1])


def measure_import() -> dict[str, Any]:
    """Processor seconds of the import, beside importing torch and scikit-learn."""
    statements = {"torch and sklearn": "import torch, sklearn", "ours": "import ebgan_detect"}
    read = "import resource as r; u = r.getrusage(r.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(7):
        for name, statement in statements.items():
            output = subprocess.check_output([sys.executable, "-c", f"{statement}; {read}"])
            seconds[name].append(float(output))
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    return {"cpu_seconds": median, "ratio": median["ours"] / median["torch and sklearn"]}


def measure_gpu() -> dict[str, Any]:
    """Training time and images a second on MNIST, by precision, for EBGAN and control."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu: no CUDA device here; run this command where there is one")
    x = mnist()
    results = {}
    for adversarial in (True, False):
        for precision in ("float32", "bf16-mixed"):
            detector = EBGANDetector(
                adversarial=adversarial, precision=precision, device="cuda", random_state=0
            )
            detector.set_params(max_epochs=1).fit(x)
            detector.set_params(max_epochs="auto")
            torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            detector.fit(x)
            torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            scoring = time.perf_counter()
            detector.score_samples(x)
            results[f"{'EBGAN' if adversarial else 'control'}, {precision}"] = {
                "fit_seconds": seconds,
                "images_per_second_in_epochs": len(x)
                * 0.9
                * detector.n_iter_
                / sum(detector.history_["seconds"]),
                "images_scored_per_second": len(x) / (time.perf_counter() - scoring),
                "peak_bytes": torch.cuda.max_memory_allocated(),
            }
    return results


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "training": measure_training,
    "scoring": measure_scoring,
    "images": measure_images,
    "memory": measure_memory,
    "import": measure_import,
    "gpu": measure_gpu,
}


def report(results: dict[str, Any]) -> str:
    """The figures that have a bound, as a table."""
    rows: list[list[Any]] = []
    if training := results.get("training"):
        rows.append(["training, no adversary: rows/s over PyOD's", training["ratio_control"], "5"])
        rows.append(["training, EBGAN: rows/s over PyOD's", training["ratio_ebgan"], "2"])
    if scoring := results.get("scoring"):
        rows.append(["scoring: rows/s over PyOD's", scoring["ratio_pyod"], "10"])
        rows.append(["scoring: rows/s over the bare module's", scoring["ratio_bare_module"], "0.8"])
        rows.append(["scoring: over its network's, on scaled rows", scoring["ratio_network"]])
    if images := results.get("images"):
        rows.append(["default fit of MNIST: seconds", images["fit_seconds"], "300"])
        rows.append(
            ["scoring images: over PyTorch's transposed convolutions", images["ratio_convolution"]]
        )
    for name, memory in results.get("memory", {}).items():
        if name == "device":
            continue
        text = name.replace("_", " ")
        rows.append([f"{text}: peak MB of {BUDGETED_BYTES / 1e6:.0f}", memory["peak_bytes"] / 1e6])
    if imported := results.get("import"):
        rows.append(["import: CPU seconds over torch and sklearn", imported["ratio"], "1.1"])
    return markdown(["what", "measured", "wanted"], [[*row, ""][:3] for row in rows])


def main() -> None:
    """Measure the parts asked for and store them beside those measured before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART",
                        help=f"of {', '.join(PARTS)}; all but gpu by default")  # fmt: skip
    parts = parser.parse_args().parts or ["training", "scoring", "images", "memory", "import"]
    warnings.simplefilter("ignore")
    path = RESULTS / ("speed_gpu.json" if "gpu" in parts else "speed.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    for part in parts:
        results[part] = {**PARTS[part](), "device": device_name()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
        print(part, json.dumps(results[part], indent=1))
    print(report(results))


if __name__ == "__main__":
    main()

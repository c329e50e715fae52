"""Two processes on the CPU make one training."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from ebgan_detect import Callback, EBGANDetector, InvalidInputError, InvalidParameterError, load
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.distributed import current_group, train_together
from ebgan_detect.training.normalisation import normalising_together

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(360, 5)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (160, 8, 8), dtype=np.uint8)


def detectors(size):
    """What is compared: every game, with all that draws, normalises or looks at other rows."""
    shared = {"batch_size": 32 // size, "random_state": 0, "precision": "float32"}
    yield "table", EBGANDetector(max_epochs=3, pull_away_weight=1.0, **shared), TABLE
    yield (
        "replay",
        EBGANDetector(max_epochs=3, replay_size=50, noise=0.1, **shared),
        TABLE,
    )
    yield "images", EBGANDetector(max_epochs=2, margin=0.1, **shared), IMAGES
    yield "vae", VAEDetector(max_epochs=3, likelihood="gaussian", **shared), TABLE
    yield "gan", GANDetector(max_epochs=1, **shared), IMAGES
    yield (
        "separation",
        AutoEncoderDetector(max_epochs=3, keep_state="separation", **shared),
        TABLE,
    )


def fitted(fabric):
    """Energies, histories and statistics of all, of one process.

    Fabric's queue takes some kilobytes and would wait for ever with more.
    """
    found = {}
    with train_together(fabric):
        for name, detector, rows in detectors(fabric.world_size):
            detector.fit(rows)
            state = detector.model_.state_dict().items()
            statistics = {key: float(t.square().sum()) for key, t in state if "running" in key}
            found[name] = detector.energy(rows)[::8], detector.history_, statistics
    return found


class StopsItself(Callback):
    """Asks to stop after the first epoch, where it is told to."""

    def __init__(self, stops):
        self.stops = stops

    def on_epoch_end(self, run):
        run.stop = self.stops


def errors_of(*calls):
    """What each call raised."""
    found = []
    for call in calls:
        with pytest.raises((InvalidInputError, InvalidParameterError)) as caught:
            call()
        found.append(str(caught.value))
    return found


def facts(fabric, folder):
    """What one process finds; all of them in the order of the ranks."""
    quick = {"max_epochs": 2, "batch_size": 16}
    with train_together(fabric):
        drawn = EBGANDetector(**quick).fit(TABLE)
        checkpoint = {"checkpoint": folder / "states", "random_state": 0, **quick}
        stops = [StopsItself(stops=fabric.is_global_zero)]
        stopped = EBGANDetector(callbacks=stops, **checkpoint).fit(TABLE)
        resumed = EBGANDetector(**checkpoint).fit(TABLE)
        whole = EBGANDetector(random_state=0, **quick).fit(TABLE)
        odd = EBGANDetector(max_epochs=1, random_state=0).fit(TABLE[:41])
        messages = errors_of(
            lambda: EBGANDetector().fit(TABLE[fabric.global_rank :]),
            lambda: EBGANDetector(device="meta").fit(TABLE),
            lambda: EBGANDetector(calibration_fraction=0).fit(TABLE[:1]),
        )
    alone = current_group().size
    mine = {
        "seed": drawn._seed,
        "energies": drawn.energy(TABLE[::8]),
        "epochs": (stopped.n_iter_, resumed.n_iter_),
        "as_whole": bool((resumed.energy(TABLE) == whole.energy(TABLE)).all()),
        "odd": odd.energy(TABLE[::8]),
        "messages": messages,
        "size_outside": alone,
        "health_of_layers": [
            "forward" in vars(layer)
            for member in whole.model_.members
            for layer in member.modules()
        ],
    }
    gathered = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, mine)
    return gathered


def launched(function, *args):
    """The first of two processes' answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())  # Fabric leaves its port there
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
        return fabric.launch(function, *args)


@pytest.fixture(scope="module")
def together():
    return launched(fitted)


@pytest.fixture(scope="module")
def apart():
    return fitted(Fabric(accelerator="cpu", devices=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, *_ in detectors(1)])
def test_two_processes_train_as_one_with_twice_the_rows(together, apart, name):
    energies, history, statistics = together[name]
    expected, expected_history, expected_statistics = apart[name]
    assert history.keys() == expected_history.keys()
    for metric in history.keys() - {"seconds"}:
        np.testing.assert_allclose(history[metric], expected_history[metric], rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(energies, expected, rtol=1e-3, atol=1e-5)
    assert statistics == pytest.approx(expected_statistics, rel=1e-4)


def test_the_comparison_covers_batch_normalisation(apart):
    normalised = {name for name in apart if any("running_var" in key for key in apart[name][2])}
    assert normalised == {"images", "gan"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return launched(facts, tmp_path_factory.mktemp("together"))


@pytest.mark.slow
def test_all_processes_have_the_same_detector(found):
    first, second = found
    assert first["seed"] == second["seed"]
    np.testing.assert_array_equal(first["energies"], second["energies"])
    np.testing.assert_array_equal(first["odd"], second["odd"])
    assert first["size_outside"] == second["size_outside"] == 1


@pytest.mark.slow
def test_training_stops_where_the_first_process_says_so_and_is_resumed(found):
    for each in found:
        assert each["epochs"] == (1, 2)
        assert each["as_whole"]
        assert not any(each["health_of_layers"])


@pytest.mark.slow
def test_what_cannot_be_shared_is_refused_on_every_process(found):
    for each in found:
        rows, device, few = each["messages"]
        assert rows == "X must be the same on all processes that train together"
        assert "device must be" in device
        assert few == "X must have a training row for each of 2 processes, got 1"


def test_a_single_process_is_not_a_group():
    with train_together(Fabric(accelerator="cpu", devices=1)):
        assert current_group().size == 1
        assert current_group().device is None


def test_a_fabric_must_be_launched_first():
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    with (
        pytest.raises(InvalidParameterError, match=r"launched before 2 .* call fabric.launch\(\)"),
        train_together(fabric),
    ):
        pass


def test_layers_of_a_single_process_stay_as_they_are():
    layer = nn.BatchNorm1d(3)
    with normalising_together(nn.Sequential(layer)):
        assert "forward" not in vars(layer)


@pytest.mark.slow
def test_torchrun_starts_the_example(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "examples.together", "--output", str(tmp_path)]
    subprocess.run(command, check=True, timeout=300, cwd=Path(__file__).parent.parent)
    assert load(tmp_path / "model.ebgan").n_features_in_ == 64

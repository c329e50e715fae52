"""Where training runs: device, precision, layout, threads; and torch's defaults there."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple
from threading import Barrier, Event

import numpy as np
import pytest
import torch
from games import CPU, make_game, random_rows, state, trainer
from tables import SMALL
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ebgan_detect import EBGANDetector, load, save
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.diagnostics import equilibrium
from ebgan_detect.errors import (
    InvalidParameterError,
    TrainingDivergedError,
)
from ebgan_detect.networks import build_networks, mlp_networks
from ebgan_detect.objectives import AutoEncoderObjective
from ebgan_detect.torch_state import full_precision, usual_defaults
from ebgan_detect.training import (
    Callback,
    ResidentRows,
    Trainer,
    autocast,
    fastest_precision,
    resolve_device,
)
from ebgan_detect.training.placement import place, sparing_threads

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


# --- device and precision ---------------------------------------------------------------------


class Synchronisations(TorchDispatchMode):
    """Counts operations whose result the host must wait for."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__.split("::")[-1] in self.WAITING:
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


HOST_METHODS = [
    "item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__", "__index__", "__array__",
]  # fmt: skip


@pytest.mark.parametrize("average_decay", [0.0, 0.9])
@pytest.mark.parametrize("kind", ["ebgan", "conv", "autoencoder"])
def test_step_makes_the_host_wait_for_nothing(kind, average_decay, monkeypatch):
    rows = random_rows()
    if kind == "conv":
        rows = ResidentRows(random_rows(40, 64).scaled.reshape(40, 1, 8, 8))
    calls = []
    watched = []

    def counted(name, original):
        def method(self, *args, **kwargs):
            if watched:
                calls.append(name)
            return original(self, *args, **kwargs)

        return method

    for name in HOST_METHODS:
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))

    class Watch(Callback):
        """Looks at every step but an epoch's first: the end of an epoch may wait."""

        def __init__(self):
            self.steps = 0

        def on_step_end(self, run):
            self.steps += 1
            watched[:] = [True] if self.steps % run.steps_per_epoch else []
            mode.seen.clear() if self.steps % run.steps_per_epoch == 1 else None
            if not watched:
                at_epoch_ends.extend(mode.seen)

    at_epoch_ends = []
    with Synchronisations() as mode:
        trainer(max_epochs=2, callbacks=[Watch()], average_decay=average_decay, batch_size=8).fit(
            make_game(kind), rows
        )
    assert calls == []
    assert at_epoch_ends == []


def test_synchronisation_is_noticed():
    with Synchronisations() as mode:
        float(torch.ones(3).sum())
        torch.ones(3).nonzero()
    assert len(mode.seen) == 2


def test_epoch_reads_its_metrics_once(monkeypatch):
    calls = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: calls.append(t.shape) or original(t))
    run = trainer(max_epochs=3).fit(make_game(), random_rows())
    assert calls == [(7, 5)] * 3
    assert run.epoch == 3


@pytest.mark.parametrize("device", ["cpu", CPU, "auto"], ids=["name", "device", "auto"])
def test_resolve_device_finds_what_is_there(device):
    has_gpu = torch.cuda.is_available()
    expected = "cuda" if device == "auto" and has_gpu else "cpu"
    assert resolve_device(device).type == expected


@pytest.mark.parametrize("device", ["", "gpu", "cpu:x", "cuda:99", 3.5, None])
def test_resolve_device_of_absent_device_raises(device):
    with pytest.raises(InvalidParameterError, match="device must be 'auto'") as caught:
        resolve_device(device)
    assert f"got {device!r}" in str(caught.value)


def test_autocast_runs_products_in_bfloat16_only_on_request():
    x = torch.ones(2, 2)
    with autocast(CPU, "float32"):
        assert (x @ x).dtype == torch.float32
    with autocast(CPU, "bf16-mixed"):
        assert (x @ x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": False, "avx512_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_fastest_precision_of_a_cpu_follows_its_capabilities(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fastest_precision(CPU) == expected


def test_training_in_mixed_precision_keeps_float32_weights_and_similar_losses():
    exact, mixed = make_game(), make_game()
    first = trainer().fit(exact, random_rows())
    second = trainer(precision="bf16-mixed").fit(mixed, random_rows())
    assert {p.dtype for p in mixed.parameters()} == {torch.float32}
    np.testing.assert_allclose(
        second.history["energy_real"], first.history["energy_real"], rtol=0.05
    )
    assert second.history["energy_real"] != first.history["energy_real"]


def test_place_puts_convolutions_in_channels_last():
    game = make_game("conv")
    before = state(game)
    place(game, CPU)
    kernel = game.encoder[0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in game.state_dict().items())


# --- threads ----------------------------------------------------------------------------------


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("module", "batch_size", "expected"),
    [
        (nn.Linear(32, 64), 128, 1),
        (nn.Linear(1024, 1024), 128, 2),
        (nn.Linear(1024, 1024), 4, 1),
        (nn.Conv2d(1, 4, 4), 128, 1),
        (nn.Conv2d(32, 64, 4), 128, 2),
    ],
    ids=["small", "wide", "few rows", "few channels", "many channels"],
)
def test_small_networks_train_on_one_thread(two_threads, module, batch_size, expected):
    with sparing_threads(module, batch_size):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 2


def test_threads_are_given_back_after_trainings_side_by_side(two_threads):
    """Whichever ends last: else every new thread would compute on one thread for good."""
    small, entered, others_left = nn.LeakyReLU(), Barrier(2), Event()

    def train():
        with sparing_threads(small, 4):
            entered.wait(timeout=30)
            others_left.wait(timeout=30)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        with sparing_threads(small, 4):
            last = pool.submit(train)
            entered.wait(timeout=30)
        others_left.set()
        assert last.result() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


def test_threads_are_given_back_after_a_failed_training(two_threads):
    seen = []

    class Failing(Callback):
        def on_step_end(self, run):
            seen.append(torch.get_num_threads())
            raise ValueError("stop here")

    game = AutoEncoderObjective(
        build_networks(
            lambda shape: mlp_networks(
                shape, hidden_sizes=(4,), code_dim=2, latent_dim=2, bounded=False
            ),
            (3,),
            latent_dim=2,
            seed=0,
        )
    )
    trainer = Trainer(1, 8, 1e-3, CPU, 0, callbacks=[Failing()])
    with pytest.raises(ValueError, match="stop here"):
        trainer.fit(game, random_rows(20, 3))
    assert seen == [1]
    assert torch.get_num_threads() == 2


# --- what the caller has set ---------------------------------------------------------------------


@contextmanager
def default_dtype(dtype):
    """Another type for new tensors."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def everything(kind, table, path):
    """Fit, go on, fail, save, load and draw."""
    options = {name: value for name, value in SMALL.items() if name != "code_dim"}
    detector = kind(**options, keep_state="separation").fit(table)
    save(detector, path)
    answers = [detector.energy(table), load(path).energy(table)]
    answers += [load(path).partial_fit(table).energy(table)]
    with pytest.raises(TrainingDivergedError):
        detector.set_params(learning_rate=1e30).partial_fit(table)
    answers += [detector.set_params(learning_rate=1e-3).partial_fit(table).energy(table)]
    if hasattr(detector, "sample"):
        answers += [detector.sample(3, random_state=0)]
    if kind is EBGANDetector:
        answers += [astuple(equilibrium(detector, table, random_state=0))]
    return answers


@pytest.mark.parametrize("kind", [EBGANDetector, AutoEncoderDetector, VAEDetector, GANDetector])
def test_what_the_caller_has_set_in_torch_changes_nothing(kind, table, tmp_path):
    expected = everything(kind, table, tmp_path / "model.ebgan")
    for name, setting in SETTINGS.items():
        with setting():
            before = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
            found = everything(kind, table, tmp_path / "model.ebgan")
            after = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
        assert after == before
        for theirs, ours in zip(found, expected, strict=True):
            np.testing.assert_array_equal(theirs, ours, err_msg=name)


def test_gpu_scores_without_tensor_float_and_gives_it_back():
    backends = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [backend.fp32_precision for backend in backends]
    backends[1].fp32_precision = "tf32"
    try:
        with full_precision(torch.device("cuda")):
            assert [backend.fp32_precision for backend in backends] == ["ieee", "ieee"]
        assert [backend.fp32_precision for backend in backends] == [before[0], "tf32"]
    finally:
        backends[1].fp32_precision = before[1]


def test_default_type_is_given_back_by_the_last_thread(table):
    entered, others_left = Barrier(2), Event()

    def train():
        with usual_defaults():
            entered.wait(timeout=30)
            others_left.wait(timeout=30)
            return torch.get_default_dtype()

    with default_dtype(torch.float64), ThreadPoolExecutor(1) as pool:
        with usual_defaults():
            last = pool.submit(train)
            entered.wait(timeout=30)
        others_left.set()
        assert last.result() == torch.float32
        assert torch.get_default_dtype() == torch.float64

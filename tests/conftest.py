"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from tables import ring

from benchmarks.triton_server import BACKENDS, TritonServer, TritonUnavailableError, backend_folder

# Examples are the same on every run, and a busy machine fails no test.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small networks run fastest on one thread, and the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rng():
    """Seeded source of randomness for torch."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def np_rng():
    """Seeded source of randomness for NumPy."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def table():
    """600 points on a noisy circle; read only."""
    return ring(600)


@pytest.fixture
def unchanged_global_random_state():
    """Fail when the test has drawn from the global generators of NumPy or torch."""
    torch_before = torch.get_rng_state()
    numpy_before = np.random.get_state()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), torch_before), "torch's global state changed"
    numpy_after = np.random.get_state()  # noqa: NPY002
    assert numpy_after[2] == numpy_before[2], "NumPy's global state changed"
    np.testing.assert_array_equal(numpy_after[1], numpy_before[1])


@pytest.fixture(scope="session")
def torchvision():
    """torchvision, whose CUDA build lacks two operators beside a CPU build of torch."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision==0.28.0")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in ("nms(Tensor d, Tensor s, float t) -> Tensor", "qnms(Tensor d) -> Tensor"):
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)
    # Waiting here keeps `library`, and with it the operators, alive.
    yield importlib.import_module("torchvision")  # noqa: PT022


@pytest.fixture
def interruptible():
    """Let SIGINT raise KeyboardInterrupt: a shell may start background processes without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def figures():
    """Draw without a screen, and leave no figure open."""
    plt = importlib.import_module("matplotlib.pyplot")
    backend = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


@pytest.fixture
def figures_closed():
    """Fail when the test leaves a figure open; draw as before it afterwards."""
    plt = importlib.import_module("matplotlib.pyplot")
    backend, before = plt.get_backend(), plt.get_fignums()
    yield
    assert plt.get_fignums() == before, "a figure is left open"
    plt.switch_backend(backend)


@pytest.fixture(scope="session")
def data_folder():
    """Folder with the real data sets: EBGAN_DATA, or ../shared/data beside the repository."""
    given = os.environ.get("EBGAN_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set EBGAN_DATA to a folder that holds it")
    return folder


def _require_triton(backend):
    """Skip without a server, or fail where one is demanded; the second backend is optional."""
    try:
        backend_folder(backend)
    except TritonUnavailableError as error:
        demanded = backend == "python" or os.environ.get("EBGAN_TRITON_BACKENDS")
        if demanded and os.environ.get("EBGAN_REQUIRE_TRITON") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=BACKENDS)
def triton_backend(request):
    """Each backend that serves exported models in turn; a session's would mix the files."""
    _require_triton(request.param)
    return request.param


@pytest.fixture(scope="session")
def triton_server():
    """Function that starts a `TritonServer`; the session's end stops what still runs."""
    with ExitStack() as servers:

        def start(repository, *, backend="python", mode="none", options=()):
            _require_triton(backend)
            server = TritonServer(repository, backend=backend, mode=mode, options=options)
            servers.callback(server.kill)
            return server.start()

        yield start

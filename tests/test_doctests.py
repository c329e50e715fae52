"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import torch

import ebgan_detect
from ebgan_detect.errors import MissingDependencyError

MODULES = [
    "ebgan_detect",
    *(
        found.name
        for found in pkgutil.walk_packages(ebgan_detect.__path__, "ebgan_detect.")
        # Importing the one runs its program; the other needs the server that it runs in.
        if not found.name.endswith((".__main__", "._served_model"))
    ),
]
NAMESPACE = {"np": np, "torch": torch, "EBGANDetector": ebgan_detect.EBGANDetector}


def examples(name):
    """Docstrings with examples that a module itself defines."""
    try:
        module = importlib.import_module(name)
    except (ModuleNotFoundError, MissingDependencyError) as error:
        if (getattr(error, "name", None) or "").startswith("ebgan_detect"):
            raise
        pytest.skip(f"{name} needs an extra: {error}")
    found = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=NAMESPACE)
    return [test for test in found if test.examples]


@pytest.mark.no_cover  # others run the same lines; tracing doubles the time
@pytest.mark.parametrize("name", MODULES)
def test_doctests_pass(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report = []
    for test in examples(name):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize(
    "name", ["ebgan_detect.losses.energy", "ebgan_detect.thresholds", "ebgan_detect.detector"]
)
def test_doctests_exist(name):
    assert examples(name)


def test_doctest_runner_notices_a_wrong_number():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1

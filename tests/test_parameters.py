"""Rules for constructor parameters."""

import functools
from fractions import Fraction

import numpy as np
import pytest
import torch

from ebgan_detect.errors import EBGANError, InvalidParameterError
from ebgan_detect.parameters import (
    auto_or,
    check_parameters,
    described,
    flag,
    integer,
    none_or,
    one_of,
    real,
    sizes,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        (integer(1), [1, 7, np.int64(3), np.uint8(1)], [0, -1, 1.0, True, "1", None, [1], NAN]),
        (integer(0), [0, np.int32(0)], [-1, False, np.False_]),
        (real(0), [0, 0.0, 3, np.float32(2.5), 1e300, Fraction(1, 2)], [-1e-9, NAN, INF, True]),
        (real(0, closed="()"), [1e-300], [0, 0.0, -1, "0.5", None, 1j]),
        (real(0, 1), [0, 1, 0.5], [-0.1, 1.1, [0.5]]),
        (real(0, 0.5, closed="(]"), [0.5, 1e-9], [0, 0.50001]),
        (real(0, 1, closed="[)"), [0, 0.999], [1, 1.0]),
        (real(0, 1, closed="()"), [0.5], [0, 1]),
        (one_of("cpu", "gpu"), ["cpu", "gpu"], ["CPU", "", None, 3, ("cpu",), np.array(["cpu"])]),
        (sizes(), [(), (3,), [4, 2], (np.int64(5),)], [(0,), (1.0,), 3, "12", None, (True,), {3}]),
        (flag(), [True, False, np.True_, np.False_], [0, 1, None, "True", np.array([True])]),
        (auto_or(integer(2)), ["auto", 2], [1, "Auto", None, np.array(["auto", "auto"])]),
        (none_or(integer(2)), [None, 2], [1, "None", "auto"]),
        (auto_or(real(0, 0.5, closed="(]")), ["auto", 0.1], [0.7, "0.1", True]),
    ],
)
def test_rule_allows_and_refuses(rule, allowed, refused):
    for value in allowed:
        assert rule.holds(value), f"{value!r} must be {rule.text}"
    for value in refused:
        assert not rule.holds(value), f"{value!r} must not be {rule.text}"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (integer(3), "an int >= 3"),
        (real(0), "a float >= 0"),
        (real(0, closed="(]"), "a float > 0"),
        (real(0.5, 2, closed="[)"), "a float in [0.5, 2)"),
        (one_of("a", "b"), "'a' or 'b'"),
        (sizes(), "a tuple of ints >= 1"),
        (flag(), "True or False"),
        (auto_or(real(0, 0.5, closed="(]")), "'auto' or a float in (0, 0.5]"),
    ],
)
def test_rule_wording(rule, text):
    assert rule.text == text


RULES = {"contamination": auto_or(real(0, 0.5, closed="(]")), "noise": real(0), "n": integer(1)}


def test_check_parameters_reports_every_problem_at_once():
    with pytest.raises(InvalidParameterError) as caught:
        check_parameters({"n": 0, "contamination": 0.7, "noise": 0.1}, RULES)
    assert str(caught.value).splitlines() == [
        "contamination must be 'auto' or a float in (0, 0.5], got 0.7",
        "n must be an int >= 1, got 0",
    ]


def test_check_parameters_shows_values_as_python_writes_them():
    with pytest.raises(InvalidParameterError, match=r"noise must be a float >= 0, got 'much'$"):
        check_parameters({"n": 1, "contamination": "auto", "noise": "much"}, RULES)


def test_check_parameters_passes_good_ones_and_ignores_others():
    check_parameters({"n": 1, "contamination": 0.5, "noise": 0, "else": object()}, RULES)


def test_parameter_errors_are_the_librarys_and_value_errors():
    with pytest.raises(EBGANError):
        check_parameters({"n": None}, {"n": integer(1)})
    with pytest.raises(ValueError, match="n must be"):
        check_parameters({"n": None}, {"n": integer(1)})


# --- in words -----------------------------------------------------------------------------------


class Schedule:
    """A margin of its own, as a method and as a callable."""

    def __init__(self, value):
        self.value = value

    def at(self, progress):
        return self.value

    __call__ = at


def enclosing(value):
    return lambda progress: float(np.ravel(value)[-1])


def with_default(value):
    return lambda progress, kept=value: kept


def calling_itself(depth):
    def margin(progress):
        return 1.0 if progress <= depth else margin(progress - 1)

    return margin


@pytest.mark.parametrize(
    "make",
    [
        Schedule,
        lambda value: Schedule(value).at,
        enclosing,
        lambda value: enclosing(np.arange(5000) * value),
        lambda value: enclosing(torch.arange(5000) * value),
        lambda value: enclosing([{"a": {value, 9}}]),
        lambda value: enclosing(enclosing(value)),
        with_default,
        calling_itself,
        lambda value: functools.partial(max, value),
        lambda value: functools.partial(enclosing(value), kept=0),
        lambda value: (value, [value]),
    ],
)
def test_functions_are_described_by_what_they_do(make):
    assert described(make(1)) == described(make(1))
    assert described(make(1)) != described(make(2))
    assert "0x" not in str(described(make(1)))


def test_numbers_and_sequences_are_described_by_value():
    assert described(np.float32(0.5)) == 0.5
    assert described([np.int64(1), 2]) == described((1, 2))
    assert described(None) is None
    assert described(max).startswith("builtins.max")

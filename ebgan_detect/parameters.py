"""Rules for constructor parameters, checked together so that all problems show at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from ebgan_detect.errors import InvalidParameterError

__all__ = [
    "Rule",
    "auto_or",
    "check_parameters",
    "flag",
    "integer",
    "none_or",
    "one_of",
    "real",
    "sizes",
]


@dataclass(frozen=True)
class Rule:
    """A condition and its wording.

    Attributes
    ----------
    holds : callable
        From a value to whether it is allowed.
    text : str
        Completes the sentence "<name> must be ...".
    """

    holds: Callable[[Any], bool]
    text: str


def integer(least: int) -> Rule:
    """Whole numbers from a least value on.

    Parameters
    ----------
    least : int
        Smallest allowed value.

    Returns
    -------
    Rule
        The rule; bool does not count as a number.
    """
    return Rule(lambda v: _is(v, Integral) and v >= least, f"an int >= {least}")


def real(low: float, high: float = math.inf, *, closed: str = "[]") -> Rule:
    """Finite numbers in an interval.

    Parameters
    ----------
    low, high : float
        Ends.
    closed : {'[]', '(]', '[)', '()'}
        Which ends belong to it.

    Returns
    -------
    Rule
        The rule; bool does not count as a number.

    Examples
    --------
    >>> real(0, 1, closed="(]").text
    'a float in (0, 1]'
    """

    def holds(value: Any) -> bool:
        return (
            _is(value, Real)
            and math.isfinite(value)
            and (value >= low if closed[0] == "[" else value > low)
            and (value <= high if closed[1] == "]" else value < high)
        )

    if high == math.inf:
        return Rule(holds, f"a float {'>=' if closed[0] == '[' else '>'} {low:g}")
    return Rule(holds, f"a float in {closed[0]}{low:g}, {high:g}{closed[1]}")


def one_of(*options: str) -> Rule:
    """One of several names.

    Parameters
    ----------
    *options : str
        The names.

    Returns
    -------
    Rule
        The rule.
    """
    return Rule(lambda v: isinstance(v, str) and v in options, " or ".join(map(repr, options)))


def sizes() -> Rule:
    """Sequences of layer widths.

    Returns
    -------
    Rule
        The rule: a tuple or list of whole numbers >= 1; an empty one means no hidden layer.
    """
    return Rule(
        lambda v: isinstance(v, tuple | list) and all(_is(w, Integral) and w >= 1 for w in v),
        "a tuple of ints >= 1",
    )


def flag() -> Rule:
    """Truth values.

    Returns
    -------
    Rule
        The rule.
    """
    return Rule(lambda v: isinstance(v, bool), "True or False")


def auto_or(rule: Rule) -> Rule:
    """A rule that `'auto'` passes too.

    Parameters
    ----------
    rule : Rule
        What else is allowed.

    Returns
    -------
    Rule
        The wider rule.

    Examples
    --------
    >>> auto_or(integer(1)).text
    "'auto' or an int >= 1"
    """
    return Rule(
        lambda v: (isinstance(v, str) and v == "auto") or rule.holds(v), f"'auto' or {rule.text}"
    )


def none_or(rule: Rule) -> Rule:
    """A rule that None passes too.

    Parameters
    ----------
    rule : Rule
        What else is allowed.

    Returns
    -------
    Rule
        The wider rule.

    Examples
    --------
    >>> none_or(integer(1)).text
    'None or an int >= 1'
    """
    return Rule(lambda v: v is None or rule.holds(v), f"None or {rule.text}")


def check_parameters(parameters: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Compare parameters with their rules.

    Parameters
    ----------
    parameters : mapping
        Values by name.
    rules : mapping
        Rules by name.

    Raises
    ------
    InvalidParameterError
        If any rule is broken; the message names every such parameter.

    Examples
    --------
    >>> check_parameters({"contamination": 0.7}, {"contamination": real(0, 0.5, closed="(]")})
    Traceback (most recent call last):
    ...
    ebgan_detect.errors.InvalidParameterError: contamination must be a float in (0, 0.5], got 0.7
    """
    problems = [
        f"{name} must be {rule.text}, got {parameters[name]!r}"
        for name, rule in rules.items()
        if not rule.holds(parameters[name])
    ]
    if problems:
        raise InvalidParameterError("\n".join(problems))


def _is(value: Any, kind: type) -> bool:
    """Whether a value is a number of a kind; bool is a number to Python, not to a reader."""
    return isinstance(value, kind) and not isinstance(value, bool)

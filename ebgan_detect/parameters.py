"""Rules for constructor parameters, checked together so that all problems show at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from numbers import Integral, Real
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor

from ebgan_detect.errors import InvalidParameterError

__all__ = [
    "Rule",
    "auto_or",
    "check_parameters",
    "described",
    "flag",
    "integer",
    "none_or",
    "one_of",
    "real",
    "seed",
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


def integer(least: int, most: int | None = None) -> Rule:
    """Whole numbers from a least value on, perhaps up to a largest one.

    Parameters
    ----------
    least : int
        Smallest allowed value.
    most : int or None
        Largest allowed value, if there is one.

    Returns
    -------
    Rule
        The rule; bool does not count as a number.

    Examples
    --------
    >>> integer(1).text, integer(1, 8).text
    ('an int >= 1', 'an int from 1 to 8')
    """
    if most is None:
        return Rule(lambda v: _is(v, Integral) and v >= least, f"an int >= {least}")
    return Rule(lambda v: _is(v, Integral) and least <= v <= most, f"an int from {least} to {most}")


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
        The rule; NumPy's count too, as a grid of parameters has them.
    """
    return Rule(lambda v: isinstance(v, bool | np.bool_), "True or False")


def seed() -> Rule:
    """Sources of randomness as scikit-learn takes them.

    Returns
    -------
    Rule
        The rule: None, a whole number that NumPy takes for a seed, or a RandomState.
    """
    return Rule(
        lambda v: (
            v is None
            or isinstance(v, np.random.RandomState)
            or (_is(v, Integral) and 0 <= v < 2**32)
        ),
        "None, an int from 0 to 2**32 - 1 or a RandomState",
    )


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


def described(value: Any) -> str | int | float | None:
    """A parameter in a form that is the same in every process, to compare it with another.

    Parameters
    ----------
    value : object
        Any parameter.

    Returns
    -------
    str, int, float or None
        Numbers, text and None as they are. A Python function by its name and a digest of its
        code, its defaults and what it encloses; all else in words.

    Examples
    --------
    >>> [described(np.int64(3)), described((1, 2))]
    [3, '[1, 2]']
    >>> described(lambda p: 1.0) == described(lambda p: 2.0)
    False
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int | float | None):
        return value
    essence = repr(_essence(value))
    if not callable(value):
        return essence
    named = value if hasattr(value, "__qualname__") else type(value)
    digest = hashlib.sha256(essence.encode()).hexdigest()
    return f"{named.__module__}.{named.__qualname__} ({digest[:12]})"


def _essence(value: Any, around: tuple[int, ...] = ()) -> Any:
    """A value and all that it consists of, without the address that a function's `repr` has."""
    if id(value) in around:
        return "itself"
    parts = _parts(value)
    if not isinstance(parts, list):
        return parts
    return [_essence(part, (*around, id(value))) for part in parts]


@singledispatch
def _parts(value: Any) -> Any:
    """What a value consists of, as a list; what has no parts, as it is."""
    if callable(value) and hasattr(value, "__dict__"):
        return [type(value), vars(value)]
    return value


@_parts.register(list | tuple)
def _(value: Sequence[Any]) -> list[Any]:
    return list(value)


@_parts.register(set | frozenset)
def _(value: Collection[Any]) -> list[Any]:
    return sorted(value, key=repr)  # their own order differs from process to process


@_parts.register
def _(value: dict) -> list[Any]:  # type: ignore[type-arg]
    return sorted(value.items(), key=repr)


@_parts.register
def _(value: np.generic) -> Any:
    return value.item()


@_parts.register
def _(value: np.ndarray) -> list[Any]:
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return [str(value.dtype), value.shape, digest]


@_parts.register
def _(value: Tensor) -> list[Any]:
    return [value.detach().cpu().numpy()]


@_parts.register
def _(value: partial) -> list[Any]:  # type: ignore[type-arg]
    return [value.func, value.args, value.keywords]


@_parts.register
def _(value: MethodType) -> list[Any]:
    return [value.__func__, value.__self__]


@_parts.register
def _(value: FunctionType) -> list[Any]:
    return [value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__]


@_parts.register
def _(value: CodeType) -> list[Any]:
    return [value.co_code, value.co_names, value.co_consts]


@_parts.register
def _(value: CellType) -> list[Any]:
    try:
        return [value.cell_contents]
    except ValueError:  # empty, as while its function is being defined
        return []


@_parts.register(type | BuiltinFunctionType)
def _(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _is(value: Any, kind: type) -> bool:
    """Whether a value is a number of a kind; bool is a number to Python, not to a reader."""
    return isinstance(value, kind) and not isinstance(value, bool)

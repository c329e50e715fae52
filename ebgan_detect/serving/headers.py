"""Which headers a protocol can carry."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ebgan_detect.errors import InvalidParameterError

__all__ = ["check_headers"]

NAMES = {"grpc": r"[0-9a-z_.-]+(?<!-bin)", "http": r"[0-9a-z!#$%&'*+.^_`|~-]+"}
VALUES = {"grpc": r"[ -~]*", "http": r"[\t -~\x80-\xff]*"}
RULES = {
    "grpc": (
        "names of ASCII letters, digits, '_', '-' and '.', without -bin at the end, and values "
        "of printable ASCII"
    ),
    "http": "names of ASCII letters, digits and !#$%&'*+-.^_`|~, and values of one line of Latin-1",
}


def check_headers(headers: Mapping[str, str], protocol: str) -> None:
    """Refuse headers that a protocol cannot carry, before anything is sent.

    Parameters
    ----------
    headers : mapping of str to str
        Names and values.
    protocol : {'grpc', 'http'}
        What is spoken.

    Raises
    ------
    InvalidParameterError
        If a name or value has another form. The message holds no value: it may be a secret.
    """
    for name, value in headers.items():
        if re.fullmatch(NAMES[protocol], name.lower()) is None:
            found = f"the name {name!r}"
        elif re.fullmatch(VALUES[protocol], value) is None:
            found = f"another value of {name!r}"
        else:
            continue
        raise InvalidParameterError(f"headers must have {RULES[protocol]}, got {found}")

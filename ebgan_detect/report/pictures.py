"""Displays drawn into a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from ebgan_detect.errors import MissingDependencyError

__all__ = ["Picture", "drawing"]

PIXELS_PER_INCH = 96
"""Of a browser; files of pixels have twice as many."""


@dataclass(frozen=True)
class Picture:
    """A picture that an HTML page holds.

    Attributes
    ----------
    uri : str
        The whole picture as a ``data:`` address.
    width : int
        Width on the page [pixel].
    """

    uri: str
    width: int


@contextmanager
def drawing() -> Iterator[Callable[..., Picture]]:
    """Draw in matplotlib's own style, and leave no figure behind.

    Yields
    ------
    callable
        From a drawn display, and the name of a file format, to a picture.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
        import matplotlib.style
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs matplotlib: pip install 'ebgan-detect[plot]'"
        ) from error
    before = plt.get_fignums()

    def picture(display: Any, kind: str = "svg") -> Picture:
        figure, stream = display.figure_, BytesIO()
        # No date, and names from the content: equal detectors give equal pages.
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(stream, format=kind, dpi=2 * PIXELS_PER_INCH, metadata=metadata)
        width = round(figure.get_figwidth() * PIXELS_PER_INCH)
        plt.close(figure)
        type_ = {"svg": "image/svg+xml", "png": "image/png"}[kind]
        return Picture(f"data:{type_};base64,{b64encode(stream.getvalue()).decode()}", width)

    with plt.ioff(), matplotlib.style.context(["default", {"svg.hashsalt": "ebgan_detect"}]):
        try:
            yield picture
        finally:
            for number in set(plt.get_fignums()) - set(before):
                plt.close(number)

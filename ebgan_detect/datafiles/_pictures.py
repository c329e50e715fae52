"""Folders of pictures."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.datafiles._shared import DataRows, ReadOptions, optional_module, rows_in
from ebgan_detect.errors import InvalidInputError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

ORIENTATION = 0x0112
"""EXIF's number for how the camera was held."""
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What puts a picture upright, by its orientation."""
NOT_WHOLE = (OSError, SyntaxError, ValueError, TypeError, AttributeError, struct.error)
"""What Pillow raises on damaged files."""


def image_chunks(path: Path, options: ReadOptions, chunk_bytes: int) -> Iterator[DataRows]:
    """Pictures of a folder, or one picture, as uint8."""
    folder = path if path.is_dir() else path.parent
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and not file.is_dir()
        )
    if not files:
        raise InvalidInputError(
            f"{path} must hold pictures ({', '.join(IMAGE_SUFFIXES)}), got none"
        )
    shape = _picture(files[0], options.size).shape
    size = rows_in(chunk_bytes, math.prod(shape))
    for start in range(0, len(files), size):
        part = files[start : start + size]
        values = np.empty((len(part), *shape), np.uint8)
        for i, file in enumerate(part):
            picture = _picture(file, options.size)
            if picture.shape != shape:
                raise InvalidInputError(
                    f"{file} must have the size and colours of the pictures before it, "
                    f"{_shape_in_words(shape)}, got {_shape_in_words(picture.shape)}; resize "
                    "(size) or convert it"
                )
            values[i] = picture
        names = np.array([_name(file.relative_to(folder)) for file in part], dtype=object)
        yield DataRows(values, names, "file")


def _name(file: Path) -> str:
    """A path as text that every table can hold, also where its bytes are no text."""
    return os.fsencode(file.as_posix()).decode("utf-8", "backslashreplace")


def _picture(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """One picture, upright, of shape (h, w), or (3, h, w) in colours; transparency is ignored."""
    image_module = optional_module("PIL.Image", "reading pictures", "images")
    try:
        with image_module.open(file) as opened:
            opened.load()
            # As the camera was held. Pillow's own way writes all that the camera noted anew, and
            # fails where some of it has another type than usual.
            turn = TURNS.get(opened.getexif().get(ORIENTATION))
            image = opened if turn is None else opened.transpose(image_module.Transpose[turn])
            if image.mode in ("P", "PA"):
                image = image.convert("RGBA")
            if image.mode.startswith(("I", "F")):
                raise InvalidInputError(
                    f"{file} must have 8 bits a channel, got mode {image.mode}; convert it, or "
                    "put such pictures into an NPY file"
                )
            image = image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
            if size is not None:
                image = image.resize(size[::-1], image_module.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except InvalidInputError:
        raise
    except (*NOT_WHOLE, image_module.DecompressionBombError) as error:
        raise InvalidInputError(
            f"{file} must be a whole picture, got: {error}; replace or remove it"
        ) from error
    return pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _shape_in_words(shape: tuple[int, ...]) -> str:
    """Size and colours of a picture."""
    return f"{shape[-2]}x{shape[-1]} {'grey' if len(shape) == 2 else 'RGB'}"

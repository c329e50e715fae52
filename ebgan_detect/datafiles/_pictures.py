"""Folders of pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.datafiles._shared import DataRows, ReadOptions, optional_module, rows_in
from ebgan_detect.errors import InvalidInputError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def image_chunks(path: Path, options: ReadOptions, chunk_bytes: int) -> Iterator[DataRows]:
    """Pictures of a folder, or one picture, as uint8."""
    folder = path if path.is_dir() else path.parent
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
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
        names = np.array([file.relative_to(folder).as_posix() for file in part], dtype=object)
        yield DataRows(values, names, "file")


def _picture(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """One picture, upright, of shape (h, w), or (3, h, w) in colours; transparency is ignored."""
    image_module = optional_module("PIL.Image", "reading pictures", "images")
    operations = optional_module("PIL.ImageOps", "reading pictures", "images")
    try:
        with image_module.open(file) as opened:
            opened.load()
            image = operations.exif_transpose(opened)  # as the camera was held
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
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise InvalidInputError(
            f"{file} must be a whole picture, got: {error}; replace or remove it"
        ) from error
    return pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _shape_in_words(shape: tuple[int, ...]) -> str:
    """Size and colours of a picture."""
    return f"{shape[-2]}x{shape[-1]} {'grey' if len(shape) == 2 else 'RGB'}"

"""Files that are whole or absent: atomic writes, and sealed tensor files.

A sealed file is a safetensors file whose metadata carries a JSON header and the
SHA-256 digest of the file itself, taken with the digest's own 64 characters set
to zero. One flipped bit anywhere in the file is therefore noticed on reading.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ebgan_detect.errors import ModelFileError

__all__ = ["read_sealed", "write_atomically", "write_sealed"]

_NO_DIGEST = "0" * 64
UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    SafetensorError,
)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new one.

    The bytes go to a temporary file in the same folder, reach the disk, and then
    take the target's name in one step. A symbolic link stays one: what it leads to is written.

    Parameters
    ----------
    path : path-like
        Target file. Its folder must exist.
    content : bytes
        Whole new content of the file.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written.
    """
    target = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_sealed(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write named tensors and a JSON header as one file with its own digest.

    Parameters
    ----------
    path : path-like
        Target file, replaced atomically.
    tensors : mapping of str to Tensor
        Tensors of any shape and device.
    header : mapping
        Content that JSON can hold. Floats survive exactly.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If the header holds something that JSON cannot.
    """
    # One entry, the digest first in it: the first such run of zeros is the digest's place.
    metadata = {"sealed": json.dumps({"sha256": _NO_DIGEST, "header": header})}
    independent = {
        name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()
    }
    blank = safetensors.torch.save(independent, metadata)
    digest = hashlib.sha256(blank).hexdigest()
    write_atomically(path, blank.replace(_NO_DIGEST.encode(), digest.encode(), 1))


def read_sealed(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by `write_sealed` and check its digest.

    Parameters
    ----------
    path : path-like
        File to read.

    Returns
    -------
    tensors : dict of str to Tensor
        The tensors, on the CPU.
    header : dict
        The JSON header.

    Raises
    ------
    ModelFileError
        If the file is truncated, altered, or of another kind.
    FileNotFoundError
        If there is no such file.
    """
    content = Path(path).read_bytes()
    try:
        size = int.from_bytes(content[:8], "little")
        sealed = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["sealed"])
        digest, header = sealed["sha256"], sealed["header"]
        blank = content.replace(digest.encode(), _NO_DIGEST.encode(), 1)
        intact = hashlib.sha256(blank).hexdigest() == digest
        tensors = safetensors.torch.load(content) if intact else {}
    except UNREADABLE as error:
        raise ModelFileError(
            f"{path} is not a model file of ebgan-detect, or it is truncated; "
            "write it again with save"
        ) from error
    if not intact:
        raise ModelFileError(
            f"{path} does not match the digest stored in it: at least one byte has changed; "
            "restore it from a copy or write it again with save"
        )
    return tensors, header


def _umask() -> int:
    """Read the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

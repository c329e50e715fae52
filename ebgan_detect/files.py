"""Files that are whole or absent: atomic writes, and sealed tensor files.

A sealed file is a safetensors file whose metadata carries a JSON header and the
SHA-256 digest of the file itself, taken with the digest's own 64 characters set
to zero. One flipped bit anywhere in the file is therefore noticed on reading.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ebgan_detect.errors import ModelFileError

__all__ = ["check_writable", "read_sealed", "write_atomically", "write_sealed"]

_NO_DIGEST = "0" * 64
O_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone has it, and needs it
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
    Pipes and devices are written as they are.

    Parameters
    ----------
    path : path-like
        Target file. Its folder must exist.
    content : bytes
        Whole new content of the file.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written; it names `path`.
    """
    if _is_special(Path(path)):
        Path(path).write_bytes(content)
        return
    target = Path(os.path.realpath(path))
    with _named(path), _new_file_beside(target) as (temporary, handle):
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether `write_atomically` can write a file.

    Parameters
    ----------
    path : path-like
        Target file. A new file beside it is made, and removed again.

    Raises
    ------
    OSError
        If it is a folder, or its folder does not exist or cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if _is_special(Path(path)):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return
    with _named(path), _new_file_beside(target) as (temporary, handle):
        os.close(handle)
        temporary.unlink()


def _is_special(target: Path) -> bool:
    """Whether something is there that a file must not replace, such as a pipe."""
    return target.exists() and not target.is_file() and not target.is_dir()


@contextmanager
def _new_file_beside(target: Path) -> Iterator[tuple[Path, int]]:
    """A temporary file in the target's folder and its handle; removed if what follows fails."""
    # Names have an end, of 255 bytes as a rule; a character takes up to four.
    temporary = target.with_name(f".{target.name[:60]}.{uuid4().hex[:8]}")
    # The umask applies; a temporary file of the standard library would be its owner's alone.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | O_BINARY, 0o666)
    try:
        yield temporary, handle
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors name the path that the user gave, not a temporary file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            error.filename, error.filename2 = os.fspath(path), None
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


def read_sealed(
    path: str | os.PathLike[str], remedy: str = "write it again with save"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by `write_sealed` and check its digest.

    Parameters
    ----------
    path : path-like
        File to read.
    remedy : str
        What to do about a file that cannot be read.

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
            f"{path} is not a file of ebgan-detect, or it is truncated; {remedy}"
        ) from error
    if not intact:
        raise ModelFileError(
            f"{path} does not match the digest stored in it: at least one byte has changed; "
            f"restore it from a copy or {remedy}"
        )
    return tensors, header

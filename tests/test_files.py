"""Atomic writes and sealed tensor files."""

import math
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ebgan_detect.errors import ModelFileError
from ebgan_detect.files import check_writable, read_sealed, write_atomically, write_sealed

TENSORS = {"w": torch.tensor([[1.5, -2.0]]), "n": torch.tensor(3)}
HEADER = {"kind": "test", "rate": 0.1}


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "model.ebgan"
    write_sealed(path, TENSORS, HEADER)
    return path


def check_content(path, tensors=TENSORS, header=HEADER):
    found, found_header = read_sealed(path)
    assert found_header == header
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


# --- atomic writes ----------------------------------------------------------------------------


def test_write_atomically_replaces_the_content(tmp_path):
    path = tmp_path / "file"
    for content in (b"first", b"", b"\x00\xff" * 5000):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_write_atomically_writes_into_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(path.read_bytes)
        check_writable(path)
        write_atomically(path, b"content")
        assert reader.result(10) == b"content"
    assert path.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]  # noqa: PTH208


def test_write_atomically_leaves_devices_alone(tmp_path):
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (os.devnull, tmp_path / "link"):
        check_writable(path)
        write_atomically(path, b"content")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)  # noqa: PTH116
    assert (tmp_path / "link").is_symlink()


def test_write_atomically_takes_names_as_long_as_there_are(tmp_path):
    path = tmp_path / ("ü" * 127)
    check_writable(path)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


def test_write_atomically_goes_through_symbolic_links(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "file", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"first", b"second"):  # a link that leads nowhere yet, and one that does
        write_atomically(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert [entry.name for entry in target.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("crash", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
def test_write_atomically_crash_leaves_the_old_file_and_no_litter(
    tmp_path, monkeypatch, crash, step
):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise crash

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(type(crash)):
            write_atomically(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_write_atomically_reaches_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(path.read_bytes()))
    write_atomically(path, b"new")
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("write", [lambda path: write_atomically(path, b""), check_writable])
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("missing/file", FileNotFoundError),
        ("file/file", NotADirectoryError),
        ("folder", IsADirectoryError),
    ],
)
def test_path_that_cannot_be_written_is_named_as_given(tmp_path, monkeypatch, write, name, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(error) as caught:
        write(name)
    assert caught.value.filename == name
    assert caught.value.filename2 is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_check_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    for name in ("file", "new"):
        check_writable(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_write_atomically_new_file_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_write_atomically_leaves_the_umask_alone(tmp_path, monkeypatch):
    """It belongs to all threads: to set it, only to read it, would be a race."""
    monkeypatch.delattr(os, "umask")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file modes")
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o755])
def test_write_atomically_keeps_the_mode_of_an_old_file(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


# --- sealed files -----------------------------------------------------------------------------


def test_sealed_file_returns_what_was_written(tmp_path):
    tensors = {
        "half": torch.tensor([1.0, 2.0]).half(),
        "bfloat": torch.tensor([1.0, 2.0]).bfloat16(),
        "double": torch.tensor(math.pi, dtype=torch.float64),
        "bytes": torch.arange(256).to(torch.uint8),
        "truth": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "channels_last": torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(
            memory_format=torch.channels_last
        ),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    write_sealed(tmp_path / "file", tensors, {})
    check_content(tmp_path / "file", tensors, {})


def test_sealed_file_takes_tensors_that_share_memory(tmp_path):
    whole = torch.arange(6.0)
    write_sealed(tmp_path / "file", {"a": whole, "b": whole, "c": whole[2:4]}, {})
    check_content(tmp_path / "file", {"a": whole, "b": whole, "c": whole[2:4]}, {})


def test_sealed_file_header_survives_exactly(tmp_path):
    header = {
        "floats": [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, math.pi, 1e16 + 2],
        "infinite": [math.inf, -math.inf],
        "text": 'quotes " backslash \\ newline \n Umlaut ü 😀 \u2028',
        "nested": {"a": [1, 2**70, None, True, {"b": []}]},
    }
    write_sealed(tmp_path / "file", TENSORS, header)
    _, found = read_sealed(tmp_path / "file")
    assert found == header
    assert [v.hex() for v in found["floats"]] == [v.hex() for v in header["floats"]]


def test_sealed_file_header_that_json_cannot_hold_raises(tmp_path):
    with pytest.raises(TypeError):
        write_sealed(tmp_path / "file", TENSORS, {"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_sealed_file_header_may_hold_64_zeros(tmp_path):
    # The order of the metadata varies from file to file: try several.
    for _ in range(20):
        write_sealed(tmp_path / "file", TENSORS, {"id": "0" * 64})
        check_content(tmp_path / "file", TENSORS, {"id": "0" * 64})


def test_sealed_file_bytes_depend_on_content_only(tmp_path):
    contents = set()
    for _ in range(20):
        write_sealed(tmp_path / "file", TENSORS, HEADER)
        contents.add((tmp_path / "file").read_bytes())
    assert len(contents) == 1


def test_sealed_file_any_changed_byte_is_noticed(sealed):
    content = sealed.read_bytes()
    check_content(sealed)
    assert len(content) < 1000
    for i in range(len(content)):
        # One flipped bit, and all of them; 0x20 changes the case of a letter in the digest.
        for flip in (0x01, 0x20, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[i] ^= flip
            sealed.write_bytes(damaged)
            with pytest.raises(ModelFileError):
                read_sealed(sealed)
    sealed.write_bytes(content)
    check_content(sealed)


def test_sealed_file_truncated_or_extended_is_noticed(sealed):
    content = sealed.read_bytes()
    lengths = range(len(content))
    for damaged in [*(content[:n] for n in lengths), content + b"\0", content + content]:
        sealed.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            read_sealed(sealed)


def test_sealed_file_damage_is_named(sealed):
    content = bytearray(sealed.read_bytes())
    content[-1] ^= 1
    sealed.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.ebgan does not match the digest"):
        read_sealed(sealed)


def other_kinds():
    import io
    import json
    import zipfile

    import numpy as np
    import safetensors.torch

    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.ones(3))
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("a", "b")

    def framed(value):
        text = json.dumps(value).encode()
        return len(text).to_bytes(8, "little") + text

    return {
        "empty": b"",
        "text": b"model: ebgan\n" * 20,
        "json": b'{"__metadata__": {"sha256": "", "header": "{}"}}',
        "numpy": array.getvalue(),
        "zip": archive.getvalue(),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "zeros": bytes(1000),
        "ones": b"\xff" * 1000,
        "plain safetensors": safetensors.torch.save(TENSORS),
        "safetensors with metadata": safetensors.torch.save(TENSORS, {"format": "pt"}),
        "no digest": safetensors.torch.save(TENSORS, {"header": "{}"}),
        "empty digest": safetensors.torch.save(TENSORS, {"header": "{}", "sha256": ""}),
        "no json": safetensors.torch.save(TENSORS, {"header": "}", "sha256": "0" * 64}),
        "list": framed([1, 2]),
        "number": framed(3),
        "metadata list": framed({"__metadata__": [1]}),
        "metadata null": framed({"__metadata__": None}),
        "digest number": framed({"__metadata__": {"sha256": 3, "header": "{}"}}),
        "header number": framed({"__metadata__": {"sha256": "0", "header": 3}}),
    }


@pytest.mark.parametrize("kind", other_kinds())
def test_read_sealed_of_another_kind_of_file_raises(tmp_path, kind):
    path = tmp_path / "other.bin"
    path.write_bytes(other_kinds()[kind])
    with pytest.raises(ModelFileError, match=r"other\.bin"):
        read_sealed(path)


def test_read_sealed_of_deeply_nested_json_raises(tmp_path):
    path = tmp_path / "deep"
    path.write_bytes((10**6).to_bytes(8, "little") + b"[" * 10**6)
    with pytest.raises(ModelFileError):
        read_sealed(path)


def test_read_sealed_of_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "missing")
